"""From a decoded image to the trunk's input, up to the normalisation, which the trunk does on its device.

Legend: H×W pixels of the image, S = image_px.
"""

import dataclasses
from typing import Any, Literal

import numpy as np
from PIL import Image

from pipeline.errors import DataError

VERSION = 1
"""Part of every cache's identity. Raise it when a change here, in `pipeline.images` or in `pipeline.jpeg`
moves a pixel."""

Resize = Literal["exact", "shorter-side-then-center-crop"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Transform:
    """What a trunk wants to see."""

    image_px: int
    """Side S of the square input."""
    resize: Resize = "shorter-side-then-center-crop"
    """What becomes of an image of another size: `exact` refuses it."""
    mean: tuple[float, float, float]
    """Per channel, of values in 0..1."""
    std: tuple[float, float, float]
    """Per channel, of values in 0..1."""

    def apply(self, image_HWC: np.ndarray) -> np.ndarray:
        """(H, W, 3) uint8 → (3, S, S) uint8, contiguous. An image of S×S passes unchanged.

        Any other has its shorter side resized to S (bicubic, antialiased) and the centre of the longer one
        kept. Only what is kept is resized: a strip of 1×20,000 pixels costs no more than its middle.

        Raises: DataError for another size when `resize` is "exact".
        """
        height, width, _ = image_HWC.shape
        size = self.image_px
        if (height, width) != (size, size):
            if self.resize == "exact":
                raise DataError(f"expected {size} x {size} pixels, found {width} x {height}")
            short = min(height, width)
            left, top = (width - short) / 2, (height - short) / 2
            box = (left, top, left + short, top + short)
            image = Image.fromarray(image_HWC).resize((size, size), Image.Resampling.BICUBIC, box)
            image_HWC = np.asarray(image)
        return np.ascontiguousarray(image_HWC.transpose(2, 0, 1))

    def as_json(self) -> dict[str, Any]:
        """The fields and the code's version, for a cache's identity."""
        fields = dataclasses.asdict(self)
        return {"version": VERSION, **fields, "mean": list(self.mean), "std": list(self.std)}
