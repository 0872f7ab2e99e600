"""Whatever of an extraction is killed: the same command again ends with the same cache, and computes no block
twice that was whole."""

import dataclasses
import signal
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from support.killing import COUNTING, Ended, count_computed, rows_whole, run_command, share_out
from support.sharing import config, contents, make_images, stamps
from support.tally import Tally

from pipeline.config import ExtractConfig
from pipeline.engines.pool import WorkerError
from pipeline.extraction.stage import extract

SPLITS = {"train": 2500, "test": 1100}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_images(tmp_path_factory.mktemp("images"), *SPLITS.values())
    (folder / "trunk.py").write_text(COUNTING)
    return folder


@pytest.fixture(scope="module")
def whole(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The reference: one process, one file, left alone."""
    made = extract(settings(images, tmp_path_factory.mktemp("whole")))
    assert count_computed(images) == sum(SPLITS.values())
    return made


def settings(images: Path, cache: Path, **other: object) -> ExtractConfig:
    return config(images, cache, batch=32, dtype="float32", **other)


def check_equal(made: Path, whole: Path) -> None:
    for split in SPLITS:
        assert contents(made / f"{split}.json") == contents(whole / f"{split}.h5")
    left = {path.suffix for path in made.iterdir()} - {".h5", ".json", ".stamp"}
    assert not left


@pytest.mark.fault("SIGKILL of a worker in the middle of a block")
def test_a_killed_worker_costs_what_it_had_begun(images: Path, whole: Path, tmp_path: Path) -> None:
    asked = settings(images, tmp_path / "c", workers=2)
    (images / "kill").touch()
    said = r"^1 of 2 shares were lost with their workers: .*; run the same command again, it goes on where"
    with pytest.raises(WorkerError, match=said):
        extract(asked)
    assert not (tmp_path / "c/train.json").exists()
    count_computed(images)
    there = sum(rows_whole(tmp_path / "c", split, 2) for split in SPLITS)
    assert there > 0
    before = {name: at for name, at in stamps(tmp_path / "c").items() if name.endswith(".h5")}
    extract(asked)
    assert count_computed(images) == sum(SPLITS.values()) - there
    after = stamps(tmp_path / "c")
    assert {name: after[name] for name in before} == before
    check_equal(tmp_path / "c", whole)


@pytest.mark.faults
def test_workers_killed_a_hundred_times_at_any_moment(
    images: Path, whole: Path, tmp_path: Path, tally: Tally
) -> None:
    """Two, forked from this process, which is warm: nearly every moment lies in their work."""
    draw, kills, number = Random(0), 0, 0
    seconds = share_out(settings(images, tmp_path / "alone"), None, draw).seconds
    while kills < 100:
        asked, number = settings(images, tmp_path / str(number)), number + 1
        kills += kill_until_done(
            asked, lambda at, asked=asked: share_out(asked, at, draw), seconds, draw, tally
        )
        check_equal(Path(str(asked.cache)), whole)


@pytest.mark.faults
@pytest.mark.parametrize("engine", ["local"])
def test_an_engine_killed_a_hundred_times_at_any_moment(
    engine: str, images: Path, whole: Path, tmp_path: Path, tally: Tally
) -> None:
    """The whole command, or any process below it."""
    draw, kills, number = Random(engine), 0, 0
    alone = settings(images, tmp_path / "alone", workers=2, engine=engine)
    seconds = run_command(alone, None, draw).seconds
    while kills < 100:
        asked, number = dataclasses.replace(alone, cache=str(tmp_path / str(number))), number + 1
        kills += kill_until_done(
            asked, lambda at, asked=asked: run_command(asked, at, draw), seconds, draw, tally
        )
        check_equal(Path(str(asked.cache)), whole)


def kill_until_done(
    asked: ExtractConfig, run: Callable[[float | None], Ended], seconds: float, draw: Random, tally: Tally
) -> int:
    """Run an extraction that is killed within so many seconds, then, after up to ten times, isn't; gives how
    often it was."""
    cache, images = Path(str(asked.cache)), Path(asked.trunk.partition(":")[0]).parent
    for kills in range(11):
        missing = sum(SPLITS.values()) - sum(rows_whole(cache, split, 2) for split in SPLITS)
        count_computed(images)
        ended = run(draw.uniform(0, seconds) if kills < 10 else None)
        computed = count_computed(images)
        assert "Traceback" not in ended.said
        assert ended.code in (0, 2, -signal.SIGKILL), ended.said
        if ended.code == 0:
            assert computed == missing
            return kills
        with tally(f"SIGKILL of a process of an extraction by two workers, {asked.engine}"):
            assert computed <= missing
            assert "run the same command again" in ended.said or ended.code != 2
        print(f"killed: exit code {ended.code}, {computed} computed of {missing}", flush=True)
    raise AssertionError("not done without a kill")
