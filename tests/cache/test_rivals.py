"""Processes that are killed while they write, and several that write the same cache."""

import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support.faults import CACHE_ERROR, spawn, wait
from support.samples import extract, features, header, image_digests
from support.tally import Tally

from cache import CacheError, CacheHeader, CacheWriter, disk

MANY = 30 * 1024  # rows of a cache with 30 blocks
pytestmark = pytest.mark.fault("rival or killed writers, further cases")


def extract_logged(path: Path, made: CacheHeader, log: Path) -> None:
    """As `extract`, with a byte in `log` for each block that is begun, and time to be killed in."""
    fd = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    with CacheWriter(path, made) as writer:
        for rows in writer.missing:
            os.write(fd, b".")
            time.sleep(0.001)
            writer.write(rows, features(made, rows), image_digests(rows))
        writer.publish()


@pytest.mark.parametrize("kills", [5, pytest.param(200, marks=pytest.mark.faults)])
def test_killed_at_random_moments_at_most_a_block_is_lost(kills: int, tmp_path: Path, tally: Tally) -> None:
    """Caches of 30 blocks; the whole of stage one is killed in tests/test_stopping.py."""
    made, seed = header(MANY), random.Random(0)
    expected = extract(tmp_path / "whole.h5", made).read_bytes()
    start = time.perf_counter()
    wait(spawn(lambda: extract(tmp_path / "timed.h5", made)))
    usual = time.perf_counter() - start
    done, rounds = 0, 0
    while done < kills:
        path, log = tmp_path / f"{rounds}" / "train.h5", tmp_path / f"{rounds}.log"
        here = 0
        while not path.exists():
            pid = spawn(lambda path=path, log=log: extract_logged(path, made, log))
            time.sleep(seed.uniform(0, 1.2 * usual) if here < 20 else 0)
            if here < 20:
                os.kill(pid, signal.SIGKILL)
            code = wait(pid)
            assert code in (0, -signal.SIGKILL)
            here += code != 0
        with tally("SIGKILL at a random moment of writing", here):
            assert path.read_bytes() == expected
            assert os.listdir(path.parent) == ["train.h5"]
            assert log.stat().st_size <= 30 + here  # at most one block is computed again for a kill
        done, rounds = done + here, rounds + 1


@pytest.mark.parametrize("rounds", [4, pytest.param(50, marks=pytest.mark.faults)])
def test_of_several_writers_one_wins_and_the_others_say_so(
    rounds: int, tmp_path: Path, sample: Path, tally: Tally
) -> None:
    seed = random.Random(0)
    for number in range(rounds):
        path, log = tmp_path / str(number) / "train.h5", tmp_path / f"{number}.log"
        path.parent.mkdir()
        ready, go = os.pipe()

        def rival(path: Path = path, ready: int = ready, go: int = go) -> None:
            os.close(go)
            os.read(ready, 1)  # returns when the starter closes its end
            extract(path, header())

        def said(text: str, log: Path = log) -> None:
            with log.open("a") as file:
                file.write(text + "\n")

        pids = [spawn(rival, said) for _ in range(seed.randint(2, 8))]
        os.close(ready)
        os.close(go)
        codes = sorted(wait(pid) for pid in pids)
        with tally("two to eight writers of one cache at once"):
            assert codes == [0] + [CACHE_ERROR] * (len(pids) - 1)
            for line in log.read_text().splitlines():
                assert "in use by " in line or "already complete" in line
            assert path.read_bytes() == sample.read_bytes()
            assert os.listdir(path.parent) == ["train.h5"]


def test_a_killed_holder_s_lock_is_gone_at_once(tmp_path: Path) -> None:
    path, made = tmp_path / "train.h5", header()
    ready, tell = os.pipe()

    def hold() -> None:
        with CacheWriter(path, made):
            os.write(tell, b"x")
            time.sleep(60)

    pid = spawn(hold)
    os.close(tell)
    assert os.read(ready, 1)
    with pytest.raises(CacheError, match=f"in use by process {pid} on "):
        extract(path, made)
    os.kill(pid, signal.SIGKILL)
    wait(pid)
    extract(path, made)
    assert os.listdir(tmp_path) == ["train.h5"]
    os.close(ready)


def test_a_cache_published_while_we_waited_for_its_lock_is_left_alone(
    sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lock is then one on the published file, which must not become anyone's part file."""
    path, made = tmp_path / "train.h5", header()
    extract(path, made, stop_after=3)
    rivals: list[Callable[[], object]] = [lambda: extract(path, made)]
    real = disk.try_lock

    def too_late(fd: int) -> bool | None:
        if rivals:
            wait(spawn(rivals.pop()))
        return real(fd)

    monkeypatch.setattr(disk, "try_lock", too_late)
    with pytest.raises(CacheError, match="already complete"):
        extract(path, made)
    assert path.read_bytes() == sample.read_bytes()
    assert os.listdir(tmp_path) == ["train.h5"]
