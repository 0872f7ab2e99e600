"""What each of several workers on one machine takes of it."""

import os
from pathlib import Path

from pipeline.engines.processes import cores


def share_machine(at: int, count: int) -> None:
    """Take this process's share of the cores, and one of the GPUs, before torch is loaded.

    at: which of the `count` processes it is.
    """
    os.environ.update(shared_cores(count))
    gpus = _gpus()
    if len(gpus) > 1:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus[at % len(gpus)]


def shared_cores(count: int) -> dict[str, str]:
    """The environment of one of `count` processes that share this one's cores."""
    threads = max(1, cores() // count)
    given = os.environ.get("OMP_NUM_THREADS", "")
    return {
        "LOKY_MAX_CPU_COUNT": str(threads),  # what `cores` gives there
        "OMP_NUM_THREADS": str(min(threads, int(given)) if given.isdecimal() else threads),
    }


def _gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name for name in visible.split(",") if name.strip()]
    folder = Path("/proc/driver/nvidia/gpus")
    return [str(at) for at, _ in enumerate(folder.iterdir())] if folder.is_dir() else []
