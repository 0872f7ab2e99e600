"""The one interface of all trunks."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.images.transform import Transform


@dataclasses.dataclass(frozen=True)
class Trunk:
    """A frozen network: module(normalised images (B, 3, S, S)) → maps (B, C, H, W).

    `version` counts the changes of the code that change what the module computes: it is part of a cache's
    identity, as are the transform and the weights' digest.
    """

    name: str
    version: int
    module: nn.Module
    transform: Transform
    weights_sha256: str
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """What else decides the maps: the layer, the library with its version, the digest of your own code."""

    def __post_init__(self) -> None:
        self.module.eval()  # training sets it otherwise, an epoch at a time

    def as_json(self) -> dict[str, Any]:
        """What decides the maps besides the transform, for a cache's identity."""
        return {"name": self.name, "version": self.version, "weights": self.weights_sha256, **self.facts}


def scale_and_shift(transform: Transform, device: torch.device) -> tuple[Tensor, Tensor]:
    """(x/255 − mean) / std as one multiply and one add: scale and shift, (1, 3, 1, 1) each."""
    mean = torch.tensor(transform.mean, device=device).view(1, 3, 1, 1)
    std = torch.tensor(transform.std, device=device).view(1, 3, 1, 1)
    return 1 / (255 * std), -mean / std


def normalise(images: Tensor, transform: Transform) -> Tensor:
    """uint8 (B, 3, S, S) → float32 of mean 0 and deviation 1 over the data the transform was made for."""
    scale, shift = scale_and_shift(transform, images.device)
    return torch.addcmul(shift, images.float(), scale)
