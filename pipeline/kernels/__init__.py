"""Custom kernels in Triton for a GPU's work between matrix products. In and out: tensors on the GPU.

Torch's Linux builds for GPUs bring Triton. Each kernel has an equivalent in plain torch for all other
devices, and is tested to be equal to it: on a GPU if there is one, else in Triton's interpreter on a CPU. A
step of a small head is a few dozen kernels of one or two microseconds each; these make a third of them.
"""

import subprocess
import sys
from functools import cache
from importlib.util import find_spec

import torch
from torch import Tensor

FLOATS = (torch.float32, torch.bfloat16, torch.float16)
OLDEST = (7, 0)
"""The oldest compute capability that Triton compiles for."""


def usable(*tensors: Tensor) -> bool:
    """Whether the kernels take these tensors: numbers of at most 32 bits on a GPU, where Triton works."""
    return all(t.is_cuda and t.dtype in FLOATS for t in tensors) and triton_works()


@cache
def triton_works() -> bool:
    """Whether Triton is there and compiles for this GPU. If not, a line says why."""
    if reason := _why_not():
        print(f"Triton can't be used here ({reason}); heads train by plain torch, slower", file=sys.stderr)
    return not reason


def _why_not() -> str:
    if find_spec("triton") is None:
        return "it is not installed"
    if (capability := torch.cuda.get_device_capability()) < OLDEST:
        found, least = (".".join(map(str, each)) for each in (capability, OLDEST))
        return f"the GPU's compute capability is {found}, and {least} the least it takes"
    try:
        _compile_one()
    except (ImportError, OSError, RuntimeError, subprocess.SubprocessError) as error:
        return (str(error).strip() or type(error).__name__).splitlines()[0]
    return ""


def _compile_one() -> None:
    from pipeline.kernels.cross_entropy import MeanCrossEntropy

    labels = torch.zeros(1, dtype=torch.int64, device="cuda")
    MeanCrossEntropy.apply(torch.zeros(1, 1, 2, device="cuda"), labels)
