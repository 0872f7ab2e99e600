"""Whatever of an extraction is killed: the same command again ends with the same cache, and computes no block
twice that was whole."""

import os
import shutil
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

import pytest
from support.engines import skip_without
from support.killing import (
    COUNTING,
    Ended,
    Moment,
    at_any_time,
    count_computed,
    in_the_work,
    rows_whole,
    run_command,
    share_out,
)
from support.sharing import config, contents, make_images, stamps
from support.tally import Tally

from cache import rows_there, split_path
from cache.format import BLOCK_ROWS
from pipeline.config import ExtractConfig
from pipeline.engines.executors import ENGINES
from pipeline.engines.pool import WorkerError
from pipeline.extraction.stage import extract

SPLITS = {"train": 2500, "test": 1100}
MORE = {"train": 700, "test": 120}
KILLS = int(os.environ.get("TENCROP_KILLS", "20"))
"""Of each kind; an engine takes some seconds to start for each."""


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
        assert contents(split_path(made, split)) == contents(split_path(whole, split))


def check_nothing_left(made: Path) -> None:
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
    check_nothing_left(tmp_path / "c")


@pytest.mark.faults
def test_workers_killed_at_any_moment(images: Path, whole: Path, tmp_path: Path, tally: Tally) -> None:
    """Two, forked from this process, which is warm: nearly every moment lies in their work."""
    draw = Random(f"forked {KILLS}")

    def run(asked: ExtractConfig, moments: Sequence[Moment]) -> Ended:
        return share_out(asked, moments, draw)

    kill_and_compare(settings(images, tmp_path / "cache"), run, draw, whole, tally)


@pytest.mark.faults
@pytest.mark.parametrize("engine", ENGINES)
def test_an_engine_killed_at_any_moment(
    engine: str, images: Path, whole: Path, tmp_path: Path, tally: Tally
) -> None:
    """The whole command, or any process that it started."""
    draw = Random(f"{engine} {KILLS}")

    def run(asked: ExtractConfig, moments: Sequence[Moment]) -> Ended:
        return run_command(asked, moments, draw, tmp_path)

    asked = settings(images, tmp_path / "cache", workers=2, engine=skip_without(engine))
    kill_and_compare(asked, run, draw, whole, tally)


@pytest.mark.faults
def test_growth_killed_at_any_moment(images: Path, tmp_path: Path, tally: Tally) -> None:
    """Of a cache that two workers made: what was there stays as it was, what is new is computed once."""
    draw, own = Random(f"growth {KILLS}"), Path(shutil.copytree(images, tmp_path / "own"))
    asked = settings(own, tmp_path / "cache", workers=2)
    made, before, grown, anew = (tmp_path / name for name in ("cache", "before", "grown", "anew"))
    run_command(asked, (), draw, tmp_path)
    shutil.copytree(made, before)
    added = make_images(tmp_path / "added", *MORE.values(), seed=1)
    for path in (added / "photos").rglob("*.png"):
        path.rename(own / path.relative_to(added).with_stem(f"new-{path.stem}"))

    def run(asked: ExtractConfig, moments: Sequence[Moment]) -> Ended:
        return run_command(asked, moments, draw, tmp_path)

    seconds, kills = run(asked, ()).seconds, 0
    made.rename(grown)
    bytes_of_grown = {name: data for name, (data, _) in stamps(grown).items()}
    run(settings(own, anew), ())
    news = {split: next(path.name for path in grown.glob(f"{split}-" + 12 * "?" + ".h5")) for split in MORE}

    def missing() -> int:
        return sum(count - rows_there(made / news[split]) for split, count in MORE.items())

    while kills < KILLS:
        shutil.rmtree(made, ignore_errors=True)
        shutil.copytree(before, made)
        kills += kill_until_done(asked, run, seconds, draw, tally, missing)
        check_equal(made, anew)
        after, then = stamps(made), stamps(before)
        assert {name: data for name, (data, _) in after.items()} == bytes_of_grown
        assert all(after[name] == stamp for name, stamp in then.items() if name.endswith(".h5"))


Run = Callable[[ExtractConfig, Sequence[Moment]], Ended]


def kill_and_compare(asked: ExtractConfig, run: Run, draw: Random, whole: Path, tally: Tally) -> None:
    """Make caches, with as many kills in all as are wanted: each is equal to one that was left alone."""
    seconds, kills, made = run(asked, ()).seconds, 0, Path(str(asked.cache))

    def missing() -> int:
        return sum(SPLITS.values()) - sum(rows_whole(made, split, 2) for split in SPLITS)

    while kills < KILLS:
        shutil.rmtree(made)
        kills += kill_until_done(asked, run, seconds, draw, tally, missing)
        check_equal(made, whole)
        check_nothing_left(made)


def kill_until_done(
    asked: ExtractConfig,
    run: Run,
    seconds: float,
    draw: Random,
    tally: Tally,
    count_missing: Callable[[], int],
) -> int:
    """Run an extraction in which processes are killed, within so many seconds or in its work, then, after up
    to ten times, none; gives how many were."""
    images, kills = Path(asked.trunk.partition(":")[0]).parent, 0
    for number in range(11):
        missing = count_missing()
        count_computed(images)
        moments = [at_any_time(draw, seconds), in_the_work(draw, images, missing)]
        draw.shuffle(moments)
        ended = run(asked, moments[: draw.choice([1, 2])] if number < 10 else ())
        computed, kills = count_computed(images), kills + ended.kills
        # torchrun ends every rank with one: what the others had begun is begun again
        begun_again = ended.kills * BLOCK_ROWS if asked.engine == "torchrun" else 0
        last = ended.said.strip().rpartition("\n")[2]
        print(f"{asked.engine}: {ended.kills} killed, {computed} computed of {missing}: {last}", flush=True)
        with tally(f"SIGKILL of a process of an extraction by two workers, {asked.engine}", ended.kills):
            # ray itself ends a process whose cluster has lost its raylet
            assert ended.code in (0, 2, -signal.SIGKILL, *[1] * (asked.engine == "ray")), ended.said
            # of a killed command only what it had begun to start still speaks
            assert ended.code == -signal.SIGKILL or "Traceback" not in ended.said, ended.said
            assert "run the same command again" in ended.said or ended.code != 2, ended.said
            assert computed <= missing + begun_again
            assert ended.code or computed >= missing
        if ended.code == 0:
            return kills
    raise AssertionError("not done without a kill")
