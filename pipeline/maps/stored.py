"""Maps as a cache stores them, as tensors; and what they stand for."""

import torch
from torch import Tensor

from cache import Scales
from cache.dtypes import Raw


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
