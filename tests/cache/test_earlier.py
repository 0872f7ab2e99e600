"""Splits that grew: shards that say which images they were made of, and manifests of before."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.samples import IDENTITY, extract, header

from cache import CacheError, CacheHeader, FeatureCache, generations, write_manifest


def sized(rows: int, sizes: str, **changes: Any) -> CacheHeader:
    """As extraction makes it: a field of the identity says which images there are."""
    return header(rows, identity={**IDENTITY, "image_sizes": sizes}, **changes)


def of_rows(rows: np.ndarray, names: list[str], sizes: str) -> CacheHeader:
    return sized(len(rows), sizes, paths=[names[row] for row in rows])


@pytest.fixture
def shards(tmp_path: Path) -> tuple[list[Path], list[str]]:
    """Files of 30 and of 20 images, and the paths of all."""
    headers = sized(30, "old"), sized(20, "new", paths=[f"new/{i}.png" for i in range(20)])
    files = [extract(tmp_path / f"{n}.h5", h) for n, h in zip(("train", "train-new"), headers, strict=True)]
    return files, [path for each in headers for path in each.paths]


def test_a_shard_differs_from_its_split_in_the_fields_that_vary_alone(
    shards: tuple[list[Path], list[str]], tmp_path: Path
) -> None:
    files, names = shards
    path, rows = tmp_path / "train.json", np.arange(50)[::-1]
    whole = of_rows(rows, names, "both")
    with pytest.raises(
        CacheError, match=r'train\.h5: no shard of this cache: .*: image_sizes: "old" → "both"'
    ):
        write_manifest(path, whole, files, rows)
    many = FeatureCache(write_manifest(path, whole, files, rows, varying=["image_sizes", "val_rows"]))
    many.verify()
    assert (many.key, many.identity) == (whole.key, whole.identity)
    assert b'"varying":["image_sizes"]' in path.read_bytes(), "what doesn't vary is guarded"
    assert list(many.shards) == files
    assert list(many.shards.values()) == [range(30), range(30, 50)]
    assert many.places([0, 49]).tolist() == [49, 0]
    other = header(50, paths=names, identity={**IDENTITY, "image_sizes": "both", "views": "mirror"})
    with pytest.raises(CacheError, match=r'train\.h5: no shard of this cache: .*: views: absent → "mirror"'):
        write_manifest(path, other, files, rows, varying=["image_sizes"])


def test_rows_in_the_order_of_the_shards_may_vary_as_well(
    shards: tuple[list[Path], list[str]], tmp_path: Path
) -> None:
    files, names = shards
    rows = np.arange(50)
    whole = of_rows(rows, names, "both")
    many = FeatureCache(write_manifest(tmp_path / "train.json", whole, files, varying=["image_sizes"]))
    many.verify()
    assert many.paths == names


def test_what_a_split_was_can_still_be_opened(shards: tuple[list[Path], list[str]], tmp_path: Path) -> None:
    """The file that it began as, and each manifest of other images; one of other labels is replaced."""
    files, names = shards
    path, keys = tmp_path / "train.json", [FeatureCache(files[0]).key]
    assert generations(tmp_path, "train") == [files[0]]
    for count in (40, 45, 50):
        rows = np.random.default_rng(count).permutation(50)[:count]
        whole = of_rows(rows, names, f"of {count}")
        write_manifest(path, whole, files, rows, varying=["image_sizes"])
        keys.append(whole.key)
        labels = np.ones(count, int)
        again = sized(count, f"of {count}", paths=whole.paths, labels=labels)
        write_manifest(path, again, files, rows, varying=["image_sizes"])
    found = generations(tmp_path, "train")
    assert found[:2] == [path, files[0]]
    assert sorted(FeatureCache(each).key for each in found) == sorted(keys)
    for each in found:
        FeatureCache(each).verify()
    assert len(list(tmp_path.glob("train.index-*"))) == 3, (
        "an index is gone, or one that nobody needs is left"
    )
