"""Choose the precision of a trunk's forward pass: half precision on a GPU, where the trunk's maps bear it."""

import copy

import torch
from torch import Tensor, nn

from pipeline.errors import out_of_memory
from pipeline.trunks.base import Trunk

HALF_TOLERANCE = 4e-3
"""How far a map in half precision may be off, as a fraction of its largest value."""
IMAGES = 8


def choose_precision(trunk: Trunk, device: torch.device) -> str:
    """float16 on a GPU if maps of a few images agree with those in float32, which it is everywhere else.

    A network whose values leave the range of half precision (65,504), or cancel each other, would otherwise
    be found out when its cache is compared with it, after all images.
    """
    if device.type != "cuda":
        return "float32"
    worst = difference(trunk, device, torch.float16)
    if worst <= HALF_TOLERANCE:
        return "float16"
    print(f"trunk {trunk.name}: computed in float32, since its maps differ by {worst:.1g} in float16")
    return "float32"


@torch.inference_mode()
def difference(trunk: Trunk, device: torch.device, dtype: torch.dtype) -> float:
    """The largest difference of a map computed in this dtype from that in float32, as a fraction of the
    map's largest value; infinite where they aren't numbers, or the device can't compute them.

    The images are noise at every scale, from single pixels to one value for all.
    """
    module, side = copy.deepcopy(trunk.module).eval().to(device), trunk.transform.image_px
    images = noise(IMAGES, side).to(device)
    try:
        expected, found = _maps(module, images), _maps(module.to(dtype), images.to(dtype))
    except RuntimeError as error:
        if out_of_memory(error):
            raise
        return float("inf")
    worst = 0.0
    for a, b in zip(expected, found, strict=True):
        of_each = (a - b.float()).abs().flatten(1).amax(1) / a.abs().flatten(1).amax(1).clamp(min=1e-6)
        worst = max(worst, float(of_each.nan_to_num(torch.inf).max()))
    return worst


def noise(count: int, side: int) -> Tensor:
    """Normalised images (count, 3, side, side) of noise with large and small patches, the same each time."""
    generator = torch.Generator().manual_seed(0)
    images = torch.zeros(count, 3, side, side)
    for cells in (1, 4, 16, side):
        patches = torch.randn(count, 3, cells, cells, generator=generator)
        images += nn.functional.interpolate(patches, size=(side, side))
    return images.div_(2)


def _maps(module: nn.Module, images: Tensor) -> list[Tensor]:
    maps = module(images)
    return [maps] if isinstance(maps, Tensor) else list(maps)
