"""Run folders that somebody else made: everything in them is shown as text, or refused by name."""

import json
import os
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from support.evaluating import copy_of, settings, two_heads
from support.nasty import NASTY, nasty_run
from support.reporting import Rows, page_of, section, text_of

from pipeline.evaluation.stage import evaluate

WRONG: list[Any] = [
    *(None, True, -1, 0, 1e308, float("nan"), float("inf"), 10**30, "", "<b>", [], {}, [[[]]], {"a": {}}),
    *([1, 2], ["<b>"], "x" * 100_000, "\ud800"),
]
TAGS = {"html", "head", "meta", "title", "style", "body", "header", "nav", "main", "section", "dialog"}
TAGS |= {"script", "h1", "h2", "h3", "p", "a", "b", "strong", "div", "span", "bdi", "ul", "ol", "li", "dl"}
TAGS |= {"dt", "dd", "table", "caption", "thead", "tbody", "tr", "th", "td", "label", "input", "select"}
TAGS |= {"option", "button", "figure", "details", "summary", "code", "img"}
TAGS |= {"svg", "line", "circle", "rect", "polyline", "text", "g"}
ATTRIBUTES = {"href", "src", "style", "srcset", "action"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two heads, both evaluated."""
    folder = two_heads(tmp_path_factory.mktemp("made"))
    evaluate(settings(folder / "ten", folder / "linear", out=str(folder / "comparison.json")))
    return folder


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    return copy_of(made / "ten", tmp_path)


class Checked(HTMLParser):
    """Fails on an element or an attribute that the report doesn't make; keeps the texts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.scripts, self.texts = 0, ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in TAGS
        self.scripts += tag == "script"
        for name, value in attrs:
            assert not name.startswith("on")
            assert name not in ATTRIBUTES or str(value).startswith(("#", "data:image/jpeg;base64,"))

    def handle_data(self, data: str) -> None:
        self.texts += data


def test_names_are_text(tmp_path: Path) -> None:
    found = Checked(page_of(nasty_run(tmp_path).parent, images=20))
    assert found.scripts == 1
    assert found.texts.count(NASTY[0]) > 5
    for text in NASTY:
        assert text.replace("\u202e", "\\u202e") in found.texts
    assert "\u202e" not in found.texts


@pytest.mark.parametrize(
    "name", ["config.json", "summary.json", "metrics.jsonl", "validation.npy", "eval/metrics.json", "eval"]
)
def test_a_link_out_of_the_run_is_refused_by_name(run: Path, tmp_path: Path, name: str) -> None:
    outside = tmp_path / "outside"
    shutil.move(run / name, outside)
    if outside.suffix == "" and outside.is_file():
        outside.write_bytes(outside.read_bytes().replace(b"fullnet", b"secret0"))
    (run / name).symlink_to(outside)
    page = page_of(run)
    row = Rows(section(page, "runs")).rows[1]
    assert row[1] == "broken"
    assert f"{run / name}" in row[2]
    assert f"leads out of the run's folder, to {outside}" in row[2]
    assert "secret0" not in page
    assert 'id="confusion"' not in page


def test_links_inside_a_run_and_to_a_run_are_no_harm(run: Path, tmp_path: Path) -> None:
    (run / "metrics.jsonl").rename(run / "log.jsonl")
    (run / "metrics.jsonl").symlink_to("log.jsonl")
    (tmp_path / "link").symlink_to(run)
    assert Rows(section(page_of(tmp_path / "link"), "runs")).rows[1][1] == "finished"


def test_files_that_are_huge_or_pipes_are_refused_by_name(made: Path, tmp_path: Path) -> None:
    for name in ("config.json", "summary.json", "eval/metrics.json"):
        for kind in ("huge", "pipe"):
            run = Path(shutil.copytree(made / "ten", tmp_path / kind / name.replace("/", "-")))
            (run / name).unlink()
            if kind == "huge":
                with open(run / name, "wb") as file:
                    file.truncate(1 << 40)
            else:
                os.mkfifo(run / name)
            row = Rows(section(page_of(run), "runs")).rows[1]
            assert row[1] == "broken"
            words = "expected at most 67,108,864 bytes" if kind == "huge" else "expected a file"
            assert f"{run / name}: {words}" in row[2]


@pytest.mark.parametrize("name", ["config.json", "summary.json", "eval/metrics.json"])
def test_no_value_in_a_file_ends_the_report(made: Path, run: Path, name: str) -> None:
    facts = json.loads((run / name).read_text())
    for place, key in enumerate(facts):
        for value in WRONG[place % 6 :: 6]:
            (run / name).write_text(json.dumps({**facts, key: value}))
            Checked(page_of(run, images=0))
    (run / name).write_text("[" * 100_000)
    Checked(page_of(run))


def test_no_line_of_a_log_ends_the_report(run: Path) -> None:
    lines = (run / "metrics.jsonl").read_text().splitlines()
    odd = [json.dumps({"epoch": value, "val_top1": value, "train_loss": value}) for value in WRONG]
    (run / "metrics.jsonl").write_text("\n".join([*odd, "[" * 10_000, "{", "1", *lines]))
    assert 'id="curves"' in page_of(run)
    (run / "metrics.jsonl").write_bytes(os.urandom(10_000))
    Checked(page_of(run))


def test_a_run_that_is_hostile_leaves_the_others_as_they_are(made: Path, tmp_path: Path) -> None:
    runs = Path(shutil.copytree(made, tmp_path / "runs"))
    before = text_of(section(page_of(runs), "answer"))
    shutil.copytree(made / "ten", runs / "zz")
    (runs / "zz/summary.json").write_text('{"val_top1": 1e999, "val_images": {}}')
    (runs / "zz/validation.npy").write_bytes(b"\x93NUMPY" + os.urandom(100))
    page = page_of(runs)
    assert [row[0] for row in Rows(section(page, "runs")).rows[1:]].count("zz") == 1
    assert text_of(section(page, "answer")).split("Finished runs")[0] == before.split("Finished runs")[0]
