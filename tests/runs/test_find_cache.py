"""Runs and caches that were moved, renamed or copied: found by what they are, from any working directory."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from support.evaluating import head, settings, write_cache, write_split

from cache import CacheError
from pipeline.evaluation.stage import evaluate
from pipeline.runs.find_cache import find_cache


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache, a run and a sweep on it, made in the working directory by relative paths; another cache."""
    monkeypatch.chdir(tmp_path)
    place = tmp_path / "project"
    place.mkdir()
    os.chdir(place)
    cache = write_cache(Path("artifacts/cache/mine"))
    write_split(Path("artifacts/cache/other"), "train", 240, image="another")
    head(cache, Path("artifacts/runs/one"), head="linear", epochs=1)
    head(cache, Path("artifacts/runs/sweep"), head="linear", epochs=1, seed=(0, 1))
    return place


MOVES: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "nothing": (lambda _: None, "project/artifacts/runs/one", "project/artifacts/cache/mine"),
    "working directory": (
        lambda p: os.chdir(p.parent),
        "project/artifacts/runs/one",
        "project/artifacts/cache/mine",
    ),
    "both": (
        lambda p: (p.rename(p.parent / "moved"), os.chdir("/")),
        *("moved/artifacts/runs/one", "moved/artifacts/cache/mine"),
    ),
    "cache renamed": (
        lambda p: (p / "artifacts/cache/mine").rename(p / "artifacts/cache/renamed"),
        *("project/artifacts/runs/one", "project/artifacts/cache/renamed"),
    ),
    "run renamed": (
        lambda p: (p / "artifacts/runs/one").rename(p / "renamed"),
        *("project/renamed", "project/artifacts/cache/mine"),
    ),
    "both renamed, side by side": (
        lambda p: [
            (p / "artifacts/runs/sweep").rename(p.parent / "s"),
            (p / "artifacts/cache").rename(p.parent / "c"),
            (p.parent / "c/mine").rename(p.parent / "m"),
            os.chdir("/"),
        ],
        *("s/lr0.1-wd0.0005-seed1", "m"),
    ),
    "sweep moved": (
        lambda p: [(p / "artifacts/runs/sweep").rename(p / "artifacts/s"), os.chdir("/")],
        *("project/artifacts/s/lr0.1-wd0.0005-seed1", "project/artifacts/cache/mine"),
    ),
    "another cache in its place": (
        lambda p: [
            (p / "artifacts/cache/mine").rename(p / "artifacts/cache/renamed"),
            (p / "artifacts/cache/other").rename(p / "artifacts/cache/mine"),
        ],
        *("project/artifacts/runs/one", "project/artifacts/cache/renamed"),
    ),
    "a link in its place": (
        lambda p: [
            (p / "artifacts/cache/mine").rename(p.parent / "disk"),
            (p / "artifacts/cache/mine").symlink_to(p.parent / "disk"),
        ],
        *("project/artifacts/runs/one", "disk"),
    ),
}


@pytest.mark.parametrize("moved", MOVES)
def test_a_run_finds_its_cache(moved: str, project: Path) -> None:
    move, run, cache = MOVES[moved]
    move(project)
    folder = project.parent / run
    found = find_cache(folder)
    assert found.folder is not None
    assert found.folder.resolve() == project.parent / cache
    facts = json.loads(evaluate(settings(folder)).read_text())
    assert facts["cache"]["path"] == str(project.parent / cache / "test.h5")
    assert facts["trained_on"] == 0
    assert {path.name for path in folder.iterdir() if path.name.startswith("eval")} == {"eval"}


def test_the_given_cache_comes_first_and_can_be_the_run_s_own(project: Path) -> None:
    copy = Path(shutil.copytree("artifacts/cache/mine", project.parent / "copy"))
    shutil.rmtree("artifacts/cache/mine")
    path = evaluate(settings(Path("artifacts/runs/one"), cache=str(copy)))
    assert path == Path("artifacts/runs/one/eval/metrics.json")


def test_places_are_listed_where_it_is_gone(project: Path) -> None:
    shutil.rmtree("artifacts/cache/mine")
    with pytest.raises(CacheError) as caught:
        evaluate(settings(Path("artifacts/runs/one")))
    said = str(caught.value)
    assert said.startswith("artifacts/runs/one: its cache, key ")
    assert "isn't found; name its folder with --cache; looked at artifacts/cache/mine (no train.h5)" in said
    assert f"the folders in {project}/artifacts/runs" in said
    assert f"the folders in {project}/artifacts/cache" in said
    Path("artifacts/cache/other").rename("artifacts/cache/mine")
    with pytest.raises(CacheError, match=r"cache/mine \(its train\.h5 was made from other images\), the f"):
        evaluate(settings(Path("artifacts/runs/one")))
    shutil.rmtree("artifacts/cache/mine")
    write_split(Path("artifacts/cache/mine"), "train", 100)
    with pytest.raises(CacheError, match=r"cache/mine \(its train\.h5 has another key, [0-9a-f]{12}\)"):
        evaluate(settings(Path("artifacts/runs/one")))
    (Path("artifacts/cache/mine") / "train.h5").write_bytes(b"torn")
    with pytest.raises(CacheError, match=r"cache/mine \(.*not"):
        evaluate(settings(Path("artifacts/runs/one")))


def test_a_test_split_alone_is_scored_and_said_not_to_be_checked(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("artifacts/cache/mine/train.h5").unlink()
    path = evaluate(settings(Path("artifacts/runs/one")))
    assert path == Path("artifacts/runs/one/eval/metrics.json")
    assert json.loads(path.read_text())["trained_on"] is None
    said = "not checked whether artifacts/runs/one was trained on test images: its training cache isn't found"
    assert said in capsys.readouterr().out


def test_scores_on_another_cache_go_beside_and_name_it(project: Path) -> None:
    run, made = Path("artifacts/runs/one"), []
    own = evaluate(settings(run))
    before = {path: path.read_bytes() for path in (run / "eval").iterdir()}
    for name in ("a/few", "b/few"):
        write_split(project / name, "test", 20, image=f"other {name}")
    for name in ("a/few", "b/few", "a/few"):
        made.append(evaluate(settings(run, cache=str(project / name))))
        facts = json.loads(made[-1].read_text())
        assert (facts["images"], facts["cache"]["path"]) == (20, f"{project}/{name}/test.h5")
        assert made[-1].parent.name.startswith("eval-few-")
    assert made[0] == made[2] != made[1]
    assert own.parent == run / "eval"
    assert {path: path.read_bytes() for path in (run / "eval").iterdir()} == before
