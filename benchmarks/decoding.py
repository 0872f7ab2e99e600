"""Decoding of photos of 500×375 pixels in two threads, against Pillow's plain way and torchvision's.

    python -m benchmarks.decoding [--quick]

    ours            pipeline.images.decode.decode
    Pillow          Image.open, exif_transpose and np.asarray: how photos were decoded before simplejpeg
    torchvision     torchvision.io.decode_image, to a tensor (3, H, W)

The third line adds the resizing to 224×224 pixels of a trunk's transform, which is the same on both sides and
takes longer than the decoding. The last line is what is left of it where a GPU resizes: cutting out what the
resizing reads, against resizing. Photos are made: smooth noise at several scales and some grain, JPEG of
quality 90, about 80 kB each as in PASCAL VOC. Sides take turns, the best of each counts, and all have to give
the same pixels.
"""

import io
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torchvision.io import decode_image

from benchmarks.alone import main, row
from pipeline.images.cut import Cut, cut
from pipeline.images.decode import decode
from pipeline.images.on_device import Cuts
from pipeline.images.pillow import hush
from pipeline.images.transform import Transform

HEIGHT, WIDTH = 375, 500
THREADS = 2
TRANSFORM = Transform(image_px=224, mean=(0, 0, 0), std=(1, 1, 1))


def run(quick: bool) -> list[dict[str, Any]]:
    """Rows of name, ours, theirs, ratio, target, unit."""
    hush()
    photos = [make_photo(seed) for seed in range(16)]
    repeats = 3 if quick else 60
    size = f"{len(photos)} photos of {WIDTH}×{HEIGHT}, {THREADS} threads"
    plain = compare(photos, repeats, by_simplejpeg, by_pillow, by_torchvision)
    resized = compare(photos, repeats, lambda p: resize(by_simplejpeg(p)), lambda p: resize(by_pillow(p)))
    cuts = compare(photos, repeats, cut_out, lambda p: resize(by_simplejpeg(p)), made=made_of)
    return [
        row(f"decoding {size}, against Pillow", plain[0], plain[1], 1.7, "s"),
        row(f"decoding {size}, against torchvision", plain[0], plain[2], 1.0, "s"),
        row(f"decoding and resizing {size}, against Pillow", resized[0], resized[1], 1.0, "s"),
        row(f"decoding and cutting {size}, against resizing", cuts[0], cuts[1], 2.0, "s"),
    ]


def by_simplejpeg(photo: bytes) -> np.ndarray:
    return decode(photo, "photo")


def by_pillow(photo: bytes) -> np.ndarray:
    image = Image.open(io.BytesIO(photo))
    ImageOps.exif_transpose(image, in_place=True)
    return np.asarray(image)


def by_torchvision(photo: bytes) -> np.ndarray:
    pixels_CHW = decode_image(torch.frombuffer(bytearray(photo), dtype=torch.uint8))
    return pixels_CHW.permute(1, 2, 0).numpy()


def resize(pixels_HWC: np.ndarray) -> np.ndarray:
    return TRANSFORM.apply(pixels_HWC)


def cut_out(photo: bytes) -> Cut:
    return cut(by_simplejpeg(photo), TRANSFORM)


def made_of(found: np.ndarray | Cut) -> np.ndarray:
    """The pixels (3, S, S) that a device makes of a cut; others are what they are."""
    return Cuts([found], TRANSFORM).on(torch.device("cpu")).numpy()[0] if isinstance(found, Cut) else found


def compare(
    photos: list[bytes],
    repeats: int,
    *sides: Callable[[bytes], Any],
    made: Callable[[Any], np.ndarray] = np.asarray,
) -> list[float]:
    """The best seconds of each side for all photos; asserts that all give the same pixels, once `made`."""
    seconds: list[list[float]] = [[] for _ in sides]
    with ThreadPoolExecutor(THREADS) as pool:
        for photo in photos:
            first, *others = (made(side(photo)) for side in sides)
            assert all(np.array_equal(first, other) for other in others), "other pixels"
        for _ in range(repeats):
            for taken, side in zip(seconds, sides, strict=True):
                started = time.perf_counter()
                list(pool.map(side, photos))
                taken.append(time.perf_counter() - started)
    return [min(taken) for taken in seconds]


def make_photo(seed: int) -> bytes:
    """A JPEG file of the density of a photograph."""
    rng = np.random.default_rng(seed)
    pixels_HWC = rng.normal(128, 7, (HEIGHT, WIDTH, 1)).astype(np.float32).repeat(3, axis=2)
    for cells, contrast in ((3, 120), (9, 90), (30, 60), (100, 40), (250, 20)):
        coarse = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), np.uint8))
        smooth = coarse.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
        pixels_HWC += (np.asarray(smooth, np.float32) / 255 - 0.5) * contrast
    Image.fromarray(pixels_HWC.clip(0, 255).astype(np.uint8)).save(file := io.BytesIO(), "JPEG", quality=90)
    return file.getvalue()


if __name__ == "__main__":
    main(run)
