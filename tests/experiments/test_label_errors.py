"""Planted label errors: how many are planted, and that the table counts what is found of them."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from support.evaluating import CLASSES, write_cache

from cache import FeatureCache
from experiments.label_errors import COLUMNS, main, most_similar, plant


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cache(tmp_path_factory.mktemp("planted") / "cache")


@pytest.mark.parametrize("nearest", [False, True])
def test_a_share_of_the_images_gets_another_label(nearest: bool, cache: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(cache / "train.h5", tmp_path))
    before = FeatureCache(cache / "train.h5")
    wrong, labels = plant(path, 0.05, 3, nearest=nearest), FeatureCache(path).labels
    assert wrong.sum() == round(0.05 * len(before))
    assert ((labels != before.labels) == wrong).all()
    if nearest:
        means = [
            before.take(np.flatnonzero(before.labels == k)).astype(float).mean((0, 2, 3))
            for k in range(len(CLASSES))
        ]
        for given, true in zip(labels[wrong], before.labels[wrong], strict=True):
            far = [np.linalg.norm(mean - means[true]) for mean in means]
            assert far[given] == pytest.approx(sorted(far)[1], rel=1e-2)
        assert (most_similar(before) != np.arange(len(CLASSES))).all()


@pytest.mark.faults  # trains five folds
def test_the_table_has_what_is_found_beside_cleanlab_on_the_same_probabilities(
    cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("cleanlab", reason="cleanlab, the reference, isn't installed")
    assert main([str(cache), "--seeds", "1"]) == 0
    head, _, line = (text for text in capsys.readouterr().out.splitlines() if text.startswith("|"))
    found = dict(zip(COLUMNS, line.strip("| ").split(" | "), strict=True))
    assert head == f"| {' | '.join(COLUMNS)} |"
    assert found["wrong"] == "12"
    assert found["in the first 10 %"] == found["cleanlab's by self_confidence"]
