"""Small pictures that a network can tell apart, as files."""

from pathlib import Path

import numpy as np
from PIL import Image


def write_images(folder: Path, seed: int = 0) -> str:
    """Four classes that differ in brightness, as a dataset."""
    rng = np.random.default_rng(seed)
    for split, count in (("train", 12), ("test", 4)):
        for level, name in enumerate("abcd"):
            (folder / split / name).mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(60 * level, 60 * level + 70, (32, 32, 3), np.uint8)
                Image.fromarray(pixels).save(folder / split / name / f"{i}.png")
    return f"folder:{folder}"
