"""Pretraining on a few images: resumed equals uninterrupted, other settings are refused."""

import json
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from no_room import no_room
from PIL import Image
from torch import Tensor, nn

from cache import FeatureCache
from pipeline import pretrain as stage
from pipeline.config import EvaluateConfig, ExtractConfig, PretrainConfig
from pipeline.datasets.base import ImageSplit
from pipeline.errors import RunError, UserError
from pipeline.evaluate import evaluate
from pipeline.extract import extract
from pipeline.network import normalise
from pipeline.pretrain import pretrain
from pipeline.pretraining import Trainer
from pipeline.splits import holdout, select_classes
from pipeline.test_policies import load_network
from pipeline.trunks.alexnet_cifar import load


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes that differ in brightness, 24 training and 8 test images each."""
    root, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for split, count in (("train", 24), ("test", 8)):
        for low, name in ((0, "dark"), (128, "light")):
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(low, low + 128, (32, 32, 3), np.uint8)
                Image.fromarray(pixels).save(root / split / name / f"{i}.png")
    return root


def settings(images: Path, out: Path, **other: object) -> PretrainConfig:
    fields = {"epochs": 3, "batch": 16, "lr": 0.02, "workers": 1, "precision": "float32", **other}
    return PretrainConfig(dataset=f"folder:{images}", out=str(out), **fields)  # type: ignore[arg-type]


@pytest.fixture
def killed_after_two(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The process dies once the second epoch's checkpoint is written."""
    save = Trainer.save

    def save_and_die(self: Trainer, path: Path, epoch: int) -> None:
        save(self, path, epoch)
        if epoch == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, "save", save_and_die)
    yield
    monkeypatch.undo()


def test_a_resumed_run_ends_with_the_bytes_of_an_uninterrupted_one(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed_after_two: None
) -> None:
    with pytest.raises(KeyboardInterrupt):
        pretrain(settings(images, tmp_path / "resumed"))
    monkeypatch.undo()
    resumed = pretrain(settings(images, tmp_path / "resumed"))
    whole = pretrain(settings(images, tmp_path / "whole"))
    assert resumed.read_bytes() == whole.read_bytes()
    assert len((tmp_path / "resumed/metrics.jsonl").read_text().splitlines()) == 3
    assert load(whole).module is not None


@pytest.mark.parametrize("fails", ["checkpoint", "weights"])
def test_a_disk_that_is_full_costs_one_line_and_no_epoch_is_logged_twice(
    fails: str, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if fails == "weights":
        save = Trainer.save
        monkeypatch.setattr(Trainer, "save", lambda *args: (save(*args), signal.raise_signal(signal.SIGINT)))
        with pytest.raises(KeyboardInterrupt):
            pretrain(settings(images, tmp_path, epochs=1))
        monkeypatch.undo()
    before = {path.name for path in tmp_path.iterdir()} | {"config.json", "metrics.jsonl"}
    said = r"(checkpoint\.pt|classifier\.safetensors): can't be written .*the same command goes on"
    with no_room(200_000), pytest.raises(RunError, match=said) as caught:
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
    evaluate(EvaluateConfig(run=(str(tmp_path / "run"),), draws=2, workers=1))
    said = capsys.readouterr().out
    for policy in ("plain", "flip", "crop-flip"):
        assert f"test images {policy}" in said
    assert "top-1 100.00" in said  # dark and light are easily told apart


def test_a_network_with_mirrors_scores_a_map_and_its_mirror_alike(images: Path, tmp_path: Path) -> None:
    """As a FullNet on every 3×3 window of both, one window at a time."""
    run = tmp_path / "run"
    pretrain(settings(images, run, epochs=1, mirror_maps=True))
    trained = PretrainConfig.from_json(
        {k: v for k, v in json.loads((run / "config.json").read_text()).items() if k != "stage"}
    )
    network = load_network(run, trained, classes=2)
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


def test_other_settings_in_the_same_folder_are_refused_by_flag(images: Path, tmp_path: Path) -> None:
    pretrain(settings(images, tmp_path, epochs=1))
    pretrain(settings(images, tmp_path, epochs=1))  # up to date
    with pytest.raises(RunError, match="--weight-decay"):
        pretrain(settings(images, tmp_path, epochs=1, weight_decay=0.1))


def test_a_setting_that_a_run_does_not_know_was_off(images: Path, tmp_path: Path) -> None:
    pretrain(settings(images, tmp_path, epochs=1))
    described = json.loads((tmp_path / "config.json").read_text())
    del described["mirror_maps"]
    (tmp_path / "config.json").write_text(json.dumps(described))
    pretrain(settings(images, tmp_path, epochs=1))  # up to date
    with pytest.raises(RunError, match="--mirror-maps False, not True"):
        pretrain(settings(images, tmp_path, epochs=1, mirror_maps=True))
    assert json.loads((tmp_path / "config.json").read_text()) == described


def test_a_damaged_config_is_refused_by_name(images: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").touch()
    with pytest.raises(RunError, match=r"config\.json: can't be read as JSON"):
        pretrain(settings(images, tmp_path))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(RunError, match=r"config\.json: lacks the stage that made it"):
        pretrain(settings(images, tmp_path))


@pytest.mark.parametrize("wrong", [{"weights": "nowhere.safetensors"}, {"classes": ("dark", "blue")}])
def test_a_wrong_flag_leaves_the_folder_to_the_right_one(
    images: Path, tmp_path: Path, wrong: dict[str, Any]
) -> None:
    with pytest.raises(UserError):
        pretrain(settings(images, tmp_path, epochs=1, **wrong))
    assert pretrain(settings(images, tmp_path, epochs=1)).is_file()


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


def test_a_damaged_checkpoint_is_refused_by_name(images: Path, tmp_path: Path) -> None:
    done = pretrain(settings(images, tmp_path, epochs=1))
    shutil.move(done, tmp_path / "checkpoint.pt")  # safetensors are no checkpoint
    with pytest.raises(RunError, match=r"checkpoint\.pt: no checkpoint of this run"):
        pretrain(settings(images, tmp_path, epochs=1))


def test_held_out_rows_are_a_share_of_every_class_and_the_same_for_trunk_and_head() -> None:
    labels = np.repeat([0, 1, 2], [100, 10, 1])
    kept, held = holdout(labels, 0.1, seed=3)
    assert np.bincount(labels[held], minlength=3).tolist() == [10, 1, 0]
    assert sorted([*kept, *held]) == list(range(111))
    assert np.array_equal(held, holdout(labels, 0.1, seed=3)[1])
    assert not np.array_equal(held, holdout(labels, 0.1, seed=4)[1])


def test_selected_classes_are_numbered_as_asked() -> None:
    rows, labels = select_classes(np.array([0, 1, 2, 2, 1]), ["a", "b", "c"], ["c", "a"])
    assert rows.tolist() == [0, 2, 3]
    assert labels.tolist() == [1, 0, 0]
