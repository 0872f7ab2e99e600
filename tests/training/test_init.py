"""Training that goes on from a trained head: the same steps as without a stop, and what is refused."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from support.toy import CLASSES, config, write, write_cache, write_multilabel_cache
from support.trained import assert_same, lines, weights

from cache import CacheHeader, FeatureCache
from pipeline.config import SweepConfig
from pipeline.errors import ConfigError, RunError
from pipeline.training import epochs
from pipeline.training.optimizer import CLIP, MOMENTUM
from pipeline.training.schedule import schedule
from pipeline.training.stage import train
from pipeline.training.sweep import sweep

WHOLE = {"head": "linear", "batch": 200, "val_fraction": 0.0}
"""A step for each epoch, over all images, so that their order has no say."""


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cache(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    return train(config(cache, tmp_path_factory.mktemp("runs") / "first"))


def of_classes(folder: Path, names: tuple[str, ...]) -> Path:
    """A cache of the toy's images under these classes, in turn."""
    maps = FeatureCache(write_cache(folder / "toy") / "train.h5")
    labels = np.arange(90) % len(names)
    header = CacheHeader(maps.shape, maps.dtype, labels, maps.paths, names, maps.identity)
    write(folder / "train.h5", header, maps.features)
    return folder


def continued(
    cache: Path, run: Path, lr: float, decay: float, steps: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Weight (C, K) and bias after plain torch steps from those of a linear head."""
    found, maps = weights(run), FeatureCache(cache / "train.h5")
    scaled = (torch.from_numpy(maps.features[:, 0]) - found["normaliser.mean"]) * found["normaliser.scale"]
    inputs, labels = scaled.mean((2, 3)).double(), torch.from_numpy(maps.labels.copy())
    layer = torch.nn.Linear(4, len(CLASSES), dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(found["head.weight"][0].t())
        layer.bias.copy_(found["head.bias"][0])
    groups = [{"params": [layer.weight], "weight_decay": decay}, {"params": [layer.bias], "weight_decay": 0}]
    optimizer = torch.optim.SGD(groups, lr, MOMENTUM, nesterov=True)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = lr * schedule(step, steps)
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(layer(inputs), labels).backward()
        torch.nn.utils.clip_grad_norm_(layer.parameters(), CLIP)
        optimizer.step()
    return layer.weight.detach().t(), layer.bias.detach()


def test_going_on_takes_the_steps_of_plain_torch_on_the_grown_cache(tmp_path: Path, cache: Path) -> None:
    grown = write_cache(tmp_path / "grown", images=150)
    first = train(config(cache, tmp_path / "first", **WHOLE))
    settings = {"lr": (0.2,), "weight_decay": (0.01,), "epochs": 5}
    again = train(config(grown, tmp_path / "again", init=str(first), **WHOLE, **settings))
    weight, bias = continued(grown, first, 0.2, 0.01, 5)
    assert torch.allclose(weights(again)["head.weight"][0], weight, rtol=1e-10)
    assert torch.allclose(weights(again)["head.bias"][0], bias, rtol=1e-10)
    for name in ("normaliser.mean", "normaliser.scale"):
        assert torch.equal(weights(again)[name], weights(first)[name])
    assert not torch.allclose(weights(first)["head.weight"][0], weight, rtol=1e-3)


def test_every_head_of_a_stack_begins_at_the_same_weights(tmp_path: Path, cache: Path, run: Path) -> None:
    """So seeds decide about dropout alone."""
    settings = {"init": str(run), "epochs": 2, "dropout": 0.3}
    stack = train(config(cache, tmp_path / "stack", lr=(0.1, 0.02), seed=(0, 4), **settings))
    alone = train(config(cache, tmp_path / "alone", lr=(0.02,), seed=(4,), **settings))
    assert_same(stack / "lr0.02-wd0.0005-seed4", alone, tolerance=1e-12)
    one, other = (train(config(cache, tmp_path / f"{n}", init=str(run), seed=(n,))) for n in (0, 1))
    assert_same(one, other)


def test_a_run_says_what_it_began_from_and_is_another_from_another_head(
    tmp_path: Path, cache: Path, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    again = train(config(cache, tmp_path / "again", init=str(run)))
    assert f"going on from {run}" in capsys.readouterr().out
    assert json.loads((again / "config.json").read_text())["init"] == str(run)
    moved = tmp_path / "moved"
    run_copy = train(config(cache, moved))  # the same head in another folder
    train(config(cache, again, init=str(run_copy)))
    assert "up to date" in capsys.readouterr().out
    other = train(config(cache, tmp_path / "other", epochs=5))
    with pytest.raises(
        RunError, match=r"made with --init with the head \w{12}, not \w{12}; give another --out"
    ):
        train(config(cache, again, init=str(other)))
    with pytest.raises(RunError, match=r"made with --init with the head \w{12}, not unset"):
        train(config(cache, again))
    with pytest.raises(RunError, match=r"made with --init with the head unset, not \w{12}"):
        train(config(cache, run, init=str(other)))


def test_of_a_sweep_the_best_head_is_gone_on_from(tmp_path: Path, cache: Path) -> None:
    several = train(config(cache, tmp_path / "several", lr=(1e-6, 0.1)))
    best = several / "lr0.1-wd0.0005-seed0"
    one, other = (
        train(config(cache, tmp_path / n, init=str(d), epochs=1))
        for n, d in zip("ab", (several, best), strict=True)
    )
    assert_same(one, other)


def test_a_stopped_run_resumes_to_the_same_end(
    tmp_path: Path, cache: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        """Stands for a signal."""

    settings = {"init": str(run), "dropout": 0.2, "epochs": 5}
    whole = train(config(cache, tmp_path / "whole", **settings))
    moments = itertools.count(1)

    def dies(self: epochs.Checkpoint) -> None:
        self.trainer.save(self.path)
        if next(moments) == 14:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(epochs.Checkpoint, "save_if_due", dies)
        with pytest.raises(Killed):
            train(config(cache, tmp_path / "run", **settings))
    again = train(config(cache, tmp_path / "run", resume=True, **settings))
    assert_same(again, whole)
    assert lines(again) == lines(whole)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"head": "linear"}, "expected a head of the kind linear, found fullnet in"),
        ({"hidden": (6, 5)}, "expected a head with --hidden 6 5, found 6 in"),
        ({"crops": "five"}, "expected a head with --crops five, found ten in"),
        ({"crop_cells": 4}, "expected a head with --crop-cells 4, found None in"),
        ({"folds": 3}, "^--folds: expected heads that begin at random weights, found --init"),
        ({"classes": ("ant", "cow")}, "expected a head of 2 classes, found one of 3 in .*: bee gone; train"),
    ],
)
def test_a_head_of_another_shape_is_refused_before_a_run_is_made(
    tmp_path: Path, cache: Path, run: Path, changed: dict, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        train(config(cache, tmp_path / "run", init=str(run), **changed))
    assert not (tmp_path / "run").exists()


def test_maps_of_another_shape_trunk_or_kind_are_refused(tmp_path: Path, cache: Path, run: Path) -> None:
    wide = write_cache(tmp_path / "wide", shape=(4, 6, 6))
    with pytest.raises(ConfigError, match="expected a head for maps of 4×6×6, found 4×5×5 in"):
        train(config(wide, tmp_path / "run", init=str(run)))
    halves = write_cache(tmp_path / "halves", dtype="float16")
    with pytest.raises(
        ConfigError, match=r'on maps made otherwise than .*: dtype: "float32" → "float16"; give'
    ):
        train(config(halves, tmp_path / "run", init=str(run)))
    several = write_multilabel_cache(tmp_path / "several")
    with pytest.raises(ConfigError, match="expected a head for several labels for each image, found one"):
        train(config(several, tmp_path / "run", init=str(run)))


def test_new_classes_are_refused_and_the_advice_goes_on_with_the_known(tmp_path: Path, run: Path) -> None:
    more = of_classes(tmp_path / "more", ("ant", "bee", "cow", "dog"))
    with pytest.raises(
        ConfigError, match=r"of 4 classes, found one of 3 in .*: dog new; --classes ant bee cow has"
    ):
        train(config(more, tmp_path / "run", init=str(run)))
    train(config(more, tmp_path / "run", init=str(run), classes=CLASSES))


def test_heads_that_are_computed_at_once_have_no_beginning(tmp_path: Path, cache: Path, run: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"init: has no effect on logistic, only on linear, fullnet.*leave it"
    ):
        SweepConfig(cache=str(cache), out=str(tmp_path / "run"), head=("logistic",), init=str(run))


def test_a_sweep_that_one_group_of_can_not_go_on_trains_none(tmp_path: Path, cache: Path, run: Path) -> None:
    shapes = SweepConfig(
        cache=str(cache), out=str(tmp_path / "run"), hidden_shapes=("6", "7"), init=str(run), device="cpu"
    )
    with pytest.raises(ConfigError, match="expected a head with --hidden 7, found 6 in"):
        sweep(shapes)
    assert not (tmp_path / "run").exists()


def test_a_missing_run_is_named(tmp_path: Path, cache: Path) -> None:
    with pytest.raises(RunError, match=r"nowhere: no run there; train_head\.py --out"):
        train(config(cache, tmp_path / "run", init=str(tmp_path / "nowhere")))


def test_validation_images_that_the_head_learned_from_are_counted(
    tmp_path: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """On the same cache those of another draw; with the same draw none."""
    first = train(config(cache, tmp_path / "first", val_fraction=0.2))
    train(config(cache, tmp_path / "same", val_fraction=0.2, init=str(first)))
    assert "learned from" not in capsys.readouterr().out
    again = train(config(cache, tmp_path / "again", val_fraction=0.2, data_seed=1, init=str(first)))
    held = json.loads((again / "summary.json").read_text())["val_images"]
    said = capsys.readouterr().out
    rng = [np.random.default_rng(seed) for seed in (0, 1)]
    drawn = [{row for c in range(3) for row in r.permutation(np.arange(c, 90, 3))[:6].tolist()} for r in rng]
    assert held == 18
    assert f"warning: {first} learned from {len(drawn[1] - drawn[0])} of the 18 validation images: " in said
