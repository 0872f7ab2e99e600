"""One command leaves what the three commands leave, and goes on wherever it was stopped."""

import contextlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline import (
    EvaluateConfig,
    ExtractConfig,
    RunConfig,
    SweepConfig,
    evaluate,
    extract,
    run,
    train_heads,
)
from pipeline.cli import parse
from pipeline.errors import ConfigError

CODE = """
from pathlib import Path
from torch import nn
import torch

class Watched(nn.Conv2d):
    def forward(self, images):
        with Path("batches").open("a") as file:
            file.write(f"{len(images)}\\n")
        if len(images) > 1 and Path("stop").exists():
            Path("stop").unlink()
            raise KeyboardInterrupt
        return super().forward(images)

def small():
    torch.manual_seed(0)
    module = nn.Sequential(Watched(3, 6, 5, 5), nn.ReLU())
    module.image_px, module.mean, module.std = 25, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
    return module
"""
SETTINGS: dict[str, Any] = {"dataset": "folder:photos", "trunk": "mine.py:small", "image_px": 25}
HEADS: dict[str, Any] = {"head": ("fullnet", "logistic"), "hidden": (8,), "epochs": 3}
OF_PLACE = {"seconds", "images_per_second", "resume", "path", "cache_path"}
"""What files say of where and how they were made."""


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, rng = tmp_path_factory.mktemp("chain"), np.random.default_rng(0)
    for split, count in (("train", 40), ("test", 10)):
        for name, colour in (("ants", 100), ("bees", 125)):
            (place := folder / "photos" / split / name).mkdir(parents=True)
            for i in range(count):
                pixels = np.clip(rng.normal(colour, 50, (25, 25, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(place / f"{i:02}.png")
    return folder


def seen_from(folder: Path, photos: Path) -> Path:
    """A folder with the photos and the trunk in it."""
    (folder / "photos").symlink_to(photos / "photos")
    (folder / "mine.py").write_text(CODE)
    return folder


@pytest.fixture
def place(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Such a folder, which the test works in."""
    monkeypatch.chdir(tmp_path)
    return seen_from(tmp_path, photos)


@pytest.fixture(scope="module")
def whole(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What one command leaves."""
    folder = seen_from(tmp_path_factory.mktemp("whole"), photos)
    with contextlib.chdir(folder):
        run(RunConfig(**SETTINGS, **HEADS))
    return left(folder)


def without_place(value: Any) -> Any:
    if isinstance(value, list):
        return [without_place(each) for each in value]
    if isinstance(value, dict):
        return {name: without_place(each) for name, each in value.items() if name not in OF_PLACE}
    return value


def left(folder: Path) -> dict[str, Any]:
    """All files below, by name: JSON without times and places, others as bytes. (A stamp is full of times,
    and arrays of predictions name their cache.)"""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("artifacts/**/*")):
        name = str(path.relative_to(folder))
        if path.suffix == ".json":
            found[name] = without_place(json.loads(path.read_text()))
        elif path.suffix == ".jsonl":
            found[name] = without_place([json.loads(line) for line in path.read_text().splitlines()])
        elif path.suffix == ".npz":
            with np.load(path) as arrays:
                found[name] = {key: arrays[key].tolist() for key in arrays if key != "cache_path"}
        elif path.is_file():
            found[name] = path.read_bytes() if path.suffix != ".stamp" else None
    return found


def three(**heads: Any) -> Path:
    cache = extract(ExtractConfig(**SETTINGS))
    return evaluate(EvaluateConfig(run=(str(train_heads(SweepConfig(cache=str(cache), **heads))),)))


def test_one_command_leaves_the_files_of_three(place: Path, whole: dict[str, Any]) -> None:
    three(**HEADS)
    names = {"train.h5", "test.h5", "head.safetensors", "predictions.npz", "confusion.png"}
    assert {Path(name).name for name in whole} >= names
    assert left(place) == whole


def test_a_single_head_is_where_the_three_look_for_it(place: Path) -> None:
    """And all of them find done what one command did."""
    scores = run(RunConfig(**SETTINGS, head=("logistic",)))
    before = left(place)
    assert three(head=("logistic",)) == scores
    assert left(place) == before


def test_what_is_done_is_not_done_again(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = RunConfig(**SETTINGS, **HEADS)
    run(config)
    before = left(place)
    Path("batches").unlink()
    made = [path for path in place.rglob("*") if path.suffix in (".h5", ".safetensors")]
    times = [path.stat().st_mtime_ns for path in made]
    capsys.readouterr()
    run(config)
    assert left(place) == before
    assert times == [path.stat().st_mtime_ns for path in made]
    assert set(Path("batches").read_text().split()) <= {"1", "2"}  # to prepare it, and to see the shape
    assert capsys.readouterr().out.count("up to date") == 4  # two splits, two heads


def interrupt(*_: Any, **__: Any) -> Any:
    raise KeyboardInterrupt


@pytest.mark.fault("Ctrl-C in each stage of a single command")
@pytest.mark.parametrize(
    "stopped",
    ["extracting", "pipeline.training.epochs:_figures", "pipeline.evaluation.stage:plot_confusion"],
)
def test_the_same_command_goes_on_where_it_was_stopped(
    place: Path, whole: dict[str, Any], stopped: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = RunConfig(**SETTINGS, **HEADS)
    with monkeypatch.context() as patch:
        if stopped == "extracting":
            Path("stop").touch()
        else:
            module, _, name = stopped.partition(":")
            patch.setattr(f"{module}.{name}", interrupt)
            patch.setattr("pipeline.training.epochs.CHECKPOINT_SECONDS", -1)
        with pytest.raises(KeyboardInterrupt):
            run(config)
    assert left(place) != whole
    run(config)
    assert left(place) == whole


def test_a_flag_that_two_stages_have_is_the_head_s() -> None:
    flags = "--seed 1 2 --batch 64 --precision float64 --trunk-batch 8 --views-seed 3 --views augment:2"
    config = parse(RunConfig, "run.py", [*flags.split(), "--head", "fullnet", "--device", "cpu"])
    made, heads = config.extraction(), config.training()
    assert (made.seed, made.batch, made.precision, made.views, made.device) == (
        3,
        8,
        "auto",
        "augment:2",
        "cpu",
    )
    assert (heads.seed, heads.batch, heads.precision, heads.device) == ((1, 2), 64, "float64", "cpu")
    assert (heads.cache, heads.run_dir) == (str(made.cache_dir), SweepConfig(cache=heads.cache).run_dir)
    assert config.evaluation(heads.run_dir).device == "cpu"


@pytest.mark.parametrize("trunk", ["torchvision:resnet18@layer2,layer3", "torchvision:resnet18@?"])
def test_several_layers_are_refused(trunk: str) -> None:
    with pytest.raises(
        ConfigError, match=r"^RunConfig\.trunk: expected one layer, found .*compare_trunks\.py"
    ):
        RunConfig(trunk=trunk)


def test_what_a_stage_refuses_is_refused_before_anything_is_done() -> None:
    with pytest.raises(ConfigError, match=r"dropout: has no effect on logistic"):
        RunConfig(head=("logistic",), dropout=0.5)
