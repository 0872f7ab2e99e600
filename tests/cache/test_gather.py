"""Gathering by several threads against plain numpy indexing."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from cache import gather as module
from cache.gather import PIECE_BYTES, gather

ROW = 64 << 10  # bytes, so that few rows make many pieces
CORES = "module.os.sched_getaffinity = lambda process: range({})"
RNG = np.random.default_rng(0)
SOURCE = RNG.integers(0, 1 << 16, (64, ROW // 2), np.uint16)


def copied(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """`count` random rows, some of them several times, as gather gives them and as numpy does."""
    index = np.random.default_rng(seed).integers(0, len(SOURCE), count).astype(np.intp)
    out = np.zeros((count, SOURCE.shape[1]), np.uint16)
    gather(SOURCE, index, out)
    return out, SOURCE[index]


@pytest.fixture
def cores(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Helpers as on a machine with so many cores, started anew."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: range(request.param), raising=False)
    module._helpers.cache_clear()  # pyright: ignore[reportPrivateUsage]
    yield
    module._helpers.cache_clear()  # pyright: ignore[reportPrivateUsage]


@pytest.mark.parametrize("pieces", [0, 0.5, 1, 1.9, 2, 2.5, 3, 7.3, 20])
def test_any_number_of_pieces_is_copied_whole(pieces: float) -> None:
    out, expected = copied(int(pieces * PIECE_BYTES / ROW))
    assert np.array_equal(out, expected)


@pytest.mark.parametrize("cores", [8], indirect=True)
def test_several_threads_are_at_work(cores: None, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: set[str] = set()
    copy = module._copy  # pyright: ignore[reportPrivateUsage]

    def noted(*arrays: Any) -> None:
        seen.add(threading.current_thread().name)
        time.sleep(0.02)
        copy(*arrays)

    monkeypatch.setattr(module, "_copy", noted)
    out, expected = copied(20 * PIECE_BYTES // ROW)
    assert np.array_equal(out, expected)
    assert len(seen) == 4


def test_callers_in_many_threads_get_their_own_rows() -> None:
    with ThreadPoolExecutor(8) as callers:
        for out, expected in callers.map(lambda seed: copied(4 * PIECE_BYTES // ROW, seed), range(64)):
            assert np.array_equal(out, expected)


@pytest.mark.parametrize("cores", [2], indirect=True)
def test_an_error_in_a_helper_reaches_the_caller(cores: None, monkeypatch: pytest.MonkeyPatch) -> None:
    caller = threading.current_thread()

    def fails_elsewhere(*arrays: Any) -> None:
        time.sleep(0.02)
        if threading.current_thread() is not caller:
            raise MemoryError("in a helper")

    monkeypatch.setattr(module, "_copy", fails_elsewhere)
    with pytest.raises(MemoryError, match="in a helper"):
        copied(8 * PIECE_BYTES // ROW)


@pytest.mark.parametrize("cores", [4], indirect=True)
@pytest.mark.parametrize("room", [0, 1])
def test_where_no_thread_can_be_started_the_caller_copies_alone(
    room: int, cores: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[threading.Thread] = []
    start, copy = threading.Thread.start, module._copy  # pyright: ignore[reportPrivateUsage]

    def scarce(thread: threading.Thread) -> None:
        if len(begun) == room:
            raise RuntimeError("can't start new thread")
        begun.append(thread)
        start(thread)

    def slow(*arrays: Any) -> None:
        time.sleep(0.02)
        copy(*arrays)

    monkeypatch.setattr(module, "_copy", slow)
    monkeypatch.setattr(threading.Thread, "start", scarce)
    out, expected = copied(8 * PIECE_BYTES // ROW)
    assert np.array_equal(out, expected)
    assert len(begun) == room


def test_a_thread_that_outlives_the_main_thread_can_still_read() -> None:
    """No pool takes work once the interpreter is ending, which it is while it waits for other threads."""
    code = f"""
import threading, time
import numpy as np
from cache import gather as module
{CORES.format(2)}
def reader():
    threading.main_thread().join()
    time.sleep(0.2)
    source, out = np.ones((64, {ROW}), np.uint8), np.zeros((512, {ROW}), np.uint8)
    module.gather(source, np.zeros(512, np.intp), out)
    print(out.min())
threading.Thread(target=reader).start()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "1\n", done.stderr


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="needs Linux's fork and affinity")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_process_gathers_with_threads_of_its_own() -> None:
    copied(8 * PIECE_BYTES // ROW)  # threads that the child won't have
    child = os.fork()
    if not child:
        try:
            out, expected = copied(8 * PIECE_BYTES // ROW, seed=1)
            own = any(thread.name.startswith("cache-gather") for thread in threading.enumerate())
            os._exit(0 if np.array_equal(out, expected) and (own or len(os.sched_getaffinity(0)) == 1) else 1)
        finally:
            os._exit(1)
    deadline = time.monotonic() + 60
    while not (done := os.waitpid(child, os.WNOHANG))[0]:
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            pytest.fail("the child still hangs after a minute")
        time.sleep(0.01)
    assert done[1] == 0


def test_nothing_is_written_after_an_interruption() -> None:
    """Ctrl-C in the caller while a helper copies: `gather` waits for the helper before it lets `out` go."""
    code = f"""
import signal, threading, time
import numpy as np
from cache import gather as module
copy, main, helped = module._copy, threading.current_thread(), threading.Event()
{CORES.format(2)}
def slow(*arrays):
    if threading.current_thread() is main:
        helped.wait(10)
        signal.raise_signal(signal.SIGINT)
    helped.set()
    time.sleep(0.3)
    copy(*arrays)
module._copy = slow
source, out = np.ones((64, {ROW}), np.uint8), np.zeros((512, {ROW}), np.uint8)
try:
    module.gather(source, np.zeros(512, np.intp), out)
except KeyboardInterrupt:
    left = out.copy()
    time.sleep(1)
    assert left.any(), "no helper was at work"
    assert (left == out).all(), "a helper went on"
    assert out.mean() < 0.5, "the caller waited for all the rest"
    print("interrupted")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "interrupted\n", done.stderr
