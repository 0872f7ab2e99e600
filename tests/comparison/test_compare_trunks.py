"""Trunks and layers are compared on maps and scores that each has alone, after one pass per network."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cache import FeatureCache
from pipeline import (
    CompareTrunksConfig,
    EvaluateConfig,
    ExtractConfig,
    SweepConfig,
    compare_trunks,
    evaluate,
    extract,
    train_heads,
)
from pipeline.errors import ConfigError

CODE = """
from pathlib import Path
from torch import nn
import torch

class Counting(nn.Conv2d):
    def forward(self, images):
        with Path(__file__).with_name("seen").open("a") as file:
            file.write(f"{len(images)}\\n")
        return super().forward(images)

def small():
    torch.manual_seed(0)
    layers = Counting(3, 4, 3, 2), nn.ReLU(), nn.Conv2d(4, 6, 3, 2), nn.ReLU(), nn.Conv2d(6, 8, 3)
    module = nn.Sequential(*layers)
    module.image_px, module.mean, module.std = 24, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
    return module

def other():
    torch.manual_seed(1)
    return nn.Conv2d(3, 5, 5, 5)
"""
IMAGES = 60  # of each of two classes


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(CODE)
    rng = np.random.default_rng(0)
    for split, count in (("train", IMAGES), ("test", 10)):
        for name, colour in (("ants", 100), ("bees", 120)):
            folder = Path("photos", split, name)
            folder.mkdir(parents=True)
            for i in range(count):
                photo = np.clip(rng.normal(colour, 50, (24, 24, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(photo).save(folder / f"{i:02}.png")
    return tmp_path


def config(*trunks: str, **others: object) -> CompareTrunksConfig:
    flags = {"dataset": "folder:photos", "out": "out", "image_px": 24, **others}
    return CompareTrunksConfig(trunk=trunks, **flags)  # type: ignore[arg-type]


def table(path: str = "out/trunks.json") -> dict:
    return json.loads(Path(path).read_text())


def test_layers_get_the_maps_and_scores_that_they_have_alone(capsys: pytest.CaptureFixture[str]) -> None:
    compare_trunks(config("mine.py:small@0,2", "mine.py:other", "mine.py:small@4"))
    found = table()
    assert capsys.readouterr().out.count("minus the first") == 1
    assert len(found["heads"]) == 8
    for spec in ("mine.py:small@0", "mine.py:small@2", "mine.py:small@4", "mine.py:other"):
        alone = extract(ExtractConfig(dataset="folder:photos", trunk=spec, image_px=24, cache="alone"))
        ours, theirs = (
            FeatureCache(Path(folder, "train.h5")) for folder in (found["trunks"][spec]["cache"], alone)
        )
        assert ours.key == theirs.key
        assert np.array_equal(ours.features, theirs.features)
        assert found["trunks"][spec]["map_shape"] == list(theirs.shape[2:])
        assert found["trunks"][spec]["bytes_per_image"] == theirs[0].features.nbytes
        run = train_heads(SweepConfig(cache=str(alone), head=("logistic", "knn"), out="alone/heads"))
        scores = {
            h["group"]: h["val_top1"] for h in json.loads((run / "leaderboard.json").read_text())["heads"]
        }
        there = {row["group"]: row["val_top1"] for row in found["heads"] if row["trunk"] == spec}
        assert there == {f"{spec} {head}": score for head, score in scores.items()}
        for path in sorted(Path("alone").rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()


def test_the_first_is_the_best_and_the_others_are_compared_with_it() -> None:
    compare_trunks(config("mine.py:small@0,4", "mine.py:other"))
    rows = table()["heads"]
    scores = [row["val_top1"] for row in rows]
    assert scores == sorted(scores, reverse=True)
    assert rows[0]["minus_first"] is None
    for row in rows[1:]:
        minus = row["minus_first"]
        assert minus["difference"] == pytest.approx(row["val_top1"] - rows[0]["val_top1"])
        assert minus["low"] <= minus["difference"] <= minus["high"]


def counted(*layers: str) -> int:
    """How many images the network has seen in a comparison of layers."""
    Path("seen").unlink(missing_ok=True)
    compare_trunks(config(*layers, out=f"out{len(layers)}"))
    return sum(map(int, Path("seen").read_text().split()))


def test_four_layers_take_one_forward_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.comparison.cost.RUNS", 1)
    images = 2 * (IMAGES + 10)
    one, four = counted("mine.py:small@0"), counted(*(f"mine.py:small@{layer}" for layer in (0, 2, 3, 4)))
    # Each layer takes two batches of 32 to be timed, and a few images to look at it and check its maps.
    assert one >= images
    assert four - one < 3 * (2 * 32 + 40) < 3 * images
    assert len(table("out4/trunks.json")["trunks"]) == 4


def test_a_trunk_that_cannot_be_had_is_refused_before_images_are_read() -> None:
    with pytest.raises(ConfigError, match=r"mine.py"):
        compare_trunks(config("mine.py:small@0", "mine.py:absent"))
    with pytest.raises(ConfigError, match=r"--trunk: mine.py:small: its layer 4 is named twice"):
        compare_trunks(config("mine.py:small@4", "mine.py:small@0,4"))
    with pytest.raises(ConfigError, match=r"@\? lists layers and compares none"):
        config("mine.py:small@?")
    assert not Path("out/caches").exists()


def test_the_winner_is_what_evaluate_scores_and_the_command_can_be_repeated() -> None:
    compare_trunks(config("mine.py:small@0", "mine.py:other", folds=3))
    first = table()
    run = evaluate(EvaluateConfig(run=("out/heads",)))
    assert run is not None
    best = json.loads(Path("out/heads/leaderboard.json").read_text())["heads"][0]
    assert (Path("out/heads") / best["folder"] / "eval/metrics.json").exists()
    times = {path: path.stat().st_mtime_ns for path in Path("out/caches").rglob("*.h5")}
    compare_trunks(config("mine.py:small@0", "mine.py:other", folds=3))
    assert table()["heads"] == first["heads"]
    assert {path: path.stat().st_mtime_ns for path in Path("out/caches").rglob("*.h5")} == times
