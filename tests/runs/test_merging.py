"""`tencrop runs merge`: what several commands trained is the sweep that one of them would have trained."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from support.evaluating import head, settings, write_cache
from support.no_room import no_room
from support.trained import board, stamps

from pipeline.cli.parsing import parse
from pipeline.config import SweepConfig
from pipeline.errors import ConfigError
from pipeline.evaluation.stage import evaluate
from pipeline.files import read_json, write_json
from pipeline.runs.__main__ import main
from pipeline.runs.claim import held
from pipeline.training.sweep import sweep

OF_TIME = {"seconds", "images_per_second", "heads_at_once"}


def train(cache: Path, out: Path, *heads: str, **changed: Any) -> Path:
    small: dict[str, Any] = {"epochs": 1, "batch": 32, "device": "cpu", "val_fraction": 0.2}
    return sweep(SweepConfig(cache=str(cache), out=str(out), head=heads, **{**small, **changed}))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep, and the same heads by two commands; likewise a stack and two runs."""
    folder = tmp_path_factory.mktemp("made")
    cache = write_cache(folder / "cache")
    train(cache, folder / "whole", "linear", "gmp", "knn", lr=(0.1, 0.02), seed=(0, 1))
    train(cache, folder / "a", "linear", "gmp", lr=(0.1,), seed=(0, 1))
    train(cache, folder / "b", "knn", "linear", "gmp", lr=(0.02,), seed=(0, 1))
    train(cache, folder / "stack", "linear", lr=(0.02, 0.1))
    for name, rate in (("one", 0.1), ("two", 0.02)):
        train(cache, folder / name, "linear", lr=(rate,))
    return folder


@pytest.fixture
def runs(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made, tmp_path / "runs")


