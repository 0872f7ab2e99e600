"""Kernels in Triton for what a GPU does between matrix products. Torch's Linux builds for GPUs bring Triton.

Each has a twin in plain torch, which everything else runs, and is tested to be equal to it: on a GPU if there
is one, in Triton's interpreter on a CPU if not. A step of a small head is a few dozen kernels of one or two
microseconds each; these make a third of them.
"""

from functools import cache
from importlib.util import find_spec

import torch
from torch import Tensor

FLOATS = (torch.float32, torch.bfloat16, torch.float16)


def usable(*tensors: Tensor) -> bool:
    """Whether these tensors are for the kernels: numbers of at most 32 bits on a GPU that Triton knows."""
    return all(t.is_cuda and t.dtype in FLOATS for t in tensors) and _triton_is_there()


@cache
def _triton_is_there() -> bool:
    # Triton compiles for compute capability 7.0 and later, as torch's own compiler asks for.
    return find_spec("triton") is not None and torch.cuda.get_device_capability()[0] >= 7
