"""The ablation: settings chosen by validation alone, every head scored, nothing trained twice."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import accuracy_score
from support.brightness import write_images

from experiments.crops.ablation import HEADS, ablate
from experiments.crops.caches import Maps, caches_of
from experiments.crops.config import CropsConfig
from experiments.crops.plots import plot_curves
from experiments.crops.report import as_json, tables
from experiments.crops.results import Result, Variant
from pipeline.config import PretrainConfig
from pipeline.errors import ConfigError, RunError
from pipeline.evaluation.logits import score_run
from pipeline.pretraining.stage import pretrain
from pipeline.runs.leaderboard import choose
from pipeline.runs.stack import Setting

# Coverage is counted where stages have their own tests: tracing makes what trains heads half as long again.
pytestmark = pytest.mark.no_cover


def write_sweep(folder: Path, scores: dict[Setting, tuple[float | None, float | None]]) -> Path:
    """A sweep's leaderboard with one head per setting: (validation top-1, validation loss)."""
    heads = []
    for i, (setting, (top1, loss)) in enumerate(scores.items()):
        (folder / str(i)).mkdir(parents=True)
        (folder / str(i) / "summary.json").write_text(json.dumps({"val_top1": top1, "val_loss": loss}))
        settings = {"lr": setting.lr, "weight_decay": setting.weight_decay, "seed": 0}
        heads.append({"folder": str(i), **settings, "val_top1": top1, "val_loss": loss})
    (folder / "leaderboard.json").write_text(json.dumps({"heads": heads}))
    return folder


def test_the_setting_with_the_best_mean_validation_score_is_chosen(tmp_path: Path) -> None:
    a, b, c = Setting(0.1, 0.0), Setting(0.3, 0.0), Setting(0.1, 0.01)
    first = write_sweep(tmp_path / "1", {a: (90, 1.0), b: (80, 0.1), c: (70, 0.1)})
    second = write_sweep(tmp_path / "2", {a: (60, 1.0), b: (80, 0.1), c: (70, 0.1)})
    assert choose([first], [a, b, c]) == a
    assert choose([first, second], [a, b, c]) == b
    equal = write_sweep(tmp_path / "3", {a: (50, 1.0), b: (50, 0.4), c: (50, 0.9)})
    assert choose([equal], [a, b, c]) == b, "of equal scores the lowest loss"


def test_a_setting_whose_head_diverged_is_not_chosen(tmp_path: Path) -> None:
    fine, first_epoch, never = Setting(0.1, 0.0), Setting(30, 0.0), Setting(1000, 0.0)
    folder = write_sweep(tmp_path, {never: (None, None), first_epoch: (9.8, None), fine: (9.8, 2.3)})
    assert choose([folder], [never, first_epoch, fine]) == fine


def result(head: str, *correct: np.ndarray) -> Result:
    return Result(Variant(Maps("digits", Path()), 0, head, 100, 10), Setting(0.1, 0.0), list(correct))


def test_the_tables_show_means_deviations_and_paired_differences() -> None:
    right = np.zeros((2, 100), np.bool_)
    right[0, :60] = right[1, :70] = True  # 60 and 70 %: 65 ± 7.07
    results = [
        result("ten", *right),
        result("full", right[0], right[0]),
    ]
    text = tables(results)
    assert "| (c) digits | all | 65.00 ± 7.07 | 60.00 ± 0.00 |" in text
    assert "| regime | per class | ten − full |" in text
    assert "+5.00 [" in text


def test_one_seed_has_no_deviation() -> None:
    right = np.zeros(100, np.bool_)
    right[:60] = True
    found = result("ten", right)
    assert "| (c) digits | all | 60.00 |" in tables([found])
    assert as_json([found])[0]["deviation"] is None


def test_the_plot_is_a_png_with_the_same_bytes_each_time(tmp_path: Path) -> None:
    right = np.random.default_rng(0).random((2, 100)) < 0.6
    found = [result(head, *right) for head in ("ten", "full")]
    for name in "ab":
        plot_curves(tmp_path / f"{name}.png", found)
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


