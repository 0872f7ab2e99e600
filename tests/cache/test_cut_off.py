"""Files cut off at any length are refused when they are opened: a memory map would answer with SIGBUS."""

import random
from collections.abc import Sequence
from pathlib import Path

import pytest
from support.samples import extract, header
from support.tally import Tally

from cache import CacheError, FeatureCache

pytestmark = pytest.mark.fault


def lengths_of(data: bytes, count: int) -> list[int]:
    """The ends of things in the file and around them, and lengths at random."""
    edges = [0, 1, 8, 44, 48, 4096, len(data) // 2, len(data)]
    near = {edge + d for edge in edges for d in range(-2, 3) if 0 <= edge + d < len(data)}
    return sorted(near | set(random.Random(0).sample(range(len(data)), count)))


def refuse_all(path: Path, data: bytes, lengths: Sequence[int], tally: Tally) -> None:
    for length in lengths:
        path.write_bytes(data[:length])
        with tally("file cut off"):
            with pytest.raises(CacheError) as caught:
                FeatureCache(path)
            assert str(caught.value).startswith(f"{path}: ")
            assert "\n" not in str(caught.value)


def test_cut_off_files_are_refused(tiny: Path, tmp_path: Path, tally: Tally) -> None:
    data = tiny.read_bytes()
    refuse_all(tmp_path / "train.h5", data, lengths_of(data, 200), tally)


@pytest.mark.faults
def test_every_length_is_refused(tiny: Path, sample: Path, tmp_path: Path, tally: Tally) -> None:
    data = tiny.read_bytes()
    refuse_all(tmp_path / "train.h5", data, range(len(data)), tally)
    larger = sample.read_bytes()
    refuse_all(tmp_path / "train.h5", larger, lengths_of(larger, 1000), tally)


@pytest.mark.parametrize("count", [60, pytest.param(2000, marks=pytest.mark.faults)])
def test_cut_off_part_files_are_refused_or_begun_again(count: int, tmp_path: Path, tally: Tally) -> None:
    path, made = tmp_path / "train.h5", header(3, map_shape=(16, 4, 4))
    extract(path, made, stop_after=1)
    part = path.with_name("train.h5.part")
    data = part.read_bytes()
    for length in lengths_of(data, count):
        part.write_bytes(data[:length])
        with tally("unfinished file cut off"):
            if 128 < length < len(data) - 128:
                with pytest.raises(CacheError, match=r"train\.h5\.part: no usable feature cache"):
                    extract(path, made)
                assert part.read_bytes() == data[:length]
            else:
                extract(path, made)
                FeatureCache(path).verify()
                path.unlink()
