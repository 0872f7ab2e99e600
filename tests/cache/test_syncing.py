"""Blocks go to the medium while later ones are written: nobody waits for it, and no failure is lost."""

import errno
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support.samples import BLOCKS, extract, fill, header

from cache import CacheError, CacheHeader, CacheWriter, FeatureCache

pytestmark = pytest.mark.skipif(not hasattr(os, "fdatasync"), reason="no fdatasync")


def failing_at(call: int) -> Callable[[int], None]:
    """Fails once, as the system does: the next one succeeds."""
    calls = [0]

    def sync(fd: int) -> None:
        calls[0] += 1
        if calls[0] - 1 == call:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    return sync


def make_slowly(path: Path, made: CacheHeader) -> None:
    """So that each block has a sync of its own."""
    with CacheWriter(path, made) as writer:
        for block in BLOCKS:
            fill(writer, made, [block])
            time.sleep(0.2)
        writer.publish()


@pytest.mark.parametrize("call", range(len(BLOCKS)))
def test_a_file_that_failed_to_reach_the_medium_once_is_not_published(
    call: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, made = tmp_path / "train.h5", header()
    monkeypatch.setattr(os, "fdatasync", failing_at(call))
    with pytest.raises(CacheError, match=r"train\.h5: can't be written: Input/output error"):
        make_slowly(path, made)
    assert not path.exists()
    assert missing(path) == BLOCKS[call:]


def missing(path: Path) -> list[range]:
    """What the next run makes, and with it the right bytes."""
    with CacheWriter(path, header()) as writer:
        found = writer.missing
        fill(writer, header(), found)
    extract(path, header())
    FeatureCache(path).verify()
    return found


@pytest.mark.parametrize("when", ["at the start", "behind the writing", "on publishing"])
def test_blocks_that_failed_to_reach_the_medium_are_made_again(
    when: str, sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Read back, they are what they should be: the system still has them in memory, and nowhere else."""
    path, made = tmp_path / "train.h5", header()
    extract(path, made, stop_after=1 if when == "on publishing" else 2)
    with monkeypatch.context() as patch:
        if when == "behind the writing":  # nobody asks for the outcome before the writer is left
            patch.setattr(os, "fdatasync", failing_at(0))
            with CacheWriter(path, made) as writer:
                fill(writer, made, [BLOCKS[2]])
        else:
            patch.delattr(os, "fdatasync")
            patch.setattr(os, "fsync", failing_at(0 if when == "at the start" else 1))
            with pytest.raises(
                CacheError, match=r"Input/output error; fix that and .* that reached the disk"
            ):
                extract(path, made)
    expected = {"at the start": BLOCKS, "behind the writing": BLOCKS[2:], "on publishing": BLOCKS[1:]}
    assert missing(path) == expected[when]
    assert path.read_bytes() == sample.read_bytes()


def test_writing_waits_for_no_sync_and_publishing_for_the_last(
    sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, made = tmp_path / "train.h5", header()
    slow, calls, done = threading.Event(), [], []

    def sync(fd: int) -> None:
        calls.append(fd)
        slow.wait(5)
        done.append(fd)

    monkeypatch.setattr(os, "fdatasync", sync)
    with CacheWriter(path, made) as writer:
        fill(writer, made, writer.missing)
        until = time.monotonic() + 5
        while not calls and time.monotonic() < until:
            time.sleep(0.01)
        assert (len(calls), done) == (1, [])
        threading.Timer(0.2, slow.set).start()
        writer.publish()
        assert done == calls
    assert path.read_bytes() == sample.read_bytes()


def test_leaving_waits_until_the_file_is_needed_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its number may be another file's as soon as it is closed."""
    made, synced, threads = header(), [], threading.active_count()

    def sync(fd: int) -> None:
        time.sleep(0.2)
        synced.append(os.fstat(fd).st_ino)

    monkeypatch.setattr(os, "fdatasync", sync)
    with CacheWriter(tmp_path / "train.h5", made) as writer:
        fill(writer, made, [BLOCKS[0]])
    assert synced == [(tmp_path / "train.h5.part").stat().st_ino]
    assert threading.active_count() <= threads, writer


@pytest.mark.parametrize("lacks", ["the call", "threads"])
def test_without_it_the_file_is_the_same(
    lacks: str, sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_left(self: ThreadPoolExecutor) -> None:
        raise RuntimeError("can't start new thread")

    if lacks == "the call":
        monkeypatch.delattr(os, "fdatasync")
    else:
        monkeypatch.setattr(ThreadPoolExecutor, "_adjust_thread_count", none_left)
    assert extract(tmp_path / "train.h5", header()).read_bytes() == sample.read_bytes()
