"""Where and how precisely to compute, and how much memory is free there."""

import contextlib
import ctypes
import os
import resource
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from torch.backends import cudnn

from pipeline.errors import ConfigError

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""Names of mallopt's settings, in glibc's malloc.h."""
AUTO = ("cuda", "mps", "cpu")
"""What --device auto takes, in this order, if it is there."""
SMALL_PX = 160
"""The side of images that a layer takes less than a millisecond for."""
PROC, CGROUPS = Path("/proc"), Path("/sys/fs/cgroup")
GROUP_FILES = {
    "memory": ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    "": ("", "memory.max", "memory.current", "inactive_file"),
}
"""Version 1 and 2 of Linux's control groups: controllers in /proc/self/cgroup → the folder where groups lie,
their files for the limit and for what is taken, and the line of memory.stat with idle file pages."""


def pick_device(name: str) -> torch.device:
    """The device that --device names. Raises: ConfigError when it is not there."""
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(device for device in AUTO if there[device])
    if not there[name]:
        found = ", ".join(device for device, available in there.items() if available)
        raise ConfigError(f"--device: {name} is not there; this machine has {found}")
    return torch.device(name)


def set_up(device: torch.device, *, tf32: bool) -> None:
    """Choose how a GPU computes in float32, for the whole process: with TF32, or exactly and repeatably.

    tf32: products of 10-bit mantissas, several times as fast. Without it, convolutions also give
    the same bits every time.
    """
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high" if tf32 else "highest")
        cudnn.allow_tf32, cudnn.deterministic = tf32, not tf32


@contextlib.contextmanager
def float32_products(device: torch.device, *, tf32: bool) -> Iterator[None]:
    """Let a GPU compute float32 with TF32, or exactly, and afterwards as before."""
    before = torch.get_float32_matmul_precision(), cudnn.allow_tf32, cudnn.deterministic
    set_up(device, tf32=tf32)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        _, cudnn.allow_tf32, cudnn.deterministic = before


def keep_freed_memory() -> None:
    """Let this process keep the memory that it frees, for what it asks for next, until it ends.

    glibc gives large pieces back at once, and the system clears every page of the next one. Training that
    makes the same tensors in each step is a quarter faster without (LOG.md). Does nothing on other systems.
    """
    with contextlib.suppress(OSError, AttributeError):  # another C library
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, -1)


@contextlib.contextmanager
def threads_for(image_px: int) -> Iterator[None]:
    """Run single images through a network on the CPU: small ones by one thread, for several would wait for
    each other longer than they compute, on a busy machine ten times as long."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1 if image_px <= SMALL_PX else threads)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def products(precision: str, device: torch.device, *, tf32: bool) -> str:
    """What --precision means within `float32_products`: the name of what matrix products are computed in."""
    on_gpu = tf32 and device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)
    return "TF32" if on_gpu and precision == "float32" else precision


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 products are worth asking for: on a GPU, or a CPU with AVX512-BF16 or AMX."""
    if device.type != "cpu":
        return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def free_bytes(device: torch.device) -> int:
    """Memory that this process can still have on the GPU, or on the machine: what is free there, within the
    limits of its control groups (containers, batch systems) and of its address space (`ulimit -v`)."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return max(0, min(_free_on_machine(), *_free_in_groups(), _free_addresses()))


def _free_on_machine() -> int:
    try:
        return _fields(PROC / "meminfo")["MemAvailable:"] * 1024
    except (OSError, KeyError):  # not Linux: take half of what is installed to be free
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2


def _free_in_groups() -> Iterator[int]:
    """What is free in each control group with a limit, from the process's own to the outermost.

    The system gives back a group's file pages before it refuses memory, so idle ones count as free.
    """
    try:
        lines = (PROC / "self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, place = line.split(":", 2)
        if controllers in GROUP_FILES:
            root, limit, used, idle = GROUP_FILES[controllers]
            for group in (Path(place), *Path(place).parents):  # as seen in a container, some may be missing
                folder = CGROUPS / root / group.relative_to("/")
                with contextlib.suppress(OSError, ValueError, KeyError):  # "max": none
                    most, taken = (int((folder / name).read_text()) for name in (limit, used))
                    yield most - taken + _fields(folder / "memory.stat")[idle]


def _free_addresses() -> int:
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    try:
        taken = int((PROC / "self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        taken = 0
    return sys.maxsize if limit == resource.RLIM_INFINITY else limit - taken


def _fields(path: Path) -> dict[str, int]:
    """The lines of a file as NAME NUMBER. Raises: OSError."""
    return {words[0]: int(words[1]) for words in map(str.split, path.read_text().splitlines())}