@pytest.mark.parametrize("regime", ["same", "transfer"])
def test_images_with_several_labels_are_refused_before_anything_is_made(tmp_path: Path, regime: str) -> None:
    for name in "ab":
        Image.new("RGB", (8, 8)).save(tmp_path / f"{name}.png")
    (tmp_path / "t.csv").write_text("image,labels,split\na.png,cat dog,train\nb.png,cat,test\n")
    config = CropsConfig(dataset=f"csv:{tmp_path / 't.csv'}", out=str(tmp_path / "out"), regime=(regime,))
    with pytest.raises(
        ConfigError, match=r"^--dataset: expected images with one label each, csv:.*t\.csv has"
    ):
        ablate(config)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["regime", "per_class", "lr", "weight_decay"])
def test_values_given_twice_are_refused_before_anything_is_made(name: str) -> None:
    twice: Any = (getattr(CropsConfig(), name)[0],) * 2
    with pytest.raises(ConfigError, match=rf"^CropsConfig.{name}: expected values that differ"):
        CropsConfig(**{name: twice})


def little(out: Path, **other: Any) -> CropsConfig:
    """A quick run on digits in which no head learns anything at the first of two rates."""
    fields: dict[str, Any] = {"regime": ("digits",), "seeds": 2, "lr": (1e-6, 0.1), "weight_decay": (5e-4,)}
    short: dict[str, Any] = {"hidden": (8,), "epochs": 1, "min_steps": 30}
    return CropsConfig(out=str(out), **fields | short | other)


def described(out: Path, head: str, run: str) -> dict[str, Any]:
    """What a run of a variant says of itself: that of its only head, or the one at the second rate."""
    folder = out / "runs" / "digits" / "all" / head / run
    return json.loads(next(iter(sorted(folder.glob("lr0.1*"))), folder).joinpath("config.json").read_text())


@pytest.fixture(scope="module")
def caches(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """OUT/caches with the digits', as an ablation leaves it."""
    out = tmp_path_factory.mktemp("digits")
    assert len(list(caches_of(little(out), "digits"))) == 1
    return out / "caches"


def test_every_head_is_trained_and_scored_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caches: Path
) -> None:
    shutil.copytree(caches, tmp_path / "caches")
    found = json.loads(ablate(little(tmp_path)).read_text())
    assert [line["head"] for line in found["variants"]] == list(HEADS)
    assert (tmp_path / "ablation.md").read_text() in capsys.readouterr().out
    for line in found["variants"]:
        fitted = line["head"] == "logistic"
        assert line["lr"] == (None if fitted else 0.1), "the rate that learns, though it isn't the first"
        runs = [tmp_path / "runs/digits/all" / line["head"] / f"grid-{seed}" for seed in (0, 1)]
        heads = runs if fitted else [run / f"lr0.1-wd0.0005-seed{seed}" for seed, run in enumerate(runs)]
        predictions = [score_run(head) for head in heads]
        expected = [100 * accuracy_score(p.labels, p.logits.argmax(1)) for p in predictions]
        assert line["top1"] == pytest.approx(expected)
        told = described(tmp_path, line["head"], "grid-1")
        assert (told["val_fraction"], told["data_seed"], told["train_images"]) == (0.2, 1, 1151)
    again = json.loads(ablate(little(tmp_path)).read_text())
    assert again["variants"] == found["variants"]
    assert "trained in" not in capsys.readouterr().out


@pytest.mark.parametrize("seeds", [pytest.param(1, marks=pytest.mark.faults), 2])
def test_where_all_images_are_used_the_first_seed_chooses_and_a_tenth_validates(
    seeds: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caches: Path
) -> None:
    shutil.copytree(caches, tmp_path / "caches")
    monkeypatch.setattr(
        "experiments.crops.ablation.REDRAW_UP_TO", 100
    )  # as of a dataset of more than 10,000 images
    monkeypatch.setattr("experiments.crops.ablation.HEADS", ("logistic", "ten"))
    found = json.loads(ablate(little(tmp_path, seeds=seeds)).read_text())
    lines = {line["head"]: line for line in found["variants"]}
    assert {head: len(line["top1"]) for head, line in lines.items()} == {"logistic": 1, "ten": seeds}
    assert lines["ten"]["lr"] == 0.1
    assert lines["logistic"]["ten_minus_this"].startswith(
        f"{lines['ten']['mean'] - lines['logistic']['mean']:+.2f} ["
    )
    told = described(tmp_path, "ten", "grid-0")
    assert (told["val_fraction"], told["train_images"]) == (0.1, 1295)


