"""Workers for a whole stage: which kind is taken, started before the trunk loads, gone with the stage."""

import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Executor
from pathlib import Path

import numpy as np
import pytest
from support.extracting import files, settings

import pipeline.images.pool
from cache import Paths
from pipeline.datasets.base import ArrayReader, ImageBytes, ImageSplit
from pipeline.engines.processes import processes
from pipeline.errors import DataError, WeightsError
from pipeline.extraction import stamp, work
from pipeline.extraction.stage import extract
from pipeline.images.pool import Decoders


class FileReader(ArrayReader):
    """Not in memory."""

    in_memory = False

    def read(self, row: int) -> ImageBytes:
        raise AssertionError


def of(images: int, bytes_each: int, reader: type[ArrayReader] = FileReader) -> ImageSplit:
    """A split of so many images of this size."""
    numbers = np.zeros(images, np.int64)
    paths = Paths(map(str, range(images)))
    return ImageSplit(
        "made", "train", ("a",), paths, numbers + bytes_each, numbers, reader(np.empty((images, 0), np.uint8))
    )


@pytest.mark.parametrize(
    ("images", "bytes_each", "workers", "count", "are_processes"),
    [
        (60_000, 921, 16, 16, True),
        (60_000, 921, 5, 5, True),
        (18_000, 700, 16, 16, True),  # few bytes, but many images
        (60_000, 921, 4, 4, False),  # no more than the threads there may be
        (60_000, 921, 2, 2, False),
        (3_000, 921, 16, 4, False),  # done before processes are there
        (5_000, 110_000, 16, 16, True),
        (300, 110_000, 16, 4, False),
        (50, 20_000_000, 16, 16, True),
        (3, 100_000_000, 16, 3, False),  # no more than images
    ],
)
def test_processes_are_taken_for_work_that_outlasts_their_start(
    images: int, bytes_each: int, workers: int, count: int, are_processes: bool
) -> None:
    decoders = Decoders([of(images, bytes_each)], workers)
    assert (decoders.count, decoders.are_processes) == (count, are_processes)


def test_the_work_of_all_splits_counts() -> None:
    part = of(10_000, 921)
    assert not Decoders([part], 16).are_processes
    assert Decoders([part] * 6, 16).are_processes


def test_images_in_memory_are_for_a_few_threads() -> None:
    decoders = Decoders([of(1_000_000, 3072, ArrayReader)], 16)
    assert (decoders.are_processes, decoders.count) == (False, 4)


def test_nothing_to_decode_starts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline.images.pool, "PROCESS_BYTES", 0)
    before = threading.active_count()
    with Decoders([], 16) as decoders:
        assert decoders.count == 1
        assert list(decoders.in_order(square, [(3,)], ahead=1)) == [9]
        assert threading.active_count() == before


def square(number: int) -> int:
    return number**2


def end(number: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return number


@pytest.mark.parametrize("ahead", [0, 1, 100])
@pytest.mark.parametrize("workers", [1, 3])
def test_results_come_in_order(workers: int, ahead: int) -> None:
    with Decoders([of(100, 10)], workers) as decoders:
        results = list(decoders.in_order(square, [(i,) for i in range(50)], ahead))
    assert results == [i**2 for i in range(50)]


def test_an_error_comes_at_its_place_in_the_order() -> None:
    def invert(number: int) -> float:
        return 1 / number

    with Decoders([of(100, 10)], 2) as decoders:
        results = decoders.in_order(invert, [(1,), (2,), (0,), (3,)], 10)
        assert next(results) == 1
        assert next(results) == 0.5
        with pytest.raises(ZeroDivisionError):
            next(results)


def test_a_killed_worker_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline.images.pool, "PROCESS_BYTES", 0)
    with Decoders([of(100, 10)], 5) as decoders, pytest.raises(DataError, match=r"was killed.*--decoders"):
        list(decoders.in_order(end, [(1,), (2,)], 2))


def test_arrays_of_processes_are_those_of_threads_also_after_work_was_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pipeline.images.pool, "PROCESS_BYTES", 0)
    with Decoders([of(100, 10)], 5) as decoders:
        tasks = [(i, i + 100_000) for i in range(30)]
        left = decoders.in_order(np.arange, tasks, 10)  # of numpy: the processes load nothing else
        kept = [next(left), next(left)]
        left.close()
        found = list(decoders.in_order(np.arange, tasks[2:], 10))
    assert decoders.are_processes
    np.testing.assert_array_equal(kept + found, [np.arange(*task) for task in tasks])


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[set[int]]:
    """Extraction takes processes, five; here are their numbers, a set for each pool."""
    found: list[set[int]] = []

    def noted(count: int, start: Callable[[], None]) -> Executor:
        pool = processes(count, start)
        found.append(set(pool._processes))  # type: ignore[attr-defined]
        return pool

    monkeypatch.setattr(pipeline.images.pool, "PROCESS_BYTES", 0)
    monkeypatch.setattr(pipeline.images.pool, "processes", noted)
    return found


def is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("skip", ["stop", "skip"])
def test_one_pool_makes_both_caches_and_none_is_left(
    skip: str, photos: Path, weights: Path, tmp_path: Path, started: list[set[int]]
) -> None:
    extract(settings(photos, weights, tmp_path / "c", decoders=5, on_bad_image=skip))
    assert [len(pool) for pool in started] == [5]
    assert not any(map(is_alive, started[0]))
    extract(settings(photos, weights, tmp_path / "alone", on_bad_image=skip))
    assert files(tmp_path / "c") == files(tmp_path / "alone")


def test_a_complete_cache_of_the_same_files_starts_no_process(
    photos: Path, weights: Path, tmp_path: Path, started: list[set[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stamp, "FRESH_NS", 0)  # the photos have just been written
    extract(settings(photos, weights, tmp_path / "c"))
    extract(settings(photos, weights, tmp_path / "c", decoders=5))
    assert not started
    (tmp_path / "c/test.h5").unlink()
    extract(settings(photos, weights, tmp_path / "c", decoders=5))
    assert len(started) == 1


def test_processes_are_there_before_the_trunk_and_gone_when_it_fails(
    photos: Path, tmp_path: Path, started: list[set[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(config: object) -> None:
        assert len(started) == 1
        assert all(map(is_alive, started[0]))
        raise WeightsError("none")

    monkeypatch.setattr(work, "trunk_of", fails)
    with pytest.raises(WeightsError):
        extract(settings(photos, tmp_path / "w", tmp_path / "c", decoders=5))
    assert not any(map(is_alive, started[0]))
