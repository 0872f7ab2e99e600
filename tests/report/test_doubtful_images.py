"""Doubtful labels in a report are those of evaluate.py's table, and copies those that a loop over all pairs
finds.
"""

import csv
import html
import re
import shlex
import shutil
import sys
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.evaluating import settings
from support.many_runs import make
from support.reporting import Rows, page_of, section, text_of

from cache import FeatureCache
from pipeline.cli import COMMANDS, main
from pipeline.evaluation.stage import evaluate
from pipeline.report import copies
from pipeline.runs.out_of_fold import OUT_OF_FOLD

COSINE = 0.95


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("made"), seeds=1, classes=3, train=90, test=30, folds=4)


@pytest.fixture(scope="module")
def page(made: Path) -> str:
    return report_of(made, images=12)


@pytest.fixture
def moved(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "made"))


def report_of(made: Path, **changed: Any) -> str:
    return page_of(made / "runs", run=(str(made),), **changed)


def paths(markup: str) -> list[str]:
    return [html.unescape(text_of(path)) for path in re.findall(r'<p class="path">(.*?)</p>', markup)]


def command_in(markup: str) -> list[str]:
    return shlex.split(html.unescape(re.findall(r"<code>(.*?)</code>", markup)[-1]))


def test_label_suspects_are_those_of_the_table_the_worst_first(moved: Path) -> None:
    run = moved / "folds"
    with evaluate(settings(run, label_issues=True)).open(encoding="utf-8-sig", newline="") as file:
        lines = list(csv.DictReader(file))
    wanted = [line for line in lines if line["issue"] == "yes"]
    assert sum("again" in line["image"] for line in wanted) >= 2  # planted
    part = section(report_of(moved, images=3), "suspects")
    assert f"By folds: {len(wanted)} of {len(lines)} training images have a label" in text_of(part)
    assert paths(part) == [line["image"] for line in wanted[:3]]
    for card, line in zip(part.split('class="card"')[1:], wanted, strict=False):
        for word, column in (("label", "label"), ("rather", "suggested")):
            share = 100 * float(line[f"p_{column}"])
            found = re.search(rf"{word}: {re.escape(line[column])}, ([\d.]+) %", text_of(card))
            assert found
            assert float(found[1]) == pytest.approx(share, abs=0.06)
    assert part.count('src="data:image/jpeg') == 3
    assert [word for word in command_in(part) if word[0] != "/"] == ["evaluate.py", "--run", "--label-issues"]


def test_without_folds_no_label_is_judged_and_the_command_that_is_named_makes_it_possible(
    moved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(moved / "folds")
    part = section(report_of(moved), "suspects")
    assert "No label is judged" in text_of(part)
    assert 'class="card"' not in part
    program, *flags = command_in(part)
    assert program == "train_head.py"
    monkeypatch.setattr(sys, "argv", [program, *flags])
    assert main(*COMMANDS["train"]) == 0
    assert "training images have a label" in text_of(section(report_of(moved), "suspects"))


@pytest.mark.parametrize("damage", ["cut", "link"])
def test_scores_that_cant_be_read_or_lie_elsewhere_are_a_line(moved: Path, damage: str) -> None:
    file, outside = moved / "folds" / OUT_OF_FOLD, moved / "outside.npy"
    shutil.move(file, outside)
    if damage == "link":
        file.symlink_to(outside)
    else:
        file.write_bytes(outside.read_bytes()[:-9])
    part = section(report_of(moved, images=0), "suspects")
    assert f"{file}: {'leads out' if damage == 'link' else 'expected a row'}" in html.unescape(text_of(part))
    assert 'class="card"' not in part


def by_loop(made: Path) -> dict[tuple[str, str], list[tuple[str, str, bool]]]:
    """Each image's copy, as names, and whether it is the same file; near ones by the cosine."""
    vectors, names = {}, {}
    mean = std = np.zeros(8)
    for split in ("train", "test"):
        cache = FeatureCache(made / f"cache/{split}.h5")
        pooled = cache.take(np.arange(len(cache))).astype(float).mean((2, 3))
        mean, std = (pooled.mean(0), pooled.std(0)) if split == "train" else (mean, std)
        vectors[split] = (pooled - mean) / std
        names[split] = list(cache.paths)
    found: dict[tuple[str, str], list[tuple[str, str, bool]]] = {}
    for one, other in (("test", "train"), ("train", "train"), ("test", "test")):
        own = found.setdefault((one, other), [])
        for i, path in enumerate(names[one]):
            known = range(i) if one == other else range(len(names[other]))
            file = (made / "photos" / path).read_bytes()
            same = [j for j in known if (made / "photos" / names[other][j]).read_bytes() == file]
            a = vectors[one][i]
            near = [(float(a @ (b := vectors[other][j]) / np.sqrt((a @ a) * (b @ b))), j) for j in known]
            if same:
                own.append((path, names[other][same[0]], True))
            elif near and max(near)[0] >= COSINE:
                own.append((path, names[other][max(near)[1]], False))
    return found


def test_copies_are_counted_as_a_loop_finds_them_and_leaks_come_first(made: Path, page: str) -> None:
    part, wanted = section(page, "duplicates"), by_loop(made)
    table = Rows(part).rows[1:]
    assert [row[0] for row in table] == ["of test, in train too", "twice in train", "twice in test"]
    for row, found in zip(table, wanted.values(), strict=True):
        exact = sum(same for *_, same in found)
        two = sum(one.split("/")[1] != other.split("/")[1] for one, other, _ in found)
        assert [*map(int, row[2:])] == [exact, len(found) - exact, two]
    assert [int(row[2]) for row in table] == [1, 6, 0]
    assert int(table[1][3]) >= 1
    cards = part.split('class="card"')[1:]
    pairs = [tuple(path.split(" ")[-1] for path in paths(card)) for card in cards]
    assert len(cards) == 6
    assert "leak.png" in pairs[0][0]
    assert "in both splits" in cards[0]
    assert cards[0].count('src="data:image/jpeg') == 2
    leaks = len(wanted["test", "train"])
    assert ["in both splits" in card for card in cards] == [i < leaks for i in range(6)]
    assert not any(a == b for a, b in combinations(pairs, 2))


def test_where_it_would_take_long_equal_files_alone_are_listed_and_it_is_said(
    made: Path, page: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copies, "PRODUCTS", 90 * 90 * 8 // 2)
    part = section(report_of(made, images=40), "duplicates")
    assert part.count('class="card"') == part.count("<p>the same file") == 7
    assert "Equal files alone" in text_of(part)
    assert command_in(part) == [
        "evaluate.py",
        "--run",
        str(made / "runs/lr0.3-wd0.0005-seed0"),
        "--duplicates",
    ]
    table = Rows(part).rows[1:]
    assert [row[2] for row in table] == [row[2] for row in Rows(section(page, "duplicates")).rows[1:]]
    assert {row[3] for row in table} == {"–"}


def test_of_images_that_are_gone_the_words_stay(made: Path) -> None:
    (made / "photos").rename(made / "gone")
    try:
        page = report_of(made, images=12)
    finally:
        (made / "gone").rename(made / "photos")
    for place in ("suspects", "duplicates"):
        assert section(page, place).count("no image") >= 3
        assert 'src="data:image' not in section(page, place)
    assert "training images have a label" in text_of(section(page, "suspects"))
