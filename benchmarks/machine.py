"""What a benchmark ran on: the machine, the libraries, and what else the processors had to do meanwhile."""

import os
import platform
import subprocess
import time
from importlib.metadata import version
from pathlib import Path

LIBRARIES = "torch", "numpy", "h5py"


def machine() -> str:
    """Processor, cores, memory and GPU, as the name of this kind of machine."""
    cpu = next((line.split(":")[1].strip() for line in _lines("/proc/cpuinfo") if "model name" in line), "")
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    parts = [cpu or platform.processor() or platform.machine(), f"{cores} cores", f"{memory:.0f} GiB"]
    return ", ".join([*parts, *_gpus()])


def libraries() -> str:
    """Python and what computes, with their versions."""
    return ", ".join([f"Python {platform.python_version()}", *(f"{x} {version(x)}" for x in LIBRARIES)])


def commit() -> str:
    """The commit of the code, with a + where files differ from it; empty without git."""
    root = Path(__file__).parents[1]
    try:
        said = subprocess.run(
            ["git", "describe", "--always", "--abbrev=10", "--exclude=*", "--dirty=+"],
            cwd=root, capture_output=True, text=True, check=True,
        )  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        return ""
    return said.stdout.strip()


class Others:
    """Counts the cores that other processes keep busy, from its making on."""

    def __init__(self) -> None:
        self.before, self.own, self.at = _busy_seconds(), sum(os.times()[:4]), time.monotonic()

    def cores(self) -> float | None:
        """The mean so far; None where the system doesn't say. Children count as own once they have ended."""
        busy, seconds = _busy_seconds(), time.monotonic() - self.at
        if busy is None or self.before is None:
            return None
        own = sum(os.times()[:4]) - self.own
        return round(max(0.0, (busy - self.before - own) / max(seconds, 1e-3)), 2)


def _busy_seconds() -> float | None:
    """Of all cores together, since the system began; time stolen by a host counts."""
    for line in _lines("/proc/stat"):
        user, nice, system, _idle, _wait, *others = map(int, line.split()[1:9])
        return (user + nice + system + sum(others)) / os.sysconf("SC_CLK_TCK")
    return None


def _gpus() -> list[str]:
    asked = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.splitlines()
    except (OSError, subprocess.CalledProcessError):
        return []


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
