"""Memory for gradients that is reused from step to step.

An optimizer that is done with a gradient drops it, and memory of more than 32 MB goes back to the system. The
next step gets fresh pages, which costs as much as the product that fills them. So the optimizer leaves the
used gradient with its parameter, and a backward pass that can write into given memory takes it from there.
A gradient has one owner at any time: once taken, it is gone until another is left.
"""

import torch
from torch import Tensor

_SPARE = "spare_gradient"


def drop_gradient(parameter: Tensor) -> None:
    """Set the gradient to None. Its memory is kept if `empty_gradient` ever asked for it."""
    if hasattr(parameter, _SPARE):
        setattr(parameter, _SPARE, parameter.grad)
    parameter.grad = None


def empty_gradient(parameter: Tensor) -> Tensor:
    """An uninitialised tensor like the parameter, in the dropped gradient's memory if there is one."""
    spare: Tensor | None = getattr(parameter, _SPARE, None)
    setattr(parameter, _SPARE, None)
    if spare is None or (spare.dtype, spare.device) != (parameter.dtype, parameter.device):
        return torch.empty_like(parameter)
    return spare
