"""A cache whose maps are not the trunk's is refused when it is made: by as little as the numbers allow."""

import dataclasses
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.extracting import settings

from cache import CacheHeader, CacheWriter
from pipeline.datasets.base import ImageSplit, open_dataset
from pipeline.errors import CacheError
from pipeline.extraction.parity import check_parity
from pipeline.extraction.stage import extract
from pipeline.images.views import Views
from pipeline.trunks import folding
from pipeline.trunks.alexnet_cifar import load
from pipeline.trunks.base import Trunk

LARGEST = {"float32": 1e-3, "float16": 4e-3, "bfloat16": 3e-2}
"""Of a map's largest value: about 2⁻¹⁰, and eight times what rounding to 11 or 8 bits is off by."""


def test_a_wrongly_prepared_trunk_is_noticed(
    photos: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The norms' shifts are lost in folding."""
    fold = folding.fuse_conv_bn_weights

    def wrong(*arguments: Any) -> tuple[torch.Tensor, torch.nn.Parameter]:
        weight, bias = fold(*arguments)
        return weight, torch.nn.Parameter(bias * 0)

    monkeypatch.setattr(folding, "fuse_conv_bn_weights", wrong)
    with pytest.raises(
        CacheError, match=r"train\.h5: differs from the live trunk by 0\.\d+ of a map's largest"
    ):
        extract(settings(photos, weights, tmp_path / "c"))


@pytest.fixture(scope="module")
def made(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Trunk, ImageSplit]:
    split = open_dataset("digits")["train"].take(range(40))
    return load(weights), split


def stored(path: Path, made: tuple[Trunk, ImageSplit], dtype: str, precision: str, **wrong: float) -> Path:
    """A cache of the trunk's own maps, of which one number of row 3 is off by 0.1 of the largest (r3=0.1)."""
    trunk, split = made
    images = np.stack([trunk.transform.apply(split.images.read(row).pixels) for row in range(len(split))])
    with torch.inference_mode():
        maps = trunk.module(normalised(torch.from_numpy(images), trunk))[:, None].numpy()
    for name, share in wrong.items():
        row = int(name[1:])
        where = np.unravel_index(np.abs(maps[row]).argmin(), maps[row].shape)
        maps[row][where] += share * np.abs(maps[row]).max()
    identity = {"precision": precision}
    header = CacheHeader(maps.shape, dtype, split.labels, split.paths, split.classes, identity)
    with CacheWriter(path, header) as writer:
        writer.write(range(len(split)), maps, np.ones((len(split), 16), np.uint8))
        return writer.publish()


def normalised(images: torch.Tensor, trunk: Trunk) -> torch.Tensor:
    mean, std = (torch.tensor(each).view(1, 3, 1, 1) for each in (trunk.transform.mean, trunk.transform.std))
    return (images / 255 - mean) / std


@pytest.mark.parametrize(
    ("dtype", "precision"), [*((d, "float32") for d in LARGEST), ("float32", "bfloat16")]
)
def test_a_number_is_off_by_no_more_than_its_type_explains(
    dtype: str, precision: str, made: tuple[Trunk, ImageSplit], tmp_path: Path
) -> None:
    trunk, split = made
    views, largest = Views("plain", len(split), 0), max(LARGEST[dtype], LARGEST[precision])
    good = stored(tmp_path / "good.h5", made, dtype, precision, r39=0.5 * largest)
    assert check_parity(good, split, trunk, views) <= largest
    bad = stored(tmp_path / "bad.h5", made, dtype, precision, r39=2 * largest)
    with pytest.raises(
        CacheError, match=rf"bad\.h5: differs .*, expected at most {re.escape(str(largest))}; del"
    ):
        check_parity(bad, split, trunk, views)


@pytest.mark.parametrize("row", [0, 5, 11, 16, 22, 27, 33, 39])
def test_eight_rows_from_the_first_to_the_last_are_compared(
    row: int, made: tuple[Trunk, ImageSplit], tmp_path: Path
) -> None:
    trunk, split = made
    views = Views("plain", len(split), 0)
    with pytest.raises(CacheError, match="differs from the live trunk"):
        check_parity(
            stored(tmp_path / "c.h5", made, "float32", "float32", **{f"r{row}": 0.1}), split, trunk, views
        )


def test_images_in_another_order_and_other_views_are_noticed(
    made: tuple[Trunk, ImageSplit], tmp_path: Path
) -> None:
    trunk, split = made
    path = stored(tmp_path / "c.h5", made, "float32", "float32")
    for other in (
        split.take(range(39, -1, -1)),
        dataclasses.replace(split, images=split.images.take([1] * 40)),
    ):
        with pytest.raises(CacheError, match="differs from the live trunk"):
            check_parity(path, other, trunk, Views("plain", 40, 0))
