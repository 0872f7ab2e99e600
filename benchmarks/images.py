"""JPEG files for the benchmarks: a folder dataset of 32×32 images, smooth and noisy as photographs are."""

from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = 4


def make_jpegs(folder: Path, images: int, tests: int = CLASSES, marks: float = 0.0) -> Path:
    """FOLDER/train/CLASS/*.jpg, and `tests` images in FOLDER/test. `marks`: the share of a pattern of their
    class that images show."""
    rng, patterns = np.random.default_rng(0), np.random.default_rng(1).integers(0, 256, (CLASSES, 6, 6, 3))
    for split, count in (("train", images), ("test", tests)):
        for i in range(count):
            place = folder / split / f"{i % CLASSES}"
            place.mkdir(parents=True, exist_ok=True)
            drawn = rng.integers(0, 256, (6, 6, 3), np.uint8)
            coarse = Image.fromarray(np.uint8((1 - marks) * drawn + marks * patterns[i % CLASSES]))
            pixels = np.asarray(coarse.resize((32, 32), Image.Resampling.BICUBIC)).astype(np.int16)
            pixels += rng.integers(-12, 13, pixels.shape, np.int16)
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(place / f"{i:06}.jpg", quality=90)
    return folder
