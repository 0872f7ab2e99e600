"""Heads of a later command in a sweep's folder: ranked with those that are there if validated alike."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from support.toy import write_cache
from support.trained import board, stamps

from pipeline.config import SweepConfig
from pipeline.errors import RunError
from pipeline.training.sweep import sweep

OTHER_IMAGES: dict[str, tuple[dict[str, Any], str]] = {
    "a share": ({"val_fraction": 0.5}, "--val-fraction 0.3, not 0.5"),
    "a draw": ({"data_seed": 3}, "--data-seed 0, not 3"),
    "fewer images": ({"per_class": 20}, "--per-class unset, not 20"),
    "classes": ({"classes": ("bee", "cow")}, "--classes unset, not bee cow"),
    "folds": ({"folds": 3, "val_fraction": None}, "--val-fraction 0.3, not unset; --folds unset, not 3"),
}
"""What else is validated on, and how that is said."""
ANOTHER_CACHE = r"beside linear, which was made with a --cache with the key \w+, not \w+; give another --out$"


def joined(cache: Path, out: Path, *heads: str, **settings: Any) -> Path:
    small: dict[str, Any] = {"epochs": 2, "batch": 16, "device": "cpu", "val_fraction": 0.3}
    return sweep(SweepConfig(cache=str(cache), out=str(out), head=heads, **{**small, **settings}))


def groups(run: Path) -> set[str]:
    return {head["group"] for head in board(run)["heads"]}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache, the same with more images, and a sweep of two groups."""
    folder = tmp_path_factory.mktemp("made")
    write_cache(folder / "grown", images=99)
    joined(write_cache(folder / "cache"), folder / "run", "linear", "knn")
    return folder


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made / "run", tmp_path / "run"))


@pytest.mark.parametrize("what", OTHER_IMAGES)
def test_heads_that_are_validated_on_other_images_are_refused(what: str, made: Path, run: Path) -> None:
    settings, told = OTHER_IMAGES[what]
    before = stamps(run)
    refusal = (
        rf"^{run}: can't rank these heads beside linear, which was made with {told}; give another --out$"
    )
    with pytest.raises(RunError, match=refusal):
        joined(made / "cache", run, "gap", "gmp", **settings)
    assert stamps(run) == before


def test_heads_on_other_maps_are_refused(made: Path, run: Path) -> None:
    before = stamps(run)
    with pytest.raises(RunError, match=ANOTHER_CACHE):
        joined(made / "grown", run, "gap", "gmp")
    assert stamps(run) == before


def test_heads_on_an_equal_cache_are_ranked_wherever_it_lies(made: Path, run: Path, tmp_path: Path) -> None:
    moved = Path(shutil.copytree(made / "cache", tmp_path / "moved"))
    joined(moved, run, "gap", "gmp")
    assert groups(run) == {"linear", "knn", "gap-ten", "gmp-ten"}


def test_a_group_that_was_interrupted_is_one_of_the_sweep_until_it_is_removed(made: Path, run: Path) -> None:
    """Or it would be ranked with the others once it is finished."""
    shutil.rmtree(run / "knn")
    (run / "linear/summary.json").unlink()
    with pytest.raises(RunError, match=ANOTHER_CACHE):
        joined(made / "grown", run, "gap", "gmp")
    shutil.rmtree(run / "linear")
    joined(made / "grown", run, "gap", "gmp")
    assert groups(run) == {"gap-ten", "gmp-ten"}
