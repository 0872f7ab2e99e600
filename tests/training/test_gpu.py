"""Both stages on a GPU against the same on a CPU."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.extracting import settings
from support.toy import config, write_cache, write_multilabel_cache
from support.trained import lines

from cache import FeatureCache
from pipeline.config import PretrainConfig
from pipeline.extraction.stage import extract
from pipeline.heads import HEADS
from pipeline.pretraining.loop import PretrainingLoop
from pipeline.pretraining.network import Network
from pipeline.pretraining.stage import pretrain
from pipeline.training import stage
from pipeline.training.stage import train
from pipeline.trunks.alexnet_cifar import untrained

GPU = "cuda"
pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")


@pytest.mark.parametrize("precision", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_the_cache_made_on_a_gpu_holds_the_maps_of_a_cpu(
    precision: str, dtype: str, photos: Path, weights: Path, tmp_path: Path
) -> None:
    reference = extract(settings(photos, weights, tmp_path / "cpu", views="mirror", device="cpu"))
    made = extract(
        settings(
            photos, weights, tmp_path / "gpu", views="mirror", device=GPU, precision=precision, dtype=dtype
        )
    )
    for split in ("train.h5", "test.h5"):
        expected, found = (FeatureCache(folder / split).features for folder in (reference, made))
        largest = np.abs(expected).max((2, 3, 4), keepdims=True)
        # Six layers round weights, inputs and outputs, each by at most half a unit in the last of 8 bits.
        near = {"float32": 1e-3, "float16": 4e-3, "bfloat16": 6 * 3 * 2**-9}[precision]
        assert (np.abs(expected - found.astype(np.float32)) / largest).max() < near


PLACES = {"prepared": (1 << 30, 1 << 30), "in RAM": (0, 1 << 30), "on disk": (0, 0)}
"""Where maps are, and how much is free for that on the GPU and in RAM."""


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("write", [write_cache, write_multilabel_cache])
@pytest.mark.parametrize("name", list(HEADS))
def test_heads_learn_on_a_gpu_what_they_learn_on_a_cpu(
    name: str, write: Any, precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their scores differ by less than a point, averaged over five seeds and 300 images to validate. No
    problem is learned completely, so that they could."""
    noise = {"noise": 6.0} if write is write_cache else {}
    cache, fitted = write(tmp_path, images=1000, **noise), HEADS[name].fitted
    settings: dict[str, Any] = {"head": name, "precision": precision, "val_fraction": 0.3, "batch": 32}
    settings["seed"] = (0,) if fitted else (0, 1, 2, 3, 4)
    score, losses = figures(train(config(cache, tmp_path / "cpu", **settings)))
    assert 40 < score < 99
    for place, free in PLACES.items():
        free_there = dict(zip((GPU, "cpu"), free, strict=True))
        monkeypatch.setattr(stage, "free_for_maps", lambda *_, free=free_there: {**free})
        run = train(config(cache, tmp_path / place, **settings | {"device": GPU}))
        found, found_losses = figures(run)
        assert found == pytest.approx(score, abs=1), place
        assert found_losses == pytest.approx(losses, rel=2e-2 if precision == "bfloat16" else 1e-2), place
        described = json.loads(next(run.rglob("config.json")).read_text())["products"]
        assert described == ("TF32" if precision == "float32" and not fitted else precision)
        if fitted:
            break  # it takes all maps at once


def figures(run: Path) -> tuple[float, list[float]]:
    """The validation score, and the training loss of each epoch, averaged over seeds."""
    heads = [file.parent for file in run.rglob("summary.json")]
    found = [json.loads((head / "summary.json").read_text()) for head in heads]
    losses = np.mean([[line.get("train_loss", 0) for line in lines(head)] for head in heads], axis=0)
    return float(np.mean([each.get("val_top1", each.get("val_map")) for each in found])), losses.tolist()


@pytest.mark.parametrize(
    "other", [{}, {"precision": "float32"}, {"precision": "float16"}, {"compile": True}], ids=str
)
def test_a_network_learns_on_a_gpu_what_it_learns_on_a_cpu(
    other: dict[str, Any], photos: Path, tmp_path: Path
) -> None:
    fields = {"dataset": f"folder:{photos}", "epochs": 2, "batch": 16, "lr": 0.01, "decoders": 1}
    here = {"precision": "float32", "device": "cpu"}
    for name, given in (("cpu", here), ("gpu", {"device": GPU, **other})):
        out = str(tmp_path / name)
        assert pretrain(PretrainConfig(out=out, **fields, **given)).is_file()  # type: ignore[arg-type]
    expected, found = ([line["loss"] for line in lines(tmp_path / name)] for name in ("cpu", "gpu"))
    assert found == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("precision", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("images_are_here", [True, False])
def test_a_pass_over_the_images_never_waits_for_the_gpu(precision: str, images_are_here: bool) -> None:
    network = Network(untrained((8, 16, 16), 2), classes=2, hidden=8).to(GPU)
    given = PretrainConfig(batch=16, precision=precision)  # type: ignore[arg-type]
    images = torch.randint(256, (70, 3, 32, 32), dtype=torch.uint8)
    loop = PretrainingLoop(network, given, images, torch.arange(70) % 2, np.arange(70))
    if not images_are_here:
        loop.batches.images, loop.batches.images_are_here = images, False
    loop.epoch(0)  # libraries set themselves up
    torch.cuda.set_sync_debug_mode("error")
    try:
        loop._pass_over(1, lambda images: None)
    finally:
        torch.cuda.set_sync_debug_mode("default")
