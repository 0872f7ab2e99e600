"""A flag that has no effect on any head of the command is refused, and one that has is not."""

from pathlib import Path
from typing import Any

import pytest
import torch
from support.toy import config, write_cache

from cache import FeatureCache
from pipeline.config import SweepConfig
from pipeline.errors import ConfigError
from pipeline.heads import HEADS
from pipeline.runs.folder import load_head
from pipeline.training.stage import train

OTHER: dict[str, Any] = {
    "init": "usual",  # the run of the head with the others at their usual values
    "loss": "bce",
    "optimizer": "adam",
    "lr": (0.02,),
    "weight_decay": (0.1,),
    "seed": (7,),
    "epochs": 3,
    "batch": 8,
    "crops": "center",
    "crop_cells": 2,
    "hidden": (5,),
    "dropout": 0.5,
    "csra_lambda": 3.0,
    "csra_temperature": (4.0,),
    "steps": 2,
    "region_cells": 1,
    "region_start": "whole",
    "localisation": 9.0,
    "constraints": ("scale",),
}
"""Each setting that some head reads, at another value than below and than its default."""


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cache(tmp_path_factory.mktemp("cache"), images=60, noise=4.0)


def learned(cache: Path, out: Path, head: str, **changed: Any) -> list[list[float]]:
    """The scores of the cache's images after training on them."""
    settings = {"lr": (0.1,), "epochs": 2, "optimizer": "sgd", "val_fraction": 0.0, **changed}
    run = train(config(cache, out, head=head, **settings))
    maps = torch.from_numpy(FeatureCache(cache / "train.h5").take(range(60), view=None))
    return load_head(run).logits(maps).tolist()


def test_the_table_has_every_head_and_every_setting() -> None:
    assert set().union(*(info.reads for info in HEADS.values())) == {*OTHER, "hidden_shapes"}


@pytest.mark.parametrize("head", HEADS)
def test_heads_learn_by_the_settings_that_the_table_says(tmp_path: Path, cache: Path, head: str) -> None:
    usual = learned(cache, tmp_path / "usual", head)
    read = {
        name
        for name, value in OTHER.items()
        if learned(cache, tmp_path / name, head, **{name: str(tmp_path / value) if name == "init" else value})
        != usual
    }
    assert read == HEADS[head].reads - {"hidden_shapes"}


@pytest.mark.parametrize("head", HEADS)
def test_a_flag_that_no_head_reads_is_refused_by_name(head: str) -> None:
    for name, value in OTHER.items():
        given: dict[str, Any] = {name: (value,) if name == "crops" else value}
        if name in HEADS[head].reads:
            SweepConfig(head=(head,), **given)
            continue
        with pytest.raises(
            ConfigError, match=rf"^SweepConfig.{name}: has no effect on {head}, only on .*; leave it"
        ):
            SweepConfig(head=(head,), **given)
        reader = next(other for other in HEADS if name in HEADS[other].reads)
        SweepConfig(head=(head, reader), **given)