def refusal(capsys: pytest.CaptureFixture[str], runs: Path, *words: str) -> str:
    capsys.readouterr()
    before = stamps(runs)
    assert main(["merge", *(str(runs / word) for word in words), "--to", str(runs / "all")]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert stamps(runs) == before  # nothing is lost, nothing left behind
    return said


def merged(runs: Path, *words: str) -> Path:
    assert main(["merge", *(str(runs / word) for word in words), "--to", str(runs / "all")]) == 0
    return runs / "all"


def untimed(folder: Path) -> Any:
    """A leaderboard without what depends on the clock."""
    found = board(folder)
    heads = [{k: v for k, v in one.items() if k not in OF_TIME} for one in found["heads"]]
    return {**found, "heads": heads}


@pytest.mark.parametrize(("parts", "whole"), [(("a", "b"), "whole"), (("one", "two"), "stack")])
def test_what_was_trained_apart_is_what_is_trained_at_once(
    runs: Path, parts: tuple[str, str], whole: str
) -> None:
    before = {
        path: path.read_bytes() for part in parts for path in (runs / part).rglob("*") if path.is_file()
    }
    found = merged(runs, *parts)
    wanted = {path.relative_to(runs / whole) for path in (runs / whole).rglob("*")}
    assert {path.relative_to(found) for path in found.rglob("*")} == wanted
    for path in sorted(wanted):
        if path.name in ("head.safetensors", "validation.npy"):
            assert (found / path).read_bytes() == (runs / whole / path).read_bytes()
        elif path.name == "leaderboard.json":
            assert untimed((found / path).parent) == untimed((runs / whole / path).parent)
        elif path.name == "config.json" and (path.parent.name or whole == "stack"):
            ours, theirs = read_json(found / path), read_json(runs / whole / path)
            assert ours.keys() == theirs.keys()
            same = {n for n in ours if ours[n] == theirs[n] or sorted(ours[n]) == sorted(theirs[n])}
            assert ours.keys() - same <= {"out", "cache_from_run", "cache", "cache_path"}
            assert ours["out"] == str((found / path).parent)
    assert before == {path: path.read_bytes() for path in before}
    assert [path.name for path in runs.iterdir() if path.name[0] == "."] == []


def test_a_merged_sweep_is_scored_extended_and_pruned_as_any(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.move(runs / "cache", runs / "moved")
    shutil.rmtree(runs / "whole")
    elsewhere = {"cache": "gone/cache", "cache_path": "/gone/cache", "cache_from_run": "../../gone/cache"}
    for path in [path for part in ("a", "b") for path in (runs / part).rglob("config.json")]:
        write_json(path, {**read_json(path), **elsewhere})  # as from another machine
    found = merged(runs, "a", "b")
    for path in found.rglob("config.json"):
        place = Path(read_json(path)["cache"])
        assert place == runs / "moved"
        assert read_json(path)["cache_from_run"] == os.path.relpath(place, path.parent)
    evaluate(settings(found))
    assert list(found.rglob("eval/metrics.json"))
    before = stamps(found / "linear")
    train(runs / "moved", found, "linear", "gmp", "gap", lr=(0.02, 0.1), seed=(0, 1))
    assert len(board(found)["heads"]) == 13
    after = stamps(found / "linear")
    assert {path for path in before if before[path] != after[path]} == set()
    one = "linear/lr0.1-wd0.0005-seed1"
    assert main(["rerun", str(found / one), "--out", str(found / one)]) == 0
    assert f"{found / one}: up to date" in capsys.readouterr().out
    assert main(["rm", str(found / one)]) == 0
    assert one not in [head["folder"] for head in board(found)["heads"]]
    assert len(board(found / "linear")["heads"]) == 3


def test_the_same_head_twice_is_one_and_another_of_its_name_is_refused(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["merge", str(runs / "one"), str(runs / "stack"), "--to", str(runs / "both")]) == 0
    assert len(board(runs / "both")["heads"]) == 2
    other = runs / "stack/lr0.1-wd0.0005-seed0/head.safetensors"
    other.write_bytes(other.read_bytes()[:-4] + b"\0\0\0\0")
    said = refusal(capsys, runs, "one", "stack")
    assert f"{other.parent}: {runs / 'one'} has the same settings and other weights" in said
    assert main(said.split("tencrop runs ")[-1].split()) == 0  # what it says to do
    assert main(["merge", str(runs / "one"), str(runs / "stack"), "--to", str(runs / "all")]) == 0


def test_runs_that_cant_be_compared_are_refused_by_name(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    head(runs / "cache", runs / "c", head="linear", data_seed=1)
    said = refusal(capsys, runs, "one", "c")
    assert f"{runs / 'c'}: can't be compared with {runs / 'one'}, which has other --data-seed" in said
    head(write_cache(runs / "cache2", image="other"), runs / "d", head="linear")
    said = refusal(capsys, runs, "one", "d")
    assert f"{runs / 'd'}: can't be compared with {runs / 'one'}, which has other images" in said
    train(runs / "cache", runs / "e", "linear", lr=(0.3,), epochs=2)
    said = refusal(capsys, runs, "one", "e")
    assert f"{runs / 'e'}: is another linear than {runs / 'one'}, which has other --epochs" in said


def test_what_isnt_finished_or_is_in_the_way_is_refused(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = runs / "b/linear/lr0.02-wd0.0005-seed1"
    (gone / "summary.json").unlink()
    assert f"{gone}: is interrupted; finish it" in refusal(capsys, runs, "a", "b")
    (gone / "config.json").write_text("{")
    assert f"{gone / 'config.json'}: can't be read as JSON" in refusal(capsys, runs, "a", "b")
    assert "no run there" in refusal(capsys, runs, "a", "cache")
    (runs / "all").mkdir()
    assert "is there already" in refusal(capsys, runs, "a")
    shutil.rmtree(runs / "all")
    (runs / ".all.merging").mkdir()
    with held(runs / ".all.merging"):  # as another merge does
        assert "wait for it, or give another --to" in refusal(capsys, runs, "a")
    (runs / ".all.merging").rmdir()
    assert main(["merge", str(runs), "--to", str(runs / "all")]) == 2
    assert "which is merged; give another --to" in capsys.readouterr().err


def test_a_disk_that_is_full_leaves_all_as_it_was_and_a_merge_that_was_killed_begins_again(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with no_room(700):
        said = refusal(capsys, runs, "a", "b")
    assert f"{runs / 'all'}: can't be written: [Errno 27] File too large" in said
    (runs / ".all.merging/linear").mkdir(parents=True)
    (runs / ".all.merging/linear/old.json").write_text("{")
    found = merged(runs, "a", "b")
    assert len(board(found)["heads"]) == 9
    assert not list(found.rglob("old.json"))


def test_the_settings_of_a_merged_sweep_are_those_of_its_groups(runs: Path) -> None:
    found = merged(runs, "a", "b")
    with pytest.raises(ConfigError, match="merged out of several; name the"):
        parse(SweepConfig, "train_head.py", ["--config", str(found / "config.json")])
