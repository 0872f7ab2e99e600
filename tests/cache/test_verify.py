"""Flipped bits are found, by `verify` and by training's first use."""

import contextlib
import hashlib
import os
import random
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import xxhash
from support.samples import extract, flip, header
from support.tally import Tally

from cache import CacheError, FeatureCache

ROOT = Path(__file__).parents[2]
PARTS = ["features", "image_digests", "digests", "labels", "paths", "classes", "provenance", "header_digests"]


def extents(path: Path) -> dict[str, range]:
    """Which bytes hold which dataset, according to h5py."""
    with h5py.File(path) as file:
        found = {name: (d.id.get_offset(), d.id.get_storage_size()) for name, d in file.items()}
    return {name: range(offset, offset + size) for name, (offset, size) in found.items()}


OTHER_IMAGES = "damaged: the digests of its images don't match the one over all of them; delete it"


def mend_images_digest(path: Path) -> None:
    data, where = bytearray(path.read_bytes()), extents(path)
    images = data[where["image_digests"][0] : where["image_digests"][-1] + 1]
    data[where["header_digests"][16] : where["header_digests"][47] + 1] = hashlib.sha256(images).digest()
    path.write_bytes(data)


def values(path: Path) -> list[object]:
    cache = FeatureCache(path)
    arrays = [cache.features, cache.labels, cache.image_digests]
    rest = [cache.shape, cache.dtype, cache.paths, cache.classes, cache.identity, cache.notes, cache.key]
    return [array.tobytes() for array in arrays] + rest


def flip_bits(path: Path, bits: list[int], tally: Tally) -> None:
    """Flip each in turn: verify raises, or not a value is changed. In a dataset, verify raises."""
    expected = values(path)
    held = {byte for extent in extents(path).values() for byte in extent}
    for bit in bits:
        flip(path, bit)
        with tally("bit flipped in a dataset" if bit // 8 in held else "bit flipped elsewhere"):
            if bit // 8 in held:
                with pytest.raises(CacheError, match=rf"^{path}: .+$"):
                    FeatureCache(path).verify()
            else:
                with contextlib.suppress(CacheError):
                    FeatureCache(path).verify()
                    assert values(path) == expected, f"bit {bit}"
        flip(path, bit)
    assert values(path) == expected


@pytest.mark.fault
@pytest.mark.parametrize("part", PARTS)
def test_a_bit_flipped_in_any_part_is_found(part: str, copy: Path, tally: Tally) -> None:
    extent, seed = extents(copy)[part], random.Random(part)
    bits = [8 * extent[0], 8 * extent[-1] + 7, *(8 * seed.choice(extent) + 3 for _ in range(10))]
    flip_bits(copy, bits, tally)


@pytest.mark.fault
def test_a_bit_flipped_anywhere_is_found_or_changes_nothing(tiny: Path, tmp_path: Path, tally: Tally) -> None:
    path = Path(shutil.copy(tiny, tmp_path))
    flip_bits(path, random.Random(0).sample(range(8 * path.stat().st_size), 200), tally)


@pytest.mark.faults
def test_flips_in_every_byte(tiny: Path, copy: Path, tmp_path: Path, tally: Tally) -> None:
    (tmp_path / "tiny").mkdir()
    path, seed = Path(shutil.copy(tiny, tmp_path / "tiny")), random.Random(0)
    flip_bits(path, [8 * byte + seed.randrange(8) for byte in range(path.stat().st_size)], tally)
    flip_bits(copy, seed.sample(range(8 * copy.stat().st_size), 1000), tally)


def test_the_message_names_file_and_block(copy: Path) -> None:
    flip(copy, 8 * (extents(copy)["features"][0] + 1500 * 16))
    with pytest.raises(CacheError, match=r"train\.h5: damaged: block 1 \(rows 1024 to 2047\) doesn't match"):
        FeatureCache(copy).verify()


def test_a_header_that_was_damaged_since_the_file_was_opened_is_found(copy: Path) -> None:
    cache = FeatureCache(copy)
    flip(copy, 8 * extents(copy)["labels"][0])
    with pytest.raises(CacheError, match="labels, paths, classes and provenance don't match"):
        cache.verify()


def test_only_the_blocks_of_the_rows_are_checked(copy: Path) -> None:
    flip(copy, 8 * (extents(copy)["features"][0] + 1500 * 16))
    cache = FeatureCache(copy)
    cache.verify([0, 1023, 2048, 2499])
    cache.verify([])
    with pytest.raises(CacheError, match="block 1 "):
        cache.verify([0, 1024])


def test_a_block_is_read_once_on_first_use(copy: Path) -> None:
    cache = FeatureCache(copy)
    cache.verify([0, 2499])
    flip(copy, 8 * (extents(copy)["features"][0] + 5 * 16))
    cache.verify([5])  # known to be good when it was first used
    with pytest.raises(CacheError, match="block 0 "):
        cache.verify()
    with pytest.raises(CacheError, match="block 0 "):
        FeatureCache(copy).verify([5])


def test_two_blocks_that_changed_places_are_found(tmp_path: Path) -> None:
    """Features, image digests and block digests alike; the digest depends on the block's number."""
    path = extract(tmp_path / "train.h5", header(2048))
    data = bytearray(path.read_bytes())
    for name in ("features", "image_digests", "digests"):
        extent = extents(path)[name]
        half = len(extent) // 2
        first, second = slice(extent[0], extent[half]), slice(extent[half], extent[-1] + 1)
        data[first], data[second] = data[second], data[first]
    path.write_bytes(data)
    with pytest.raises(CacheError, match=OTHER_IMAGES):
        FeatureCache(path)
    mend_images_digest(path)
    with pytest.raises(CacheError, match="block 0 "):
        FeatureCache(path).verify()


def test_image_digests_that_changed_places_are_found_under_right_digests_of_their_blocks(copy: Path) -> None:
    """As after a copy of rows from another cache: blocks match their digests, the file its images no more."""
    data, where = bytearray(copy.read_bytes()), extents(copy)
    one, other = (where["image_digests"][0] + 16 * row for row in (3, 4))
    data[one : one + 16], data[other : other + 16] = data[other : other + 16], data[one : one + 16]
    rows = [
        data[where[name][0] : where[name][1024 * size - 1] + 1]
        for name, size in (("features", 16), ("image_digests", 16))
    ]
    data[where["digests"][0] : where["digests"][0] + 16] = xxhash.xxh3_128(b"".join(rows), seed=0).digest()
    copy.write_bytes(data)
    with pytest.raises(CacheError, match=rf"^{copy}: {OTHER_IMAGES}"):
        FeatureCache(copy)
    mend_images_digest(copy)
    FeatureCache(copy).verify()


def test_a_file_without_a_digest_of_its_images_is_not_complete(copy: Path) -> None:
    data, where = bytearray(copy.read_bytes()), extents(copy)["header_digests"]
    data[where[16] : where[47] + 1] = bytes(32)
    copy.write_bytes(data)
    with pytest.raises(CacheError, match=OTHER_IMAGES):
        FeatureCache(copy)


def test_a_file_cut_off_while_it_is_checked_is_an_error(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A map would end in SIGBUS here; pread says that the file ended."""
    cache, real = FeatureCache(copy), os.preadv

    def cut(fd: int, buffers: list[memoryview], offset: int) -> int:
        os.truncate(copy, 8192)
        return real(fd, buffers, offset)

    monkeypatch.setattr(os, "preadv", cut)
    with pytest.raises(CacheError, match=r"can't be read: it was cut off"):
        cache.verify(np.arange(2500))
