"""Pretraining holds out the images that heads are validated on, whatever classes are chosen."""

from itertools import combinations
from pathlib import Path

import pytest
from support.folders import fill, open_folder

from pipeline.config import PretrainConfig
from pipeline.maps.parts import split
from pipeline.pretraining.network import open_split


@pytest.mark.parametrize("fraction", [None, 0.3])
def test_no_validation_image_of_a_head_was_trained_on(tmp_path: Path, fraction: float | None) -> None:
    names = "abcde"
    for count, name in enumerate(names, 9):
        fill(tmp_path, [name], count)
    train = open_folder(tmp_path)["train"]
    for chosen in (classes for k in (1, 2, 3, 5) for classes in combinations(names, k)):
        settings = PretrainConfig(dataset=f"folder:{tmp_path}", classes=chosen[::-1], val_fraction=fraction)
        images, labels, classes, is_held = open_split(settings, "train")
        held = {path for path, out in zip(images.paths, is_held, strict=True) if out}
        _, val = split(train.labels, train.classes, classes=chosen, val_fraction=fraction, data_seed=0)
        assert held == {train.paths[row] for row in val.rows}
        assert {path.split("/")[0] for path in held} == set(chosen)
        assert [classes[label] for label in labels] == [path.split("/")[0] for path in images.paths]
