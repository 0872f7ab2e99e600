"""Images of a store that answers slowly: fetched and decoded ahead, against one after the other, and a disk.

    python -m benchmarks.remote [--quick]

    ours     the digests and pixels of all images of a folder in a store, as extraction reads them
    theirs   the same requests one after the other, as a loop over the files does; or the same files on a disk

The store is a folder behind fsspec whose every request takes 20 or 50 ms. It stands for an object store, or
for a network file system that is mounted: file:// URLs are read ahead as well. Listing is timed with the
images. Both sides have to give the same digests and pixels.
"""

import os
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
from fsspec.implementations.local import LocalFileSystem

from benchmarks.alone import main
from benchmarks.images import make_jpegs
from pipeline.datasets.base import ImageSplit, open_dataset
from pipeline.images.blocks import decode_blocks
from pipeline.images.pool import Decoders
from pipeline.images.transform import Transform

TRANSFORM = Transform(image_px=32, mean=(0, 0, 0), std=(1, 1, 1))


class SlowStore(LocalFileSystem):
    """Files of a disk, of which every request takes some milliseconds."""

    protocol = "slow"
    seconds = 0.02

    def cat_file(self, path: str, *args: Any, **kwargs: Any) -> Any:
        time.sleep(self.seconds)
        return super().cat_file(path, *args, **kwargs)

    def ls(self, path: str, *args: Any, **kwargs: Any) -> list[Any]:
        time.sleep(self.seconds)
        with os.scandir(path) as found:  # its own asks for each file once more
            return [super(SlowStore, self).info(entry) for entry in found]

    def info(self, path: str, **kwargs: Any) -> dict[str, Any]:
        time.sleep(self.seconds)
        return super().info(path, **kwargs)


def run(quick: bool) -> list[dict[str, Any]]:
    """Rows of name, ours, theirs, ratio, target, unit."""
    fsspec.register_implementation("slow", SlowStore, clobber=True)
    images, looped = (512, 64) if quick else (4096, 256)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        photos = make_jpegs(Path(folder) / "photos", images)
        near, expected = read(f"folder:{photos}")
        for milliseconds in (20, 50):
            SlowStore.seconds = milliseconds / 1000
            far, found = read(f"folder:slow://{photos}")
            assert all(np.array_equal(*pair) for pair in zip(found, expected, strict=True))
            name = f"{images:,} JPEGs of a store that takes {milliseconds} ms a request"
            one = one_by_one(open_dataset(f"folder:slow://{photos}")["train"], looped)
            for against, theirs, target in (("a loop", one, 20.0), ("the same on a disk", near, 0.2)):
                figures = {"ours": far, "theirs": theirs, "ratio": far / theirs, "target": target}
                rows.append({"name": f"{name}, against {against}", **figures, "unit": "images/s"})
    return rows


def read(dataset: str) -> tuple[float, list[np.ndarray]]:
    """Images a second, listing included, with pixels and digests."""
    started = time.perf_counter()
    split = open_dataset(dataset)["train"]
    blocks = [range(at, min(at + 1024, len(split))) for at in range(0, len(split), 1024)]
    with (
        Decoders([split], None) as decoders,
        closing(decode_blocks(split, blocks, TRANSFORM, decoders)) as decoded,
    ):
        found = [array for _, *arrays in decoded for array in arrays]
    return len(split) / (time.perf_counter() - started), found


def one_by_one(split: ImageSplit, count: int) -> float:
    """Images a second of the first ones, each asked for when the one before it is decoded."""
    started = time.perf_counter()
    for row in range(count):
        TRANSFORM.apply(split.images.read(row).pixels)
    return count / (time.perf_counter() - started)


if __name__ == "__main__":
    main(run)
