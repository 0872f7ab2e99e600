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
from pipeline.pretraining.stage import pretrain
from pipeline.training.stage import train

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


@pytest.mark.parametrize("where", ["prepared", "streamed"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("write", [write_cache, write_multilabel_cache])
@pytest.mark.parametrize("name", list(HEADS))
def test_a_head_learns_on_a_gpu_what_it_learns_on_a_cpu(
    name: str, write: Any, precision: str, where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if where == "streamed":
        monkeypatch.setattr("pipeline.training.stage.free_bytes", lambda device: (device.type == "cpu") << 40)
    cache = write(tmp_path)
    runs = [
        train(config(cache, tmp_path / place, head=name, precision=precision, device=device))
        for place, device in (("cpu", "cpu"), ("gpu", GPU))
    ]
    scores = [json.loads((run / "summary.json").read_text()) for run in runs]
    (score,) = [key for key in scores[0] if key in ("val_top1", "val_map")]
    assert scores[1][score] == pytest.approx(scores[0][score], abs=12)
    if name not in ("knn", "logistic"):
        losses = [[line["train_loss"] for line in lines(run)] for run in runs]
        assert losses[1] == pytest.approx(losses[0], rel=5e-2 if precision == "bfloat16" else 1e-2)


def test_a_network_is_trained_on_a_gpu(photos: Path, tmp_path: Path) -> None:
    run = PretrainConfig(
        dataset=f"folder:{photos}", out=str(tmp_path), epochs=2, batch=16, device=GPU, workers=1
    )
    assert pretrain(run).is_file()
    assert all(np.isfinite(line["loss"]) for line in lines(tmp_path))
