"""The list of runs: every run is a line whatever its state, and what is asked of it is what the files say."""

import csv
import io
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.evaluating import head, settings, write_cache

from pipeline.config import SweepConfig
from pipeline.evaluation.stage import evaluate
from pipeline.files import read_json, write_json
from pipeline.runs.__main__ import main
from pipeline.runs.claim import held
from pipeline.training.sweep import sweep

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep of four heads, one of them scored on the test split, and two single runs."""
    folder = tmp_path_factory.mktemp("made")
    cache = write_cache(folder / "cache")
    small: dict[str, Any] = {"hidden": (8,), "epochs": 4, "batch": 32, "device": "cpu", "val_fraction": 0.2}
    sweep(
        SweepConfig(
            cache=str(cache), head=("linear", "fullnet"), lr=(0.1, 0.02), out=str(folder / "sweep"), **small
        )
    )
    head(cache, folder / "knn", head="knn")
    head(cache, folder / "wide", hidden=(16,))
    evaluate(settings(folder / "knn"))
    return folder


@pytest.fixture
def runs(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made, tmp_path / "runs")


def listed(capsys: pytest.CaptureFixture[str], *words: str | Path) -> list[dict[str, Any]]:
    capsys.readouterr()
    assert main([*map(str, words), "--format", "json"]) == 0
    return json.loads(capsys.readouterr().out)


def refusal(capsys: pytest.CaptureFixture[str], *words: str | Path) -> str:
    capsys.readouterr()
    assert main([*map(str, words)]) == 2
    said = capsys.readouterr()
    assert said.err.count("\n") == 1
    assert said.out == ""
    return said.err


def test_each_head_is_a_line_with_the_figures_of_its_own_files(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = listed(capsys, runs)
    heads = {str(path.parent) for path in runs.rglob("summary.json")}
    assert len(heads) == 6
    assert {row["run"] for row in rows} == heads
    for row in rows:
        summary = read_json(Path(row["run"]) / "summary.json")
        assert row["score"] == summary["val_top1"]
        assert (row["low"], row["high"]) == (summary["val_top1_low"], summary["val_top1_high"])
        assert (row["state"], row["metric"], row["trunk"]) == ("finished", "top-1", "toy")
    scores = [row["score"] for row in rows]
    assert scores == sorted(scores, reverse=True)
    tested = {row["run"]: row["test"] for row in rows if row["test"] is not None}
    assert tested == {str(runs / "knn"): read_json(runs / "knn/eval/metrics.json")["top1"]}


def test_settings_that_differ_are_columns_and_others_are_not(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert {"hidden", "lr"} <= listed(capsys, runs)[0].keys()
    rows = listed(capsys, runs, "--where", "head=linear")
    assert len(rows) == 2
    assert "lr" in rows[0]
    assert not {"hidden", "epochs", "data_seed"} & rows[0].keys()


@pytest.mark.parametrize(
    ("condition", "count"),
    [
        ("head=fullnet", 3),
        ("head!=fullnet", 3),
        ("lr=0.1", 3),
        ("lr<0.1", 2),
        ("hidden=16", 1),
        ("epochs>=4", 5),
        ("test>0", 1),
        ("weight-decay = 5e-4", 5),
    ],
)
def test_conditions_choose(
    runs: Path, capsys: pytest.CaptureFixture[str], condition: str, count: int
) -> None:
    assert len(listed(capsys, runs, "--where", condition)) == count


def test_formats_hold_the_same(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = listed(capsys, runs, "--sort", "run")
    assert main([str(runs), "--sort", "run", "--format", "csv"]) == 0
    found = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["run"] for row in found] == sorted(row["run"] for row in rows)
    assert [float(row["score"]) for row in found] == [row["score"] for row in rows]
    assert main([str(runs), "--format", "markdown"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(rows) + 2
    assert len({line.count("|") for line in lines}) == 1


def test_a_run_that_did_not_end_well_is_a_line(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (runs / "knn/summary.json").unlink()
    (runs / "wide/config.json").write_text("{")
    linear = runs / "sweep/linear/lr0.1-wd0.0005-seed0"
    write_json(linear / "summary.json", {**read_json(linear / "summary.json"), "diverged": True})
    (runs / "linked").symlink_to("/")
    with held(runs / "knn"):
        assert states(capsys, runs) == ["broken", "diverged", *["finished"] * 3, "running"]
    assert states(capsys, runs) == ["broken", "diverged", *["finished"] * 3, "interrupted"]
    assert main([str(runs)]) == 0
    assert "wide/config.json: can't be read as JSON" in capsys.readouterr().out


def states(capsys: pytest.CaptureFixture[str], runs: Path) -> list[str]:
    return sorted(row["state"] for row in listed(capsys, runs))


def test_the_best_is_named_with_those_that_cannot_be_told_apart(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = listed(capsys, runs)[0]
    twin = shutil.copytree(first["run"], runs / "twin")
    assert main(["best", str(runs)]) == 0
    said = capsys.readouterr().out
    assert f"{first['score']:.2f} %" in said
    assert "6 others" in said
    assert any(f"{path}: +0.00 [+0.00, +0.00]" in said for path in (twin, first["run"]))


def test_a_repetition_with_no_other_flag_is_the_same_run(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for run in (runs / "knn", runs / "wide", runs / "sweep/fullnet-ten-8/lr0.02-wd0.0005-seed0"):
        assert main(["rerun", str(run), "--out", str(run)]) == 0
        assert f"{run}: up to date" in capsys.readouterr().out


def test_a_repetition_takes_other_flags_and_another_place(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = runs / "sweep/linear/lr0.1-wd0.0005-seed0"
    assert main(["rerun", str(one), "--lr", "0.05"]) == 0
    again = runs / "sweep-linear-lr0.1-wd0.0005-seed0-lr-0.05"
    old, new = read_json(one / "config.json"), read_json(again / "config.json")
    differ = {name for name in old if old[name] != new[name]}
    assert differ == {"lr", "out", "cache_from_run"}
    assert new["lr"] == [0.05]
    capsys.readouterr()
    assert main(["diff", str(one), str(again)]) == 0
    assert ["lr", "0.1", "0.05"] in [line.split() for line in capsys.readouterr().out.splitlines()]


def test_what_is_removed_leaves_the_leaderboards(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = runs / "sweep/linear/lr0.1-wd0.0005-seed0"
    assert main(["rm", str(one)]) == 0
    assert not one.exists()
    for board, count in ((runs / "sweep/linear", 1), (runs / "sweep", 3)):
        assert len(read_json(board / "leaderboard.json")["heads"]) == count
    with held(runs / "wide"):
        assert "another process is training into it" in refusal(capsys, "rm", runs / "wide")
    assert (runs / "wide/head.safetensors").exists()


def test_a_run_that_is_renamed_is_scored_under_its_new_name(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["rename", str(runs / "sweep"), str(runs / "other/name")]) == 0
    assert evaluate(settings(runs / "other/name")).exists()
    assert "whose leaderboard names it" in refusal(
        capsys, "rename", runs / "other/name/linear/lr0.1-wd0.0005-seed0", runs / "x"
    )
    assert "is there already" in refusal(capsys, "rename", runs / "wide", runs / "knn")


def test_mistakes_are_told_in_a_line(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "did you mean head?" in refusal(capsys, runs, "--where", "hed=knn")
    assert "expected NAME=VALUE" in refusal(capsys, runs, "--where", "knn")
    assert "did you mean score?" in refusal(capsys, runs, "--sort", "scor")
    assert "none of 6 runs is like that" in refusal(capsys, runs, "--where", "head=csra")
    (tmp_path / "empty").mkdir()
    assert "no run there" in refusal(capsys, tmp_path / "empty")
    assert "No such file" in refusal(capsys, tmp_path / "nowhere")
    assert "no run there" in refusal(capsys, "show", runs)
    assert "expected a run and flags" in refusal(capsys, "rerun", "--lr", "0.1")


def test_names_are_shown_without_their_control_characters(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (runs / "wide").rename(runs / "w\x1b[31mide")
    assert main([str(runs)]) == 0
    assert "\x1b" not in capsys.readouterr().out


def test_a_list_needs_neither_torch_nor_numpy(runs: Path) -> None:
    code = "import sys; from pipeline.runs.__main__ import main; main(sys.argv[1:]); print(*sys.modules)"
    command = [sys.executable, "-c", code, str(runs)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert not {"torch", "numpy", "h5py"} & set(done.stdout.splitlines()[-1].split())
