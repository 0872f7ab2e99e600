"""Maps averaged to fewer cells: what is averaged, what stays, and that nothing is computed twice."""

from pathlib import Path

import numpy as np
import pytest
from support.toy import write_cache

from cache import FeatureCache, StaleCacheError
from experiments.crops.pooled import pool
from pipeline.errors import ConfigError


def caches(folder: Path, shape: tuple[int, int, int], views: str = "plain") -> Path:
    for split in ("train", "test"):
        write_cache(folder, 30, shape=shape, views=views, split=split)
    return folder


@pytest.mark.parametrize(("side", "views"), [(10, "plain"), (7, "mirror")])
def test_each_cell_is_the_mean_of_those_it_covers(tmp_path: Path, side: int, views: str) -> None:
    source = caches(tmp_path / "maps", (4, side, side), views)
    pooled = pool(source, 5)
    assert pooled == tmp_path / "maps-5x5"
    for split in ("train", "test"):
        before, after = (FeatureCache(folder / f"{split}.h5") for folder in (source, pooled))
        maps = before.features.astype(np.float64)
        for i in range(5):
            for j in range(5):
                rows, columns = (slice(side * k // 5, -(-side * (k + 1) // 5)) for k in (i, j))
                mean = maps[..., rows, columns].mean((-1, -2))
                np.testing.assert_allclose(after.features[..., i, j], mean, rtol=1e-5, atol=1e-6)
        assert np.array_equal(after.image_digests, before.image_digests)
        assert np.array_equal(after.labels, before.labels)
        assert after.identity == {**before.identity, "map_cells": 5}


def test_maps_of_this_size_are_left_as_they_are(tmp_path: Path) -> None:
    source = caches(tmp_path / "maps", (4, 5, 5))
    assert pool(source, 5) == source
    assert [path.name for path in tmp_path.iterdir()] == ["maps"]


def test_what_is_there_is_not_written_again_and_what_is_stale_is_refused(tmp_path: Path) -> None:
    made = pool(caches(tmp_path / "maps", (4, 10, 10)), 5) / "train.h5"
    before = made.stat()
    pool(tmp_path / "maps", 5)
    assert (made.stat().st_ino, made.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    for file in (tmp_path / "maps").iterdir():
        file.unlink()
    with pytest.raises(StaleCacheError, match="maps-5x5"):
        pool(caches(tmp_path / "maps", (6, 10, 10)), 5)


def test_more_cells_than_there_are_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"^--map-cells: expected at most 4, for maps of 4×6 cells, found 5"
    ):
        pool(caches(tmp_path / "maps", (4, 4, 6)), 5)
