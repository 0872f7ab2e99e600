"""Other rates and seeds in the same run folder: only they are trained, and the leaderboard has all."""

from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from support.toy import config, write_cache
from support.trained import board, stamps
from torch.testing import assert_close

from pipeline.config import SweepConfig
from pipeline.errors import RunError
from pipeline.runs.find_run import find_run
from pipeline.runs.folder import load_head
from pipeline.training import trainer
from pipeline.training.stage import train
from pipeline.training.sweep import sweep


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cache(tmp_path_factory.mktemp("cache"), noise=4.0)


def heads(run: Path) -> dict[str, dict[str, Any]]:
    """Head → what the leaderboard says of it, without what depends on how many trained at once."""
    of_pass = {"seconds", "images_per_second", "heads_at_once"}
    return {
        head["folder"]: {k: v for k, v in head.items() if k not in of_pass} for head in board(run)["heads"]
    }


def assert_same_heads(run: Path, other: Path) -> None:
    """In float64, where the size of a stack may round a product otherwise in its last digits."""
    assert heads(run).keys() == heads(other).keys()
    for folder, head in heads(run).items():
        theirs = heads(other)[folder]
        assert {k: v for k, v in head.items() if k != "val_loss"} == {
            k: v for k, v in theirs.items() if k != "val_loss"
        }
        assert head["val_loss"] == pytest.approx(theirs["val_loss"], abs=1e-9)
        for name, values in load_file(run / folder / "head.safetensors").items():
            assert_close(load_file(other / folder / "head.safetensors")[name], values, rtol=0, atol=1e-10)


@pytest.mark.parametrize("first", [{}, {"lr": (0.1, 0.2)}], ids=["a single head", "a stack"])
def test_a_new_rate_and_seed_train_alone_and_end_as_if_trained_at_once(
    first: dict[str, Any], cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = {"val_fraction": 0.3, "lr": (0.1,)} | first
    run = train(config(cache, tmp_path / "run", **flags))
    old = run if flags["lr"] == (0.1,) else run / "lr0.1-wd0.0005-seed0"
    before = (old / "head.safetensors").stat().st_mtime_ns
    wider = {**flags, "lr": (*flags["lr"], 0.05), "seed": (0, 3)}
    capsys.readouterr()
    assert train(config(cache, tmp_path / "run", **wider)) == run
    assert f"{2 * len(wider['lr']) - len(flags['lr'])} heads in one pass" in capsys.readouterr().out
    kept = run / "lr0.1-wd0.0005-seed0"
    assert (kept / "head.safetensors").stat().st_mtime_ns == before
    assert_same_heads(run, train(config(cache, tmp_path / "at once", **wider)))
    assert load_head(kept).config.lr == (0.1,)
    assert find_run(run).parent == run


def test_fewer_heads_than_are_there_are_up_to_date(
    cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = train(config(cache, tmp_path / "run", lr=(0.1, 0.05), seed=(0, 1)))
    before = stamps(run)
    capsys.readouterr()
    assert train(config(cache, run, lr=(0.05,))) == run
    assert capsys.readouterr().out == f"{run}: up to date\n"
    assert stamps(run) == before


def test_a_lost_leaderboard_is_written_from_the_heads_that_are_there(cache: Path, tmp_path: Path) -> None:
    run = train(config(cache, tmp_path / "run", lr=(0.1, 0.05)))
    before, weights = board(run), (run / "lr0.1-wd0.0005-seed0/head.safetensors").stat().st_mtime_ns
    (run / "leaderboard.json").unlink()
    train(config(cache, run, lr=(0.1, 0.05)))
    assert board(run) == before
    assert (run / "lr0.1-wd0.0005-seed0/head.safetensors").stat().st_mtime_ns == weights


def test_other_settings_are_refused_as_before(cache: Path, tmp_path: Path) -> None:
    run = train(config(cache, tmp_path / "run"))
    before = stamps(run)
    with pytest.raises(RunError, match=r"holds a run made with --epochs 4, not 5; give another --out$"):
        train(config(cache, run, epochs=5, lr=(0.05,)))
    assert stamps(run) == before


def test_a_move_that_was_cut_off_goes_on(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after each file that moves: the same command again, and nothing is lost or trained twice."""
    run = train(config(cache, tmp_path / "run", val_fraction=0.3))
    files = {path.name: path.read_bytes() for path in run.iterdir()} | {"config.json": b""}
    moved = run / "lr0.1-wd0.0005-seed0"

    class Killed(BaseException):
        pass

    rename, moves = Path.rename, iter(range(100))

    def stop(path: Path, target: Path) -> Path:
        if next(moves) % 2:
            raise Killed
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", stop)
    kills = 0
    while not (run / "leaderboard.json").exists():
        try:
            train(config(cache, run, val_fraction=0.3, seed=(0, 1)))
        except Killed:
            kills += 1
    assert kills >= 2
    assert {path.name: path.read_bytes() for path in moved.iterdir()} | {"config.json": b""} == files
    assert len(heads(run)) == 2


def test_a_pass_over_other_heads_is_finished_first(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, flags = tmp_path / "run", {"val_fraction": 0.3, "lr": (0.1, 0.05)}
    train(config(cache, run, val_fraction=0.3))
    epoch = trainer.Trainer.epoch

    def stop(self: trainer.Trainer, number: int, *rest: Any) -> Any:
        if number == 2:
            self.save(run / "checkpoint.safetensors")
            raise KeyboardInterrupt
        return epoch(self, number, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(trainer.Trainer, "epoch", stop)
        with pytest.raises(KeyboardInterrupt):
            train(config(cache, run, **flags))
    with pytest.raises(RunError, match="unfinished run; add --resume"):
        train(config(cache, run, **flags))
    expected = (
        r"unfinished run of other heads; finish it with --lr 0\.1 0\.05 --weight-decay 0\.0005 --seed 0 "
    )
    with pytest.raises(RunError, match=expected):
        train(config(cache, run, val_fraction=0.3, seed=(0, 7), resume=True))
    train(config(cache, run, **flags, resume=True))
    assert_same_heads(run, train(config(cache, tmp_path / "at once", **flags)))


def test_a_sweep_keeps_the_groups_and_heads_of_earlier_commands(cache: Path, tmp_path: Path) -> None:
    flags = {"epochs": 3, "batch": 16, "precision": "float64", "device": "cpu", "val_fraction": 0.3}
    out = sweep(SweepConfig(cache=str(cache), out=str(tmp_path / "run"), head=("linear", "knn"), **flags))
    before = stamps(out / "knn")
    more = {"head": ("linear", "gap"), "lr": (0.1, 0.03), **flags}
    sweep(SweepConfig(cache=str(cache), out=str(out), **more))
    assert {(head["group"], head["lr"]) for head in board(out)["heads"]} == {
        *(("linear", 0.1), ("linear", 0.03), ("gap-ten", 0.1), ("gap-ten", 0.03), ("knn", None)),
    }
    assert stamps(out / "knn") == before
