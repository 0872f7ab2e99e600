"""Stage two from a cache to a run folder."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from support.toy import config, write_cache
from support.trained import assert_same, lines, weights

from cache import FeatureCache
from pipeline.errors import RunError
from pipeline.runs.folder import load_head
from pipeline.training.stage import train


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cache(tmp_path_factory.mktemp("cache"))


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
    settings = config(
        cache, tmp_path / "run", head="linear", val_fraction=0.0, epochs=3, batch=90, lr=(0.1,), seed=(4,)
    )
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
            group["lr"] = share * 0.1
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(layer(pooled), torch.tensor(data.labels)).backward()
        norms.append(torch.nn.utils.clip_grad_norm_(layer.parameters(), 0.5))
        optimizer.step()
    assert max(norms) > 0.5  # so that clipping is tested, too
    found = weights(run)
    torch.testing.assert_close(found["head.weight"][0].T, layer.weight.detach(), rtol=0, atol=1e-6)
    torch.testing.assert_close(found["head.bias"][0], layer.bias.detach(), rtol=0, atol=1e-6)


def test_the_best_epoch_is_kept_and_without_validation_the_last(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    noisy = write_cache(tmp_path / "noisy", noise=6.0)
    run = train(config(noisy, tmp_path / "run", epochs=6, val_fraction=0.3, lr=(0.3,)))
    scores = [(line["val_top1"], -line["val_loss"]) for line in lines(run)]
    summary = json.loads((run / "summary.json").read_text())
    assert f"after {summary['best_epoch']} of 6 epochs" in capsys.readouterr().out
    assert [line["epoch"] for line in lines(run)] == [1, 2, 3, 4, 5, 6]
    assert summary["best_epoch"] == 1 + scores.index(max(scores))
    assert (summary["val_top1"], -summary["val_loss"]) == max(scores)
    last = train(config(noisy, tmp_path / "last", epochs=6, val_fraction=0.0))
    assert json.loads((last / "summary.json").read_text())["best_epoch"] == 6


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
        RunError, match=r"holds a sweep; name the folder of one of its heads, leaderboard\.js"
    ):
        load_head(run)
    assert load_head(run / board["heads"][0]["folder"]).config.lr == (board["heads"][0]["lr"],)
