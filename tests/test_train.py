"""Stage two from a cache to a run folder."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from toy import CLASSES, config, write_cache

from cache import CacheError, FeatureCache
from pipeline import train as stage
from pipeline.config import TrainConfig
from pipeline.errors import ConfigError, RunError, WeightsError
from pipeline.runs import load_head
from pipeline.train import train


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cache(tmp_path_factory.mktemp("cache"))


def lines(run: Path) -> list[dict]:
    """metrics.jsonl without the seconds."""
    found = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "seconds"} for line in found]


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "head.safetensors")


def assert_same(one: Path, other: Path, tolerance: float = 0.0) -> None:
    first, second = weights(one), weights(other)
    assert first.keys() == second.keys()
    for name in first:
        torch.testing.assert_close(first[name], second[name], rtol=0, atol=tolerance)


@pytest.mark.parametrize("head", ["fullnet", "linear"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_learnable_problem_is_learned_completely(
    tmp_path: Path, cache: Path, head: str, precision: str
) -> None:
    run = train(
        config(cache, tmp_path / "run", head=head, hidden=(32,), epochs=30, precision=precision, lr=(0.3,))
    )
    loaded, data = load_head(run), FeatureCache(cache / "train.h5")
    predicted = loaded.logits(torch.from_numpy(data.take(np.arange(90), view=None))).argmax(1)
    assert (predicted.numpy() == data.labels).mean() == 1
    assert json.loads((run / "summary.json").read_text())["val_top1"] == 100


def test_a_run_is_repeated_exactly(tmp_path: Path, cache: Path) -> None:
    one, other = (train(config(cache, tmp_path / name, dropout=0.3)) for name in "ab")
    assert lines(one) == lines(other)
    assert_same(one, other)


@pytest.mark.parametrize("hidden", [(6,), (6, 5)])
def test_each_head_of_a_stack_ends_as_in_its_own_run(
    tmp_path: Path, cache: Path, hidden: tuple[int, ...]
) -> None:
    grid = {"lr": (0.1, 0.02), "weight_decay": (0.0, 0.01), "seed": (3, 5)}
    together = train(config(cache, tmp_path / "all", dropout=0.2, hidden=hidden, **grid))
    for lr, decay, seed in [(0.1, 0.0, 5), (0.02, 0.01, 3)]:
        alone = train(
            config(
                cache,
                tmp_path / f"{lr}",
                dropout=0.2,
                hidden=hidden,
                lr=(lr,),
                weight_decay=(decay,),
                seed=(seed,),
            )
        )
        member = together / f"lr{lr:g}-wd{decay:g}-seed{seed}"
        assert_same(member, alone, tolerance=1e-10)
        assert [line["val_top1"] for line in lines(member)] == [line["val_top1"] for line in lines(alone)]


def test_training_is_torchs_own_sgd(tmp_path: Path, cache: Path) -> None:
    """The head's weights after three epochs equal those of a plain loop with torch.optim.SGD."""
    settings = config(cache, tmp_path / "run", head="linear", val_fraction=0.0, epochs=3, batch=90, seed=(4,))
    run = train(settings)
    data = FeatureCache(cache / "train.h5")
    maps = torch.from_numpy(data.take(np.arange(90))).double()
    std, mean = torch.std_mean(maps, dim=(0, 2, 3), correction=0, keepdim=True)
    pooled = ((maps - mean) / std).mean((2, 3))
    start = torch.randn(4, 3, generator=torch.Generator().manual_seed(4)) * 4**-0.5
    layer = torch.nn.Linear(4, 3).double()
    with torch.no_grad():
        layer.weight.copy_(start.T)
        layer.bias.zero_()
    groups = [
        {"params": [layer.weight], "weight_decay": settings.weight_decay[0]},
        {"params": [layer.bias], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.SGD(groups, lr=0.0, momentum=0.9, nesterov=True)
    norms: list[torch.Tensor] = []
    for share in (1.0, 2 / 2, 1 / 2):  # a climb of one step, then a fall over two
        for group in optimizer.param_groups:
            group["lr"] = share * settings.lr[0]
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(layer(pooled), torch.tensor(data.labels)).backward()
        norms.append(torch.nn.utils.clip_grad_norm_(layer.parameters(), 0.5))
        optimizer.step()
    assert max(norms) > 0.5  # so that clipping is tested, too
    found = weights(run)
    torch.testing.assert_close(found["head.weight"][0].T, layer.weight.detach(), rtol=0, atol=1e-6)
    torch.testing.assert_close(found["head.bias"][0], layer.bias.detach(), rtol=0, atol=1e-6)


class Killed(BaseException):
    """Stands for a signal."""


@pytest.mark.parametrize("doing", ["epoch", "save"])
@pytest.mark.parametrize("stop_at", [2, 5])
def test_a_resumed_run_ends_as_the_uninterrupted_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, doing: str, stop_at: int
) -> None:
    """Killed in an epoch, or after its line was logged and before its checkpoint was there."""
    noisy = write_cache(tmp_path / "noisy", noise=6.0)
    settings = {"dropout": 0.3, "lr": (0.3, 0.05), "val_fraction": 0.3, "epochs": 7}
    whole = train(config(noisy, tmp_path / "whole", **settings))
    monkeypatch.setattr(stage, "CHECKPOINT_SECONDS", 0.0)
    done = []

    def dies(self: stage.Trainer, *args: object) -> object:
        done.append(args)
        if len(done) > stop_at:
            raise Killed
        return works(self, *args)

    with monkeypatch.context() as patch:
        works = getattr(stage.Trainer, doing)
        patch.setattr(stage.Trainer, doing, dies)
        with pytest.raises(Killed):
            train(config(noisy, tmp_path / "run", **settings))
    with pytest.raises(RunError, match="unfinished run; add --resume"):
        train(config(noisy, tmp_path / "run", **settings))
    run = train(config(noisy, tmp_path / "run", resume=True, **settings))
    best = []
    for member in ("lr0.3-wd0.0005-seed0", "lr0.05-wd0.0005-seed0"):
        assert lines(run / member) == lines(whole / member)
        assert_same(run / member, whole / member)
        best.append(json.loads((run / member / "summary.json").read_text())["best_epoch"])
    assert min(best) < stop_at or stop_at == 2  # so that a best epoch comes out of the checkpoint
    assert not (run / "checkpoint.safetensors").exists()


def test_a_finished_run_is_up_to_date_and_left_alone(
    tmp_path: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = train(config(cache, tmp_path / "run"))
    before = {path.name: path.stat().st_mtime_ns for path in run.iterdir()}
    train(config(cache, tmp_path / "run", memory_budget_mb=1, verify=False))
    assert "up to date" in capsys.readouterr().out
    assert {path.name: path.stat().st_mtime_ns for path in run.iterdir()} == before


def test_another_run_in_the_folder_is_refused_by_what_differs(tmp_path: Path, cache: Path) -> None:
    train(config(cache, tmp_path / "run"))
    with pytest.raises(RunError, match=r"--lr 0.1, not 0.3; --epochs 4, not 5; give another --out"):
        train(config(cache, tmp_path / "run", epochs=5, lr=(0.3,)))
    other = write_cache(tmp_path / "other", images=60)
    with pytest.raises(RunError, match="--cache-key"):
        train(config(other, tmp_path / "run"))


def test_the_best_epoch_is_kept_and_without_validation_the_last(tmp_path: Path) -> None:
    noisy = write_cache(tmp_path / "noisy", noise=6.0)
    run = train(config(noisy, tmp_path / "run", epochs=6, val_fraction=0.3, lr=(0.3,)))
    scores = [(line["val_top1"], -line["val_loss"]) for line in lines(run)]
    summary = json.loads((run / "summary.json").read_text())
    assert summary["best_epoch"] == scores.index(max(scores))
    assert (summary["val_top1"], -summary["val_loss"]) == max(scores)
    last = train(config(noisy, tmp_path / "last", epochs=6, val_fraction=0.0))
    assert json.loads((last / "summary.json").read_text())["best_epoch"] == 5


def test_kept_weights_score_what_the_summary_says(tmp_path: Path) -> None:
    noisy = write_cache(tmp_path / "noisy", noise=4.0)
    settings = config(noisy, tmp_path / "run", val_fraction=0.3, crops="five", dropout=0.5, hidden=(32,))
    run = train(settings)
    data, loaded = FeatureCache(noisy / "train.h5"), load_head(run)
    _, val = stage.split(data.labels, data.classes, settings)
    logits = loaded.logits(torch.from_numpy(data.take(val.rows, view=None)))
    top1 = 100 * float((logits.argmax(1).numpy() == val.labels).mean())
    loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(val.labels)).item()
    summary = json.loads((run / "summary.json").read_text())
    assert (top1, loss) == pytest.approx((summary["val_top1"], summary["val_loss"]), rel=1e-4)


def test_classes_are_numbered_in_the_order_given(tmp_path: Path, cache: Path) -> None:
    run = train(config(cache, tmp_path / "run", classes=("cow", "ant"), epochs=20, hidden=(32,)))
    loaded, data = load_head(run), FeatureCache(cache / "train.h5")
    assert loaded.classes == ("cow", "ant")
    cows = np.flatnonzero(data.labels == CLASSES.index("cow"))
    assert (loaded.logits(torch.from_numpy(data.take(cows, view=None))).argmax(1) == 0).all()


def test_a_leaderboard_has_means_and_deviations_over_seeds(tmp_path: Path) -> None:
    noisy = write_cache(tmp_path / "noisy", noise=4.0)
    run = train(config(noisy, tmp_path / "run", val_fraction=0.3, lr=(0.1, 0.01), seed=(0, 1, 2)))
    board = json.loads((run / "leaderboard.json").read_text())
    assert len(board["heads"]) == 6
    for entries in (board["heads"], board["settings"]):
        ranks = [(-entry["val_top1"], entry["val_loss"]) for entry in entries]
        assert ranks == sorted(ranks)
    for setting in board["settings"]:
        scores = [head["val_top1"] for head in board["heads"] if head["lr"] == setting["lr"]]
        assert setting["val_top1"] == pytest.approx(np.mean(scores))
        assert setting["val_top1_std"] == pytest.approx(np.std(scores, ddof=1))
    with pytest.raises(
        RunError, match=f"holds a sweep; name one of its heads, .*{board['heads'][0]['folder']}"
    ):
        load_head(run)
    assert load_head(run / board["heads"][0]["folder"]).config.lr == (board["heads"][0]["lr"],)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"crop_cells": 6}, ConfigError, "--crop-cells: .*5×5"),
        ({"crops": "ten-image"}, ConfigError, "--crops: ten-image needs a cache made with --views mirror"),
        ({"classes": ("dog",)}, ConfigError, "--classes"),
        ({"lr": (1e6,), "hidden": (64,)}, ConfigError, "--lr"),
        ({"cache": "nowhere"}, CacheError, "nowhere/train.h5: no such file"),
    ],
)
def test_mistakes_leave_no_run_behind(
    tmp_path: Path, cache: Path, settings: dict, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        train(config(**{"cache": cache, "out": tmp_path / "run", **settings}))
    assert not (tmp_path / "run").exists()


def test_a_diverged_run_says_so(tmp_path: Path, cache: Path) -> None:
    with pytest.raises(RunError, match=r"not finite .* smaller --lr"):
        train(config(cache, tmp_path / "run", lr=(1000.0,), weight_decay=(10.0,), epochs=30))


def test_damage_in_the_cache_is_found_before_training(tmp_path: Path) -> None:
    folder = write_cache(tmp_path / "cache")
    file = folder / "train.h5"
    with open(file, "r+b") as stream:
        stream.seek(-5000, 2)
        byte = stream.read(1)
        stream.seek(-5000, 2)
        stream.write(bytes([byte[0] ^ 1]))
    with pytest.raises(CacheError, match=r"train\.h5"):
        train(config(folder, tmp_path / "run"))
    train(config(folder, tmp_path / "trusting", verify=False))


@pytest.mark.parametrize("damage", ["truncate", "shape", "missing", "extra"])
def test_damaged_weights_are_refused_by_file(tmp_path: Path, cache: Path, damage: str) -> None:
    run = train(config(cache, tmp_path / "run"))
    path, tensors = run / "head.safetensors", weights(run)
    if damage == "truncate":
        path.write_bytes(path.read_bytes()[:-9])
    else:
        if damage == "missing":
            del tensors["head.weight0"]
        else:
            tensors["head.weight0" if damage == "shape" else "head.spare"] = torch.zeros(3)
        save_file(tensors, path)
    with pytest.raises(WeightsError, match=r"head\.safetensors: "):
        load_head(run)


def test_maps_of_another_shape_are_refused(tmp_path: Path, cache: Path) -> None:
    loaded = load_head(train(config(cache, tmp_path / "run")))
    with pytest.raises(RunError, match="expected maps of 4×5×5 in 1 views, as in training, found 4×6×5"):
        loaded.logits(torch.zeros(2, 1, 4, 6, 5))


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no run there"):
        load_head(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(RunError, match="isn't finished"):
        load_head(tmp_path)
    (tmp_path / "summary.json").write_text("{}")
    with pytest.raises(RunError, match=r"config\.json is not that of a trained head"):
        load_head(tmp_path)


def test_flags_that_take_several_values_want_different_ones() -> None:
    with pytest.raises(ConfigError, match="--lr: expected values that differ"):
        TrainConfig(lr=(0.1, 0.1))
