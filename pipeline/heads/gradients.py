"""Memory for gradients that is used again from step to step.

An optimizer that is done with a gradient drops it, and what is larger than 32 MB goes back to the system. The
next step gets fresh pages, which costs as much as the product that fills them. So the optimizer leaves the
used gradient with its parameter, and a backward pass that can write into given memory takes it from there.
A gradient has one owner at any time: whoever takes it finds nothing the next time until another is left.
"""

import torch
from torch import Tensor

_SPARE = "spare_gradient"


def drop_gradient(parameter: Tensor) -> None:
    """As `parameter.grad = None`. The memory is kept if `empty_gradient` was ever asked for it."""
    if hasattr(parameter, _SPARE):
        setattr(parameter, _SPARE, parameter.grad)
    parameter.grad = None


def empty_gradient(parameter: Tensor) -> Tensor:
    """A tensor like the parameter, with anything in it: the dropped gradient's, if there is one."""
    spare: Tensor | None = getattr(parameter, _SPARE, None)
    setattr(parameter, _SPARE, None)
    if spare is None or (spare.dtype, spare.device) != (parameter.dtype, parameter.device):
        return torch.empty_like(parameter)
    return spare
