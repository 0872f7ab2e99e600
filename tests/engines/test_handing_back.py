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
        wide = made(1, 400, 300)
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
    assert len(written.pickled) < 1500 + 400 * 150  # the strided one alone
    first, pair, *others = file.read(slot, written)
    np.testing.assert_array_equal(first, made(0, 3, 5))
    np.testing.assert_array_equal(pair["a"], made(1, 400, 300)[:, ::2])
    np.testing.assert_array_equal(pair["b"], made(1, 400, 300).T)
    assert others[0].shape == (0, 7)
    np.testing.assert_array_equal(others[1], np.arange(9.0))
    assert others[2:] == [None]
    first[:] = 0  # may be written to, as that of a thread


def test_a_slot_is_used_again_when_its_arrays_are_gone(file: ResultFile) -> None:
    slots = [file.take_slot() for _ in range(3)]
    written = [call(slot, made, slot, 1 << 20) for slot in slots]
    read = {slot: file.read(slot, result) for slot, result in zip(slots, written, strict=True)}
    parts = {slot: array[::2][1:] for slot, array in read.items()}
    del read[slots[1]], parts[slots[1]]
    others = [file.take_slot() for _ in range(2)]
    assert others[0] == slots[1]
    assert others[1] not in slots
    del read[slots[0]]  # a part of it is left
    assert file.take_slot() not in slots
    for slot in others:
        call(slot, made, 99, 1 << 20)
    for slot, part in parts.items():
        np.testing.assert_array_equal(part, made(slot, 1 << 20)[::2][1:])


def test_what_fits_a_pipe_takes_it(file: ResultFile) -> None:
    slot = file.take_slot()
    small = call(slot, made, 3, 1000)
    assert isinstance(small, np.ndarray)
    np.testing.assert_array_equal(file.read(slot, small), made(3, 1000))
    assert file.take_slot() == slot


def test_where_the_file_is_not_open_results_are_given_as_they_are(
    file: ResultFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.close(handing_back._here or -1)
    monkeypatch.setattr(handing_back, "_here", None)
    slot = file.take_slot()
    result = call(slot, made, 3, 100_000)
    assert isinstance(result, np.ndarray)
    np.testing.assert_array_equal(file.read(slot, result), made(3, 100_000))


def test_a_limit_on_the_size_of_files_is_none_on_results(file: ResultFile) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))
    try:
        result = call(1, made, 3, 100_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    np.testing.assert_array_equal(file.read(1, result), made(3, 100_000))


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
