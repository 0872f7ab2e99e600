"""Where and how precisely to compute, and how much memory is free there."""

import os

import torch
from torch.backends import cudnn

from pipeline.errors import ConfigError

AUTO = ("cuda", "mps", "cpu")
"""What --device auto takes, in this order, if it is there."""


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


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 products are worth asking for: on a GPU, or a CPU with AVX512-BF16 or AMX."""
    if device.type != "cpu":
        return device.type == "cuda" and torch.cuda.is_bf16_supported()
    capabilities = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def free_bytes(device: torch.device) -> int:
    """Memory that is free on the GPU, or on the machine."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:
            found = next(line for line in lines if line.startswith("MemAvailable:"))
        return int(found.split()[1]) * 1024
    except (OSError, StopIteration):  # not Linux: take half of what is installed to be free
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
