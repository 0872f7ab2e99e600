"""Images of one size, whatever is in them, and what a cache says that it was made from."""

from pathlib import Path

import h5py
import numpy as np
from xxhash import xxh3_128_digest

from support.sharing import TRUNK

HEADER = b"BM\xf6\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0\x08\0\0\0\x08\0\0\0\x01\0\x18\0" + bytes(24)


def make_bitmaps(folder: Path, train: int, test: int = 4) -> Path:
    """Two classes of 8×8 pixels, of which the second has the last two images of a split, and `trunk.py`."""
    rng = np.random.default_rng(0)
    for split, count in (("train", train), ("test", test)):
        for at in range(count):
            place = folder / f"photos/{split}/{'ab'[at >= count - 2]}"
            place.mkdir(parents=True, exist_ok=True)
            (place / f"{at:05}.bmp").write_bytes(HEADER + rng.bytes(8 * 8 * 3))
    (folder / "trunk.py").write_text(TRUNK)
    return folder


def recorded(cache: Path) -> list[bytes]:
    """What the files of the training split say of their images, by h5py."""
    found = list[bytes]()
    for file in sorted(cache.glob("train*.h5")):
        with h5py.File(file) as opened:
            rows = opened["image_digests"]
            assert isinstance(rows, h5py.Dataset)
            found += [bytes(row) for row in rows[:]]
    return found


def expected(images: Path) -> list[bytes]:
    """What they would say of the training images as they are now."""
    paths = sorted((images / "photos/train").rglob("*.bmp"))
    return [xxh3_128_digest(path.read_bytes()) for path in paths]
