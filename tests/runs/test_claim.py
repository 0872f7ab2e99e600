"""What a run is: each setting and each fact that decides what is learned, changed alone, makes another."""

import dataclasses
import errno
import fcntl
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.toy import CLASSES, config, write, write_cache

from cache import CacheHeader, FeatureCache
from pipeline.config import TrainConfig
from pipeline.errors import RunError
from pipeline.runs.claim import held
from pipeline.training.stage import train

ANOTHER_RUN: dict[str, tuple[str, Any]] = {
    "head": ("fullnet", "csra"),
    "crops": ("fullnet", "full"),
    "hidden": ("fullnet", (7,)),
    "dropout": ("fullnet", 0.25),
    "loss": ("fullnet", "bce"),
    "crop_cells": ("fullnet", 4),
    "optimizer": ("fullnet", "adam"),
    "data_seed": ("fullnet", 1),
    "epochs": ("fullnet", 2),
    "batch": ("fullnet", 17),
    "classes": ("fullnet", CLASSES[:2]),
    "per_class": ("fullnet", 20),
    "val_fraction": ("fullnet", 0.2),
    "folds": ("fullnet", 3),
    "precision": ("fullnet", "float32"),
    "csra_lambda": ("csra", 0.2),
    "csra_temperature": ("csra", (2.0,)),
    "steps": ("recurrent-attention", 2),
    "region_cells": ("recurrent-attention", 1),
    "region_start": ("recurrent-attention", "whole"),
    "localisation": ("recurrent-attention", 0.2),
    "constraints": ("recurrent-attention", ("anchor",)),
}
"""A head, and a value of the setting other than the one it is trained with here."""
ANOTHER_HEAD: dict[str, Any] = {"lr": (0.07,), "weight_decay": (1e-3,), "seed": (1,)}
"""Settings by which the heads of one run differ: another value adds a head."""
SAME_RUN: dict[str, Any] = {
    **{"memory_budget_mb": 4000, "verify": False, "resume": True, "device": "auto"},
    "log": "tensorboard",
}
"""Settings that may change without making another run of it."""
PLACES = {"cache", "stage", "out", "init"}
"""Folders, of which the contents count: see below for a cache's, and tests/training/test_init.py."""


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cache(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def runs(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, TrainConfig]:
    """A finished run of each head."""
    out = tmp_path_factory.mktemp("runs")
    heads = ("fullnet", "csra", "recurrent-attention")
    configs = {name: config(cache, out / name, head=name, epochs=1, crop_cells=3) for name in heads}
    for each in configs.values():
        train(each)
    return configs


def test_every_setting_is_tried() -> None:
    known = {field.name for field in dataclasses.fields(TrainConfig)}
    assert known == ANOTHER_RUN.keys() | ANOTHER_HEAD.keys() | SAME_RUN.keys() | PLACES


@pytest.mark.parametrize("name", ANOTHER_RUN)
def test_a_setting_that_decides_what_is_learned_makes_another_run(
    name: str, runs: dict[str, TrainConfig]
) -> None:
    head, value = ANOTHER_RUN[name]
    assert getattr(runs[head], name) != value
    with pytest.raises(RunError, match="holds a run made with"):
        train(dataclasses.replace(runs[head], **{name: value}))


@pytest.mark.parametrize("name", ANOTHER_HEAD)
def test_a_setting_by_which_heads_differ_adds_one_and_keeps_what_is_there(
    name: str, runs: dict[str, TrainConfig], tmp_path: Path
) -> None:
    trained = runs["fullnet"]
    run = Path(shutil.copytree(trained.run_dir, tmp_path / "run"))
    weights = (run / "head.safetensors").read_bytes()
    train(dataclasses.replace(trained, out=str(run), **{name: ANOTHER_HEAD[name]}))
    assert [path.read_bytes() == weights for path in run.glob("*/head.safetensors")].count(True) == 1
    assert len(list(run.glob("*/summary.json"))) == 2


@pytest.mark.parametrize("name", SAME_RUN)
def test_a_setting_that_decides_nothing_leaves_the_run_up_to_date(
    name: str, runs: dict[str, TrainConfig], capsys: pytest.CaptureFixture[str]
) -> None:
    run = runs["fullnet"].run_dir
    before = {path.name: path.stat().st_mtime_ns for path in run.iterdir()}
    train(dataclasses.replace(runs["fullnet"], **{name: SAME_RUN[name]}))
    assert "up to date" in capsys.readouterr().out
    assert {path.name: path.stat().st_mtime_ns for path in run.iterdir()} == before


@pytest.mark.parametrize(
    ("what", "changed"),
    [
        ("labels", {"labels": (np.arange(90) + 1) % 3}),
        ("key", {"identity": {"views": "plain", "trunk": {"name": "other"}}}),
        ("key", {"paths": [f"{i}.jpg" for i in range(90)]}),
        ("classes", {"classes": ("ant", "bee", "dog")}),
    ],
)
def test_a_cache_of_something_else_makes_another_run(
    what: str, changed: dict[str, Any], cache: Path, runs: dict[str, TrainConfig], tmp_path: Path
) -> None:
    old = FeatureCache(cache / "train.h5")
    facts: dict[str, Any] = {"paths": list(old.paths), "classes": old.classes, "identity": old.identity}
    header = CacheHeader(old.shape, old.dtype, **{"labels": old.labels, **facts, **changed})
    write(tmp_path / "train.h5", header, old.take(np.arange(90), None))
    with pytest.raises(RunError, match=rf"holds a run made with .*{what}"):
        train(dataclasses.replace(runs["fullnet"], cache=str(tmp_path)))


@pytest.mark.parametrize("finished", [True, False])
def test_a_cache_of_other_image_contents_makes_another_run(
    finished: bool, cache: Path, runs: dict[str, TrainConfig], tmp_path: Path
) -> None:
    """Files of the same names and sizes have the same key, whatever is in them."""
    old = FeatureCache(cache / "train.h5")
    header = CacheHeader(old.shape, old.dtype, old.labels, list(old.paths), old.classes, old.identity)
    write(tmp_path / "train.h5", header, old.take(np.arange(90), None), image=8)
    new = FeatureCache(tmp_path / "train.h5")
    assert new.key == old.key
    run = Path(shutil.copytree(runs["fullnet"].run_dir, tmp_path / "run"))
    if not finished:
        (run / "summary.json").unlink()
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    found, given = old.images_digest[:12], new.images_digest[:12]
    made = rf"a --cache with the images {found}, not {given}"
    for resume in (True, False):
        with pytest.raises(RunError, match=rf"^{run}: holds a run made with {made}; give another --out$"):
            train(dataclasses.replace(runs["fullnet"], cache=str(tmp_path), out=str(run), resume=resume))
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EBADF, errno.EIO])
def test_a_folder_that_can_t_be_locked_is_trained_into_where_there_are_no_locks(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def flock(fd: int, operation: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", flock)
    if code == errno.EIO:
        with (
            pytest.raises(RunError, match=rf"^{tmp_path}: can't be locked: Input/output error"),
            held(tmp_path),
        ):
            pass
    else:
        with held(tmp_path, tmp_path.parent):
            pass
        said = capsys.readouterr().out
        assert said == f"{tmp_path}: this file system has no locks; don't train into it twice at a time\n"
