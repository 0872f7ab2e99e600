"""The images that a head was given are those that training drew, whatever chose them."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.toy import CLASSES, config, write_cache

from cache import FeatureCache
from pipeline.runs.given import rows_given, rows_learned
from pipeline.training.stage import parts_of


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"per_class": 10},
        {"per_class": 10, "val_fraction": 0.3},
        {"per_class": 10, "folds": 3},
        {"folds": 3},
        {"classes": CLASSES[:2], "per_class": 7, "data_seed": 3},
    ],
    ids=str,
)
def test_the_rows_are_those_of_training(settings: dict[str, Any], tmp_path: Path) -> None:
    made = config(write_cache(tmp_path), tmp_path / "run", **settings).resolved()
    cache = FeatureCache(tmp_path / "train.h5")
    train, val = parts_of(made, cache)
    labels = hashlib.sha256(cache.labels.data).hexdigest()
    given = rows_given(made, labels, cache)
    assert sorted(given) == sorted(np.concatenate([train.rows, val.rows]))
    assert sorted(rows_learned(made, labels, cache)) == sorted(train.rows)
