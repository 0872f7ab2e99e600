"""Decoded image → the trunk's input, except for the normalisation, which the trunk does on its device.

Legend: H×W pixels of the image, S = image_px.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from PIL import Image

from pipeline.errors import DataError

VERSION = 2
"""Part of every cache's identity; raise it when a change here or in the decoding changes a pixel."""

Resize = Literal["exact", "shorter-side-then-center-crop", "squash"]
Interpolation = Literal["nearest", "bilinear", "bicubic", "box", "hamming", "lanczos"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Transform:
    """The input that a trunk takes."""

    image_px: int
    """Side S of the square input."""
    resize: Resize = "shorter-side-then-center-crop"
    """How an image of another size is treated: `exact` refuses it, `squash` distorts it to a square."""
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    """Per channel, like the mean, of values in 0..1."""
    interpolation: Interpolation = "bicubic"
    """How pixels are computed; all but `nearest` antialias."""
    crop_share: float = 1.0
    """Share of the shorter side, or of both when squashed, that is kept, in the middle."""

    def apply(self, image_HWC: np.ndarray) -> np.ndarray:
        """(H, W, 3) uint8 → (3, S, S) uint8, contiguous. An image of S×S passes unchanged if all is kept.

        Others are resized to S×S, whole or the square in their centre. Only the part that is kept is resized:
        the middle of a strip of 1×20,000 pixels.

        Raises: DataError for another size when `resize` is "exact".
        """
        height, width, _ = image_HWC.shape
        size = self.image_px
        if self.resizes(height, width):
            box = self.kept(height, width)
            method = Image.Resampling[self.interpolation.upper()]
            image = Image.fromarray(image_HWC).resize((size, size), method, box)
            image_HWC = np.asarray(image)
        return np.ascontiguousarray(image_HWC.transpose(2, 0, 1))

    def resizes(self, height: int, width: int) -> bool:
        """Whether an image of this size becomes another one."""
        is_input = (height, width) == (self.image_px, self.image_px)
        return not is_input or (self.crop_share < 1 and self.resize != "exact")

    def kept(self, height: int, width: int) -> tuple[float, float, float, float]:
        """(left, top, right, bottom) of the part of an image that becomes the input."""
        if self.resize == "exact" and (height, width) != (self.image_px, self.image_px):
            raise DataError(f"expected {self.image_px} x {self.image_px} pixels, found {width} x {height}")
        short = min(height, width)
        if self.crop_share == 1:
            if self.resize == "squash":
                return 0, 0, width, height
            left, top = (width - short) / 2, (height - short) / 2
            return left, top, left + short, top + short
        # As torchvision and timm do it: whole pixels of the resized image, whose middle is then cut out.
        side = round(self.image_px / self.crop_share)
        wide, high = int(side * width / short), int(side * height / short)
        if self.resize == "squash":
            wide, high = side, side
        left, top = round((wide - self.image_px) / 2), round((high - self.image_px) / 2)
        right, bottom = left + self.image_px, top + self.image_px
        return left * width / wide, top * height / high, right * width / wide, bottom * height / high

    def as_json(self) -> dict[str, Any]:
        """The fields and the code's version, for a cache's identity; of later fields, what differs from the
        defaults."""
        fields = {
            "version": VERSION,
            **dataclasses.asdict(self),
            "mean": list(self.mean),
            "std": list(self.std),
        }
        late = {"interpolation": "bicubic", "crop_share": 1.0}
        return {name: value for name, value in fields.items() if late.get(name) != value}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> "Transform":
        """The transform that `as_json` described."""
        known: dict[str, Any] = {name: value for name, value in fields.items() if name != "version"}
        known |= {name: tuple(known[name]) for name in ("mean", "std")}
        return cls(**known)
