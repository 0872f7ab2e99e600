"""The report holds what the run folders do: the best run, a line for each, and nothing that loads or runs."""

import base64
import hashlib
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import binomtest
from support.evaluating import head, settings, write_cache
from support.reporting import Rows, page_of, section, text_of

from pipeline.config import ReportConfig, SweepConfig
from pipeline.errors import RunError
from pipeline.evaluation.stage import evaluate
from pipeline.files import read_json, write_json
from pipeline.report.stage import write_report
from pipeline.runs.ledger import entries
from pipeline.runs.ranking import standings
from pipeline.training.sweep import sweep


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep of four heads and a nearest-neighbour head, two of them scored on the test split."""
    folder = tmp_path_factory.mktemp("made")
    cache = write_cache(folder / "cache")
    small: dict[str, Any] = {"hidden": (8,), "epochs": 4, "batch": 32, "device": "cpu", "val_fraction": 0.2}
    heads: dict[str, Any] = {"head": ("linear", "fullnet"), "lr": (0.1, 0.02)}
    sweep(SweepConfig(cache=str(cache), out=str(folder / "runs/sweep"), **heads, **small))
    head(cache, folder / "runs/knn", head="knn")
    evaluate(settings(folder / "runs/sweep", folder / "runs/knn", out=str(folder / "comparison.json")))
    return folder


@pytest.fixture
def runs(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made / "runs", tmp_path / "runs")


def test_the_best_run_comes_first_with_its_scores_and_what_it_is_compared_with(runs: Path) -> None:
    page = page_of(runs)
    group = standings(list(entries(runs)))[0]
    best, (second, minus) = group.best, group.others[0]
    answer = text_of(section(page, "answer"))
    assert page.index('id="answer"') < page.index('id="runs"') < page.index('id="curves"')
    summary, test = read_json(best.folder / "summary.json"), read_json(best.folder / "eval/metrics.json")
    assert str(best.folder.relative_to(runs)) in answer
    assert f"{summary['val_top1']:.2f} %95 %: {summary['val_top1_low']:.2f} to" in answer
    low, high = binomtest(round(test["top1"] * 1.5), 150).proportion_ci(method="wilson")
    assert f"Test top-1{test['top1']:.2f} %95 %: {100 * low:.2f} to {100 * high:.2f}150 images" in answer
    assert f"{len(group.near)} of 4" in answer
    assert str(second.folder.relative_to(runs)) in answer
    assert minus is not None
    assert f"{minus.difference:+.2f}".replace("-", "−") in answer
    assert ("It can't be told apart" in answer) == (minus.high >= 0)


def test_a_test_score_that_is_below_validation_by_more_than_chance_is_remarked(runs: Path) -> None:
    best = standings(list(entries(runs)))[0].best.folder
    assert "below validation by more than chance" not in section(page_of(runs), "answer")
    summary = read_json(best / "summary.json")
    write_json(
        best / "summary.json", {**summary, "val_top1": 99.0, "val_top1_low": 97.0, "val_top1_high": 99.5}
    )
    assert "below validation by more than chance" in section(page_of(runs), "answer")


def test_the_best_run_is_marked_in_the_table(runs: Path) -> None:
    best = standings(list(entries(runs)))[0].best.folder
    marked = re.findall(r'<tr class="is-finished is-best".*?<bdi>(.*?)</bdi>', page_of(runs))
    assert marked == [str(best.relative_to(runs))]


def test_a_test_score_is_only_shown_where_a_run_was_scored(runs: Path) -> None:
    for path in runs.rglob("eval"):
        shutil.rmtree(path)
    answer = text_of(section(page_of(runs), "answer"))
    assert "Test top-1" not in answer
    assert "It was not scored on the test split" in answer
    assert not list(runs.rglob("eval"))


def test_every_run_is_a_line_finished_or_not(runs: Path) -> None:
    whole = Rows(section(page_of(runs), "runs")).rows
    assert len(whole) == 6
    for entry in entries(runs):
        line = next(row for row in whole if row[0] == str(entry.folder.relative_to(runs)))
        assert {"finished", f"{entry.facts['score']:.2f}"} <= set(line)
    (runs / "knn/summary.json").unlink()
    linear = next(runs.glob("sweep/linear/lr0.1*"))
    (linear / "config.json").write_text("{")
    found = {row[0]: row for row in Rows(section(page_of(runs), "runs")).rows[1:]}
    assert found["knn"][1] == "interrupted"
    broken = found[str(linear.relative_to(runs))]
    assert broken[1] == "broken"
    assert "config.json: can't be read as JSON" in broken[2]
    assert [row[1] for row in found.values()].count("finished") == 3


def test_a_folder_without_a_finished_run_says_so(runs: Path) -> None:
    for path in runs.rglob("summary.json"):
        path.unlink()
    assert "No run is finished and has a validation score" in text_of(
        section(page_of(runs / "knn"), "answer")
    )


def test_the_page_loads_nothing_and_allows_its_own_script_alone(runs: Path) -> None:
    page = page_of(runs)
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    assert policy
    assert policy[1].startswith("default-src &#x27;none&#x27;; img-src data:;")
    for tag in ("style", "script"):
        contents = re.findall(rf"<{tag}>(.*?)</{tag}>", page, flags=re.DOTALL)
        assert len(contents) == 1
        digest = base64.b64encode(hashlib.sha256(contents[0].encode()).digest()).decode()
        assert f"{tag}-src &#x27;sha256-{digest}&#x27;" in policy[1]
    assert not re.search(r"<[^>]* (src|href)=\"(?!data:image/|#)", page)
    assert not re.search(r"<[^>]* (style|on\w+)=", page)


def test_the_same_runs_give_the_same_bytes_and_are_left_as_they_were(runs: Path) -> None:
    before = {path: path.read_bytes() for path in runs.rglob("*") if path.is_file()}
    assert page_of(runs) == page_of(runs)
    assert {path: path.read_bytes() for path in runs.rglob("*") if path.is_file()} == before


def test_a_run_given_twice_is_one_line(runs: Path) -> None:
    page = page_of(runs, run=(str(runs), str(runs / "knn")))
    assert [row[0] for row in Rows(section(page, "runs")).rows].count("knn") == 1


def test_a_folder_without_runs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no run there; name the folder"):
        write_report(ReportConfig(run=(str(tmp_path),), out=str(tmp_path / "report.html")))
    assert not (tmp_path / "report.html").exists()
