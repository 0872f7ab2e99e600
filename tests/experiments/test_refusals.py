"""An experiment's refusals: flags by its own names, and test images that a head knows."""

import shutil
from pathlib import Path

import pytest
from support.toy import config, write_cache

from experiments.refusals import renamed, score_unseen
from pipeline.config import ExtractConfig
from pipeline.errors import ConfigError, RunError, StaleCacheError
from pipeline.training.stage import train


def test_flags_are_renamed_and_nothing_else() -> None:
    for kind in (StaleCacheError, RunError, ConfigError):
        with (
            pytest.raises(kind, match=r"^a/--cache-b: choose another --out; not --cached, --trunk-out$"),
            renamed({"--cache": "--out", "--out": "--trunk-out"}),
        ):
            raise kind("a/--cache-b: choose another --cache; not --cached, --out")


def test_a_field_of_a_stage_is_named_as_a_flag() -> None:
    with pytest.raises(ConfigError, match=r"^--side: expected") as raised, renamed({"--image-px": "--side"}):
        ExtractConfig(image_px=0)
    assert not raised.value.field


def test_a_test_image_that_was_trained_on_is_refused_without_a_flag_that_is_not_there(tmp_path: Path) -> None:
    cache = write_cache(tmp_path / "cache")
    write_cache(cache, 30, split="test")
    run = train(config(cache, tmp_path / "run"))
    assert score_unseen(run, device="cpu").logits.shape == (30, 3)
    shutil.copy(cache / "train.h5", cache / "test.h5")
    with pytest.raises(RunError, match=r"expected a test split, .*; take them out of one of the splits$"):
        score_unseen(run, device="cpu")
