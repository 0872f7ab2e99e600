"""Pretraining on a few images: resumed equals uninterrupted, other settings are refused."""

import json
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from support.no_room import no_room
from support.pretraining import dark_and_light, die_after, settings
from torch import Tensor, nn

from cache import FeatureCache
from pipeline.config import EvaluateConfig, ExtractConfig
from pipeline.datasets.base import ImageSplit
from pipeline.errors import ConfigError, RunError, WeightsError
from pipeline.evaluation.stage import evaluate
from pipeline.extraction.stage import extract
from pipeline.pretraining import stage
from pipeline.pretraining.loop import PretrainingLoop
from pipeline.pretraining.score import load_network, read_settings
from pipeline.pretraining.stage import pretrain
from pipeline.trunks.alexnet_cifar import load
from pipeline.trunks.base import normalise


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return dark_and_light(tmp_path_factory.mktemp("images"))


@pytest.fixture
def killed_after_two(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    die_after(2, monkeypatch)
    yield
    monkeypatch.undo()


def test_a_resumed_run_ends_with_the_bytes_of_an_uninterrupted_one(
    images: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    killed_after_two: None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(KeyboardInterrupt):
        pretrain(settings(images, tmp_path / "resumed"))
    monkeypatch.undo()
    resumed = pretrain(settings(images, tmp_path / "resumed"))
    assert "resuming after epoch 2\n" in "".join(capsys.readouterr())
    whole = pretrain(settings(images, tmp_path / "whole"))
    assert resumed.read_bytes() == whole.read_bytes()
    assert len((tmp_path / "resumed/metrics.jsonl").read_text().splitlines()) == 3
    assert load(whole).module is not None


@pytest.mark.parametrize("fails", ["checkpoint", "weights"])
def test_a_disk_that_is_full_costs_one_line_and_no_epoch_is_logged_twice(
    fails: str, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if fails == "weights":
        save = PretrainingLoop.save
        monkeypatch.setattr(
            PretrainingLoop, "save", lambda *args: (save(*args), signal.raise_signal(signal.SIGINT))
        )
        with pytest.raises(KeyboardInterrupt):
            pretrain(settings(images, tmp_path, epochs=1))
        monkeypatch.undo()
    before = {path.name for path in tmp_path.iterdir()} | {"config.json", "metrics.jsonl"}
    said = r"(checkpoint|classifier)\.safetensors: can't be written: "
    with no_room(200_000), pytest.raises(WeightsError, match=said) as caught:
        pretrain(settings(images, tmp_path, epochs=1))
    assert "\n" not in str(caught.value)
    assert {path.name for path in tmp_path.iterdir()} == before
    done = pretrain(settings(images, tmp_path, epochs=1))
    assert load(done).module is not None
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 1


def test_the_whole_network_is_scored_under_each_policy(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pretrain(settings(images, tmp_path / "run", epochs=12))
    evaluate(EvaluateConfig(run=(str(tmp_path / "run"),), draws=2, decoders=1))
    said = capsys.readouterr().out
    for policy in ("plain", "flip", "crop-flip"):
        assert f"test images {policy}" in said
    assert "top-1 100.00" in said  # dark and light are easily told apart


def test_a_trunk_of_another_shape_loads_wherever_weights_are_given_and_is_scored(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shape = {"widths": (6, 10, 8), "stage_layers": 3}
    out = pretrain(settings(images, tmp_path / "run", epochs=1, **shape))
    trunk = load(out)
    assert trunk.facts == {"widths": [6, 10, 8], "stage_layers": 3}
    weights = sum(p.numel() for p in trunk.module.parameters())
    assert f"{weights:,} parameters up to maps of 8×5×5, " in capsys.readouterr().out
    scored = evaluate(EvaluateConfig(run=(str(tmp_path / "run"),), draws=1, decoders=1))
    assert json.loads(scored.read_text())["images"] == 16
    with pytest.raises(RunError, match=r"made with --widths 6 10 8, not 6 10 12; give another --out"):
        pretrain(settings(images, tmp_path / "run", epochs=1, widths=(6, 10, 12), stage_layers=3))
    with pytest.raises(ConfigError, match=r"expected three, one for each stage, found 6 10"):
        settings(images, tmp_path / "run", widths=(6, 10))


def test_test_images_that_the_network_was_given_are_counted_and_refused(tmp_path: Path) -> None:
    images, run = dark_and_light(tmp_path / "images"), tmp_path / "run"
    for name in ("dark/0.png", "light/5.png"):
        shutil.copy(images / "train" / name, images / "test" / name.replace(".png", "-again.png"))
    pretrain(settings(images, run, epochs=1))
    with pytest.raises(RunError, match=r"2 of 18 test images .* on, test/dark/0-again\.png is the first"):
        evaluate(EvaluateConfig(run=(str(run),), draws=2, decoders=1))
    scores = json.loads(
        evaluate(EvaluateConfig(run=(str(run),), draws=2, decoders=1, allow_trained_on=True)).read_text()
    )
    assert scores["trained_on"] == 2
    (images / "train/dark/0.png").unlink()  # nobody knows by now what it was given
    assert json.loads(evaluate(EvaluateConfig(run=(str(run),), draws=2)).read_text())["trained_on"] is None


def test_a_network_with_mirrors_scores_a_map_and_its_mirror_alike(images: Path, tmp_path: Path) -> None:
    """As a FullNet on every 3×3 window of both, one window at a time."""
    run = tmp_path / "run"
    pretrain(settings(images, run, epochs=1, mirror_maps=True))
    network = load_network(run, read_settings(run), classes=2)
    pixels = torch.randint(256, (4, 3, 32, 32), dtype=torch.uint8)
    with torch.no_grad():
        logits = network(pixels)
        maps = network.trunk(normalise(pixels, network.transform))
        corners = [(y, x) for y in range(3) for x in range(3)]
        windows = [m[:, :, y : y + 3, x : x + 3] for m in (maps, maps.flip(3)) for y, x in corners]
        expected = torch.stack([network.classifier(window) for window in windows]).mean(0)
        assert torch.allclose(logits, expected, atol=1e-5)
        assert not torch.allclose(logits, network.classifier(maps), atol=1e-3)
        network.trunk = _Mirrored(network.trunk)
        assert torch.allclose(logits, network(pixels), atol=1e-5)


class _Mirrored(nn.Module):
    """A trunk whose maps come out mirrored."""

    def __init__(self, trunk: nn.Module) -> None:
        super().__init__()
        self.trunk = trunk

    def forward(self, images: Tensor) -> Tensor:
        return self.trunk(images).flip(3)


def test_no_image_of_the_test_cache_was_trained_on(
    images: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder without a test split, divided alike by both stages, whatever their seeds."""
    folder, read = images / "train", set[str]()
    load_images = stage.load_images

    def noted(split: ImageSplit, *rest: Any) -> Tensor:
        read.update(split.paths)
        return load_images(split, *rest)

    monkeypatch.setattr(stage, "load_images", noted)
    pretrain(settings(folder, tmp_path / "trunk", epochs=1, seed=5, test_fraction=0.3))
    cache = ExtractConfig(
        dataset=f"folder:{folder}", weights=str(weights), cache=str(tmp_path / "c"), seed=7, test_fraction=0.3
    )
    extract(cache)
    train, test = (set(FeatureCache(tmp_path / f"c/{name}.h5").paths) for name in ("train", "test"))
    assert len(test) == 14
    assert read == train
