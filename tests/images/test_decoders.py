"""Workers for a whole stage: which kind is taken, started before the trunk loads, gone with the stage."""

import os
import threading
from collections.abc import Callable
from concurrent.futures import Executor
from pathlib import Path

import numpy as np
import pytest
from support.extracting import files, settings

import pipeline.images.decoders
from pipeline.datasets.base import ArrayReader, ImageBytes, ImageSplit
from pipeline.engines.processes import processes
from pipeline.errors import WeightsError
from pipeline.extraction import stage
from pipeline.extraction.stage import extract
from pipeline.images.decoders import Decoders, processes_are_faster


class FileReader(ArrayReader):
    """Not in memory."""

    in_memory = False

    def read(self, row: int) -> ImageBytes:
        raise AssertionError


def of(images: int, bytes_each: int, reader: type[ArrayReader] = FileReader) -> ImageSplit:
    """A split of so many images of this size."""
    numbers = np.zeros(images, np.int64)
    paths = tuple(map(str, range(images)))
    return ImageSplit(
        "made", "train", ("a",), paths, numbers + bytes_each, numbers, reader(np.empty((images, 0), np.uint8))
    )


@pytest.mark.parametrize(
    ("images", "bytes_each", "workers", "expected"),
    [
        (60_000, 921, 16, 16),  # 55 MB, and threads would take 5 seconds
        (60_000, 921, 5, 5),
        (60_000, 921, 4, 4),  # no more than the threads there may be
        (60_000, 921, 2, 2),
        (3_000, 921, 16, "threads"),  # done before processes are there
        (5_000, 110_000, 16, 16),
        (300, 110_000, 16, "threads"),
        (50, 20_000_000, 16, 16),
        (3, 100_000_000, 16, "one each"),
    ],
)
def test_processes_are_taken_for_work_that_outlasts_their_start(
    images: int, bytes_each: int, workers: int, expected: int | str
) -> None:
    decoders = Decoders([of(images, bytes_each)], workers)
    count = {"threads": pipeline.images.decoders.THREADS, "one each": images}.get(str(expected), expected)
    assert decoders.count == count
    assert decoders.are_processes == (
        workers > pipeline.images.decoders.THREADS and isinstance(expected, int)
    )


def test_the_work_of_all_splits_counts() -> None:
    part = of(10_000, 921)
    assert not Decoders([part], 16).are_processes
    assert Decoders([part] * 6, 16).are_processes


def test_images_in_memory_are_for_a_few_threads() -> None:
    decoders = Decoders([of(1_000_000, 3072, ArrayReader)], 16)
    assert (decoders.are_processes, decoders.count) == (False, pipeline.images.decoders.THREADS)


def test_more_images_never_turn_processes_into_threads() -> None:
    for size in (0, 921, 110_000):
        taken = [processes_are_faster(images, images * size, 16) for images in range(0, 100_000, 500)]
        assert taken == sorted(taken)
        assert not taken[0]
        assert taken[-1]


def test_nothing_to_decode_starts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline.images.decoders, "START_SECONDS", -1e9)
    before = threading.active_count()
    with Decoders([], 16) as decoders:
        assert decoders.pool is None
        assert threading.active_count() == before


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[set[int]]:
    """Extraction takes processes, five; here are their numbers, a set for each pool."""
    found: list[set[int]] = []

    def noted(count: int, start: Callable[[], None]) -> Executor:
        pool = processes(count, start)
        found.append(set(pool._processes))  # type: ignore[attr-defined]
        return pool

    monkeypatch.setattr(pipeline.images.decoders, "START_SECONDS", -1e9)
    monkeypatch.setattr(pipeline.images.decoders, "processes", noted)
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
    extract(settings(photos, weights, tmp_path / "c", workers=5, on_bad_image=skip))
    assert [len(pool) for pool in started] == [5]
    assert not any(map(is_alive, started[0]))
    extract(settings(photos, weights, tmp_path / "alone", on_bad_image=skip))
    assert files(tmp_path / "c") == files(tmp_path / "alone")


def test_a_complete_cache_starts_no_process_unless_it_is_to_be_scanned(
    photos: Path, weights: Path, tmp_path: Path, started: list[set[int]]
) -> None:
    extract(settings(photos, weights, tmp_path / "c"))
    extract(settings(photos, weights, tmp_path / "c", workers=5))
    assert not started
    extract(settings(photos, weights, tmp_path / "c", workers=5, on_bad_image="skip"))
    (tmp_path / "c/test.h5").unlink()
    extract(settings(photos, weights, tmp_path / "c", workers=5))
    assert len(started) == 2


def test_processes_are_there_before_the_trunk_and_gone_when_it_fails(
    photos: Path, tmp_path: Path, started: list[set[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(config: object) -> None:
        assert len(started) == 1
        assert all(map(is_alive, started[0]))
        raise WeightsError("none")

    monkeypatch.setattr(stage, "load_trunk", fails)
    with pytest.raises(WeightsError):
        extract(settings(photos, tmp_path / "w", tmp_path / "c", workers=5))
    assert not any(map(is_alive, started[0]))