@pytest.mark.parametrize(("asked", "known", "others"), [((), "ab", "cd"), (("d", "b"), "db", "ac")])
def test_the_trunk_of_other_classes_sees_its_own_alone(
    tmp_path: Path, asked: tuple[str, ...], known: str, others: str
) -> None:
    config = CropsConfig(
        dataset=write_images(tmp_path / "images"), out=str(tmp_path / "out"), regime=("transfer",),
        trunk_out=str(tmp_path / "trunk"), trunk_classes=asked, trunk_seed=3, pretrain_epochs=1,
        mirror_maps=True, per_class=(0,), seeds=1, hidden=(4,), lr=(0.1,), weight_decay=(5e-4,), epochs=1,
        min_steps=1,
    )  # fmt: skip
    found = json.loads(ablate(config).read_text())
    assert [line["head"] for line in found["variants"]] == list(HEADS)
    trunk = json.loads((tmp_path / "trunk" / "config.json").read_text())
    assert trunk["classes"] == list(known)
    assert trunk["mirror_maps"] is True
    assert trunk["seed"] == 3
    run = json.loads(next((tmp_path / "out" / "runs" / "transfer").rglob("config.json")).read_text())
    assert run["classes"] == list(others)


def test_a_trunk_that_was_trained_before_gives_its_classes(tmp_path: Path) -> None:
    dataset, run = write_images(tmp_path / "images"), tmp_path / "trunk"
    with pytest.raises(RunError, match=r"trunk/config\.json: can't be opened"):
        ablate(CropsConfig(dataset=dataset, regime=("transfer",), trunk_run=str(run)))
    recipe = {"epochs": 1, "batch": 16, "widths": (4, 6, 8), "optimizer": "muon", "decoders": 1}
    weights = pretrain(PretrainConfig(dataset=dataset, out=str(run), classes=("d", "b"), **recipe))
    before = weights.read_bytes()
    config = CropsConfig(
        dataset=dataset, out=str(tmp_path / "out"), regime=("transfer",), trunk_run=str(run),
        per_class=(0,), seeds=1, hidden=(4,), lr=(0.1,), weight_decay=(5e-4,), epochs=1, min_steps=1,
    )  # fmt: skip
    ablate(config)
    heads = json.loads(next((tmp_path / "out/runs/transfer").rglob("config.json")).read_text())
    assert heads["classes"] == ["a", "c"]
    assert heads["cache_identity"]["trunk"]["widths"] == [4, 6, 8]
    assert weights.read_bytes() == before
    with pytest.raises(ConfigError, match=r"--trunk-run: .* trained on a, found d, b; "):
        ablate(dataclasses.replace(config, trunk_classes=("a",)))
    others = write_images(tmp_path / "others", seed=1)
    with pytest.raises(ConfigError, match=r"--trunk-run: .*/trunk: .*/others, found one trained on oth"):
        ablate(dataclasses.replace(config, dataset=others))
    (tmp_path / "others/train/d").rename(tmp_path / "others/train/e")
    (tmp_path / "others/test/d").rename(tmp_path / "others/test/e")
    with pytest.raises(ConfigError, match=r"^--trunk-run: expected names out of a, b, c, e, found 'd'"):
        ablate(dataclasses.replace(config, dataset=others))
    went_on = tmp_path / "went-on"
    pretrain(
        PretrainConfig(dataset=dataset, out=str(went_on), classes=("d", "b"), weights=str(weights), **recipe)
    )
    with pytest.raises(
        ConfigError, match=r"--trunk-run: .*/went-on: .* began at .*/trunk\.safetensors, which"
    ):
        ablate(dataclasses.replace(config, trunk_run=str(went_on)))
    all_of_them = tmp_path / "all"
    pretrain(PretrainConfig(dataset=dataset, out=str(all_of_them), **recipe))
    with pytest.raises(ConfigError, match=r"expected a trunk trained on some classes, not all, found one"):
        ablate(dataclasses.replace(config, trunk_run=str(all_of_them)))


@pytest.mark.parametrize("asked", [("a", "x"), tuple("abcd")])
def test_classes_that_leave_no_others_or_are_unknown_are_refused(
    tmp_path: Path, asked: tuple[str, ...]
) -> None:
    config = CropsConfig(
        dataset=write_images(tmp_path / "images"), out=str(tmp_path / "out"), regime=("transfer",),
        trunk_out=str(tmp_path / "trunk"), trunk_classes=asked,
    )  # fmt: skip
    with pytest.raises(ConfigError, match=f"--trunk-classes: .* a, b, c, d, .* {', '.join(asked)}$"):
        ablate(config)
    assert not (tmp_path / "trunk").exists()
