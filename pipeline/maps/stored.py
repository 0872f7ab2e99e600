"""Maps as a cache stores them, as tensors; and what they stand for."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cache import Scales
from cache.dtypes import Raw
from pipeline.errors import RunError


def to_tensor(raw: Raw, dtype: str) -> Tensor:
    """A tensor on the memory of maps from a cache of this dtype, which gives bfloat16 as its bits."""
    maps = torch.from_numpy(raw)
    return maps.view(torch.bfloat16) if dtype == "bfloat16" else maps


def decoded(maps: Tensor, scales: Scales | None) -> Tensor:
    """What maps (…, C, H, W) as they are stored stand for, on their device; of int8 as float32."""
    if scales is None:
        return maps
    scale, zero = torch.tensor(scales[:, :, None, None], device=maps.device)
    return maps.float().sub_(zero).mul_(scale)


def to_raw(maps: Tensor) -> Raw:
    """A cache's array on the memory of a tensor: the other way round."""
    return (maps.view(torch.uint16) if maps.dtype == torch.bfloat16 else maps).numpy()


def scales_json(scales: Scales | None) -> dict[str, Any]:
    """What config.json says of the scales of a run's maps, if they have some."""
    if scales is None:
        return {}
    return {"cache_scales": {"scale": scales[0].tolist(), "zero_point": scales[1].tolist()}}


def scales_in(described: Mapping[str, Any], folder: Path) -> Tensor | None:
    """(2, C, 1, 1), the scales of the maps that a run was trained on, as its config.json says; None if these
    aren't int8. Raises: RunError."""
    if described["cache_identity"].get("dtype") != "int8":
        return None
    try:
        said = described["cache_scales"]
        return torch.tensor([said["scale"], said["zero_point"]], dtype=torch.float32)[:, :, None, None]
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(
            f"{folder}: config.json doesn't say the scales of the int8 maps that the head was trained on; "
            "train it again"
        ) from error


def rounded(maps: Tensor, scales: Tensor) -> Tensor:
    """What the numbers of int8 maps stand for that these maps (…, C, H, W), float32, would be stored as."""
    scale, zero = scales[0], scales[1]
    return (((maps / scale).round() + zero).clamp(-128, 127) - zero) * scale
