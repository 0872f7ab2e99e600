"""`tencrop runs rm` and `rename`, called while a process trains: what is in use stays where it is."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.evaluating import write_split
from support.trained import board

from pipeline.config import SweepConfig
from pipeline.runs.__main__ import main
from pipeline.training.sweep import sweep
from pipeline.training.trainer import Trainer

NEW, OLD = "lr0.03-wd0.0005-seed0", "lr0.1-wd0.0005-seed0"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_split(tmp_path_factory.mktemp("cache"), "train", 60)


def trained(cache: Path, out: Path, *heads: str, lr: tuple[float, ...] = (0.1, 0.03)) -> Path:
    small: dict[str, Any] = {"epochs": 1, "batch": 32, "device": "cpu", "val_fraction": 0.2}
    return sweep(SweepConfig(cache=str(cache), out=str(out), head=heads, lr=lr, **small))


@pytest.fixture
def at_work(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], None]], list[None]]:
    """Has something called whenever an epoch begins; gives a list with an item for each of its calls."""

    def during(call: Callable[[], None]) -> list[None]:
        calls, epoch = [], Trainer.epoch

        def calling(self: Trainer, *given: Any) -> Any:
            calls.append(call())
            return epoch(self, *given)

        monkeypatch.setattr(Trainer, "epoch", calling)
        return calls

    return during


def refused(capsys: pytest.CaptureFixture[str], *words: str | Path) -> None:
    capsys.readouterr()
    assert main([*map(str, words)]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "another process is training" in said
    assert said.endswith("; wait for it, or stop it first\n")


def test_a_head_stays_while_its_stack_trains_for_the_first_time(
    cache: Path, tmp_path: Path, at_work: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"

    def meddle() -> None:
        for folder in (run / NEW, run):
            refused(capsys, "rm", folder)
            refused(capsys, "rename", folder, tmp_path / "other")

    calls = at_work(meddle)
    trained(cache, run, "linear")
    assert len(calls) == 1
    assert len(board(run)["heads"]) == 2
    assert main(["rm", str(run / NEW)]) == 0
    assert len(board(run)["heads"]) == 1


def test_a_head_stays_while_its_sweep_trains_other_groups(
    cache: Path, tmp_path: Path, at_work: Any, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    """Or the leaderboard, which is written in the end, would have it nevertheless. From inside it as well."""
    run = trained(cache, tmp_path / "run", "linear", "gap")

    def meddle() -> None:
        for words in (["rm", run / "linear" / OLD], ["rm", run / "linear"], ["rm", OLD]):
            refused(capsys, *words)

    calls = at_work(meddle)
    monkeypatch.chdir(run / "linear")
    trained(cache, run, "gmp", "gap")
    assert len(calls) == 1
    assert len(board(run)["heads"]) == 6


def test_a_sweep_stays_while_one_of_its_groups_gets_other_heads(
    cache: Path, tmp_path: Path, at_work: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    run = trained(cache, tmp_path / "run", "linear", "gap", lr=(0.1,))

    def meddle() -> None:
        refused(capsys, "rm", run)
        refused(capsys, "rename", run, tmp_path / "other")

    calls = at_work(meddle)
    trained(cache, run / "linear", "linear")
    assert len(calls) == 1
    assert len(board(run / "linear")["heads"]) == 2
