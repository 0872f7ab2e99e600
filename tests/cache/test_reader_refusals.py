"""Files that the reader refuses: missing, unfinished, longer than they should be, or another by now."""

import os
from pathlib import Path

import pytest
from support.samples import extract, header

from cache import CacheError, FeatureCache, relabel


def test_a_file_replaced_after_opening_is_noticed(copy: Path) -> None:
    cache = FeatureCache(copy)
    relabel(copy, header(classes=["a", "b", "c" * 9000]))
    with pytest.raises(CacheError, match="another file took its place"):
        cache.take([0])
    with pytest.raises(CacheError, match="another file took its place"):
        cache.verify()


def test_a_file_cut_off_after_opening_is_noticed(copy: Path) -> None:
    cache = FeatureCache(copy)
    os.truncate(copy, copy.stat().st_size - 4096)
    with pytest.raises(CacheError, match="another file took its place"):
        cache.take([2499])


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    with pytest.raises(CacheError, match=r"train\.h5: no such file; run extract_features\.py"):
        FeatureCache(tmp_path / "train.h5")
    extract(tmp_path / "train.h5", header(3), stop_after=0)
    with pytest.raises(CacheError, match=r"train\.h5: not complete yet; run the same extraction again"):
        FeatureCache(tmp_path / "train.h5")
    os.mkfifo(tmp_path / "pipe")
    for odd, advice in ((tmp_path, "; name a split in it, such as train.h5"), (tmp_path / "pipe", "$")):
        with pytest.raises(CacheError, match=f"expected a file, found a folder or a device{advice}"):
            FeatureCache(odd)


@pytest.mark.parametrize("written", [0, 2])
def test_an_incomplete_file_under_the_final_name_is_refused(written: int, tmp_path: Path) -> None:
    extract(tmp_path / "train.h5", header(), stop_after=written)
    (tmp_path / "train.h5.part").rename(tmp_path / "train.h5")
    with pytest.raises(CacheError, match=r"damaged: expected .* bytes, found"):
        FeatureCache(tmp_path / "train.h5")
    os.truncate(tmp_path / "train.h5", (tmp_path / "train.h5").stat().st_size - 128)
    with pytest.raises(CacheError, match=rf"not complete: {written} of 3 blocks have a digest"):
        FeatureCache(tmp_path / "train.h5")


def test_bytes_behind_the_features_are_refused(copy: Path) -> None:
    with copy.open("ab") as file:
        file.write(b"x")
    with pytest.raises(CacheError, match=r"damaged: expected .* bytes, found"):
        FeatureCache(copy)
