"""Results of processes through a file in memory: the same as through a pipe, each in its own slot."""

import os
import resource
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from pipeline.engines import handing_back
from pipeline.engines.handing_back import ResultFile, Written, call

pytestmark = pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="files in memory are Linux's")


@pytest.fixture
def file(monkeypatch: pytest.MonkeyPatch) -> Iterator[ResultFile]:
    """Opened in this process, as those of a pool do."""
    monkeypatch.setattr(handing_back, "_here", None)
    results = ResultFile()
    results.opener()
    yield results
    if handing_back._here is not None:
        os.close(handing_back._here)
    results.close()


def made(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def test_results_are_equal_whatever_holds_the_arrays(file: ResultFile) -> None:
    def work() -> list[Any]:
        wide = made(1, 40, 30)
        return [
            made(0, 3, 5),
            {"a": wide[:, ::2], "b": wide.T},
            np.empty((0, 7)),
            np.arange(9.0),
            None,
        ]

    slot = file.take_slot()
    written = call(slot, work)
    assert isinstance(written, Written)
    assert len(written.pickled) < 1500 + 40 * 15  # the strided one alone
    first, pair, *others = file.read(slot, written)
    np.testing.assert_array_equal(first, made(0, 3, 5))
    np.testing.assert_array_equal(pair["a"], made(1, 40, 30)[:, ::2])
    np.testing.assert_array_equal(pair["b"], made(1, 40, 30).T)
    assert others[0].shape == (0, 7)
    np.testing.assert_array_equal(others[1], np.arange(9.0))
    assert others[2:] == [None]
    first[:] = 0  # may be written to, as that of a thread


def test_slots_under_way_are_apart_and_used_again(file: ResultFile) -> None:
    slots = [file.take_slot() for _ in range(3)]
    written = [call(slot, made, slot, 1 << 20) for slot in slots]
    read = [file.read(slot, result) for slot, result in zip(slots, written, strict=True)]
    assert {file.take_slot() for _ in slots} == set(slots)
    call(slots[1], made, 99, 1 << 20)
    for slot, found in zip(slots, read, strict=True):  # what was read stays as it was
        np.testing.assert_array_equal(found, made(slot, 1 << 20))


def test_where_the_file_is_not_open_results_are_given_as_they_are(
    file: ResultFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.close(handing_back._here or -1)
    monkeypatch.setattr(handing_back, "_here", None)
    slot = file.take_slot()
    result = call(slot, made, 3, 100)
    assert isinstance(result, np.ndarray)
    np.testing.assert_array_equal(file.read(slot, result), made(3, 100))


def test_a_limit_on_the_size_of_files_is_none_on_results(file: ResultFile) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))
    try:
        result = call(1, made, 3, 100)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    np.testing.assert_array_equal(file.read(1, result), made(3, 100))


def test_no_other_file_of_that_number_is_written_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handing_back, "_here", None)
    first = ResultFile()
    opener, number = first.opener, first._fd
    first.close()
    other = ResultFile()
    assert other._fd == number
    opener()
    assert handing_back._here is None
    other.close()
