"""What each of several workers on one machine takes of it."""

import os
import sys
from pathlib import Path

from pipeline.engines.processes import cores

CPU, GPU = "TENCROP_SHARERS", "TENCROP_GPU_SHARERS"
"""Variables of a worker: how many share this machine's memory, and how many this one's GPU."""


def share_machine(at: int, count: int) -> None:
    """Take this process's share of the cores, and one of the GPUs, before torch is loaded.

    at: which of the `count` processes it is.
    """
    if CPU in os.environ:  # done for an earlier task
        return
    there = gpus()
    os.environ.update(share_of(count))
    if len(there) > 1:
        os.environ["CUDA_VISIBLE_DEVICES"] = there[at % len(there)]


def share_of(count: int) -> dict[str, str]:
    """The environment of one of `count` processes that share what this one has."""
    threads = max(1, cores() // count)
    given = os.environ.get("OMP_NUM_THREADS", "")
    return {
        "LOKY_MAX_CPU_COUNT": str(threads),  # what `cores` gives there
        "OMP_NUM_THREADS": str(min(threads, int(given)) if given.isdecimal() else threads),
        CPU: str(count),
        GPU: str(-(-count // max(1, len(gpus())))),
    }


def module_paths() -> str:
    """Where this process finds modules, as PYTHONPATH: the folder of a script in it, and this project."""
    return os.pathsep.join(path for path in sys.path if path)


def sharers(device_type: str) -> int:
    """How many workers, this one included, share the memory of its machine, or that of its GPU."""
    return int(os.environ.get(GPU if device_type == "cuda" else CPU, 1))


def gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name for name in visible.split(",") if name.strip()]
    folder = Path("/proc/driver/nvidia/gpus")
    return [str(at) for at, _ in enumerate(folder.iterdir())] if folder.is_dir() else []
