"""FORMAT.md's promises under kills, failing calls, full disks and rivals. The long runs: pytest -m faults."""

import errno
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import faults
import numpy as np
import pytest
from conftest import Survived
from faults import CACHE_ERROR, count_calls, interrupted, spawn, wait
from samples import extract, features, header, image_digests

from cache import CacheError, CacheHeader, CacheWriter, FeatureCache, disk, relabel

ROOT = Path(__file__).parents[2]
MANY = 30 * 1024  # rows of a cache with 30 blocks


def finish(path: Path, made: CacheHeader) -> bytes:
    """Run the same command again until the cache is there; its bytes."""
    if CacheWriter.status(path, made) != "complete":
        extract(path, made)
    FeatureCache(path).verify()
    assert os.listdir(path.parent) == [path.name]
    return path.read_bytes()


@pytest.mark.parametrize("error", faults.ERRORS)
def test_every_failing_call_ends_in_one_line_and_the_next_run_succeeds(
    error: str, sample: Path, tmp_path: Path, survived: Survived
) -> None:
    made, expected = header(), sample.read_bytes()
    calls = count_calls(lambda: extract(tmp_path / "count" / "train.h5", made))
    assert calls > 20
    for at in range(calls):
        path = tmp_path / str(at) / "train.h5"
        wanted = KeyboardInterrupt if error == "Ctrl-C" else CacheError
        with (
            interrupted(at, faults.ERRORS[error]) as tried,
            pytest.raises(wanted) as caught,
        ):
            extract(path, made)
        if wanted is CacheError:
            assert "can't be written" in str(caught.value), tried[-1]
            assert "\n" not in str(caught.value)
        assert finish(path, made) == expected, f"call {at}, {tried[-1]}"
    survived(f"{error} at the k-th system call, every k", calls)


def test_a_kill_at_every_call_leaves_what_the_next_run_goes_on_with(
    sample: Path, tmp_path: Path, survived: Survived
) -> None:
    made, expected = header(), sample.read_bytes()
    calls = count_calls(lambda: extract(tmp_path / "count" / "train.h5", made))
    for at in range(calls):
        path = tmp_path / str(at) / "train.h5"

        def killed(at: int = at, path: Path = path) -> None:
            with interrupted(at, faults.kill_myself):
                extract(path, made)

        assert wait(spawn(killed)) == -signal.SIGKILL
        assert finish(path, made) == expected, f"call {at}"
    survived("SIGKILL at the k-th system call, every k", calls)


@pytest.mark.parametrize("how", ["kill", pytest.param("disk full", marks=pytest.mark.faults)])
def test_relabelling_interrupted_anywhere_leaves_the_old_or_the_new(
    how: str, sample: Path, tmp_path: Path, survived: Survived
) -> None:
    new = header(labels=np.arange(2500) % 2, classes=["x", "y"])
    expected = extract(tmp_path / "new" / "train.h5", new).read_bytes()
    first = Path(shutil.copy(sample, tmp_path))
    calls = count_calls(lambda: relabel(first, new))
    for at in range(calls):
        (tmp_path / str(at)).mkdir()
        path = Path(shutil.copy(sample, tmp_path / str(at)))

        def stopped(at: int = at, path: Path = path) -> None:
            with interrupted(at, faults.kill_myself if how == "kill" else faults.fail(errno.ENOSPC)):
                relabel(path, new)

        assert wait(spawn(stopped)) == (-signal.SIGKILL if how == "kill" else CACHE_ERROR)
        assert path.read_bytes() in (sample.read_bytes(), expected)
        FeatureCache(path).verify()
        relabel(path, new)
        assert path.read_bytes() == expected
        assert os.listdir(path.parent) == ["train.h5"]
    survived(f"relabelling, {how} at the k-th system call, every k", calls)


def test_without_a_way_to_reserve_space_zeros_are_written(
    sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on file systems that can't, and on macOS, which has no such call."""

    def unsupported(*args: int) -> None:
        raise OSError(errno.EOPNOTSUPP, "")

    monkeypatch.setattr(os, "posix_fallocate", unsupported)
    assert extract(tmp_path / "a.h5", header()).read_bytes() == sample.read_bytes()
    monkeypatch.delattr(os, "posix_fallocate")
    assert extract(tmp_path / "b.h5", header()).read_bytes() == sample.read_bytes()


def test_short_writes_are_continued(sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, offset: real(fd, data[: len(data) // 3 + 1], offset))
    assert extract(tmp_path / "train.h5", header()).read_bytes() == sample.read_bytes()


def extract_logged(path: Path, made: CacheHeader, log: Path) -> None:
    """As `extract`, with a byte in `log` for each block that is begun, and time to be killed in."""
    fd = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    with CacheWriter(path, made) as writer:
        for rows in writer.missing:
            os.write(fd, b".")
            time.sleep(0.001)
            writer.write(rows, features(made, rows), image_digests(rows))
        writer.publish()


def kill_at_random(kills: int, tmp_path: Path) -> int:
    """Extractions of 30 blocks, killed and run again until there were so many kills. Returns how many."""
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
        assert path.read_bytes() == expected
        assert os.listdir(path.parent) == ["train.h5"]
        assert log.stat().st_size <= 30 + here  # at most one block is computed again for a kill
        done, rounds = done + here, rounds + 1
    return done


def test_killed_at_random_moments_at_most_a_block_is_lost(tmp_path: Path) -> None:
    kill_at_random(5, tmp_path)


@pytest.mark.faults
def test_two_hundred_kills(tmp_path: Path, survived: Survived) -> None:
    survived("SIGKILL at a random moment", kill_at_random(200, tmp_path))


def race(rounds: int, tmp_path: Path, sample: Path) -> None:
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
        assert codes == [0] + [CACHE_ERROR] * (len(pids) - 1)
        for line in log.read_text().splitlines():
            assert "in use by " in line or "already complete" in line
        assert path.read_bytes() == sample.read_bytes()
        assert os.listdir(path.parent) == ["train.h5"]


def test_of_several_writers_one_wins_and_the_others_say_so(tmp_path: Path, sample: Path) -> None:
    race(4, tmp_path, sample)


@pytest.mark.faults
def test_fifty_races(tmp_path: Path, sample: Path, survived: Survived) -> None:
    race(50, tmp_path, sample)
    survived("two to eight writers at once", 50)


def test_a_killed_holder_s_lock_is_gone_at_once(tmp_path: Path) -> None:
    path, made = tmp_path / "train.h5", header()
    ready, tell = os.pipe()

    def hold() -> None:
        with CacheWriter(path, made):
            os.write(tell, b"x")
            time.sleep(60)

    pid = spawn(hold)
    os.read(ready, 1)
    with pytest.raises(CacheError, match=f"in use by process {pid} on "):
        extract(path, made)
    os.kill(pid, signal.SIGKILL)
    wait(pid)
    extract(path, made)
    assert os.listdir(tmp_path) == ["train.h5"]
    os.close(ready)
    os.close(tell)


def test_a_cache_published_while_we_waited_for_its_lock_is_left_alone(
    sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lock is then one on the published file, which must not become anyone's part file."""
    path, made = tmp_path / "train.h5", header()
    extract(path, made, stop_after=3)
    rivals: list[Callable[[], object]] = [lambda: extract(path, made)]
    real = disk.try_lock

    def too_late(fd: int) -> bool:
        if rivals:
            wait(spawn(rivals.pop()))
        return real(fd)

    monkeypatch.setattr(disk, "try_lock", too_late)
    with pytest.raises(CacheError, match="already complete"):
        extract(path, made)
    assert path.read_bytes() == sample.read_bytes()
    assert os.listdir(tmp_path) == ["train.h5"]


@pytest.mark.parametrize("share", [0, 0.001, 0.01, 0.5, 0.99, 0.9999])
def test_a_file_that_may_not_grow_is_a_clear_error(share: float, sample: Path, tmp_path: Path) -> None:
    """RLIMIT_FSIZE is a full disk that needs no root. A crash at exit would show as another exit code."""
    path, limit = tmp_path / "train.h5", int(sample.stat().st_size * share)
    log = tmp_path / "log"

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        extract(path, header())

    ready, tell = os.pipe()
    assert wait(spawn(limited, lambda text: os.write(tell, text.encode()))) == CACHE_ERROR
    said = os.read(ready, 1000).decode()
    assert f"{path}: can't be written: File too large; free some space" in said
    assert not list(tmp_path.iterdir())
    assert extract(path, header()).read_bytes() == sample.read_bytes()
    os.close(ready)
    os.close(tell)
    assert not log.exists()


@pytest.mark.faults
def test_a_full_disk_at_five_levels(tmp_path: Path, survived: Survived) -> None:
    mount = ["unshare", "-rm", "mount", "-t", "tmpfs", "none", str(tmp_path)]
    if not shutil.which("unshare") or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs Linux with user namespaces, to mount a small tmpfs")
    script = [sys.executable, str(Path(__file__).with_name("full_disk.py")), str(tmp_path)]
    paths = os.pathsep.join([str(ROOT), str(Path(__file__).parent)])
    done = subprocess.run(
        ["unshare", "-rm", *script],
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["refused"] * 5
    survived("disk full, at a level of a small tmpfs", 5)


def lengths_of(data: bytes, count: int) -> list[int]:
    """The ends of things in the file and around them, and lengths at random."""
    edges = [0, 1, 8, 44, 48, 4096, len(data) // 2, len(data)]
    near = {edge + d for edge in edges for d in range(-2, 3) if 0 <= edge + d < len(data)}
    return sorted(near | set(random.Random(0).sample(range(len(data)), count)))


def refuse_all(path: Path, data: bytes, lengths: list[int]) -> None:
    for length in lengths:
        path.write_bytes(data[:length])
        with pytest.raises(CacheError) as caught:
            FeatureCache(path)
        assert str(caught.value).startswith(f"{path}: ")
        assert "\n" not in str(caught.value)


def test_cut_off_files_are_refused(tiny: Path, tmp_path: Path) -> None:
    data = tiny.read_bytes()
    refuse_all(tmp_path / "train.h5", data, lengths_of(data, 200))


@pytest.mark.faults
def test_every_length_is_refused(tiny: Path, sample: Path, tmp_path: Path, survived: Survived) -> None:
    data = tiny.read_bytes()
    refuse_all(tmp_path / "train.h5", data, list(range(len(data))))
    larger = sample.read_bytes()
    refuse_all(tmp_path / "train.h5", larger, lengths_of(larger, 1000))
    survived("cut off, at every length", len(data) + 1000)


@pytest.mark.parametrize("count", [60, pytest.param(2000, marks=pytest.mark.faults)])
def test_cut_off_part_files_are_refused_or_begun_again(count: int, tmp_path: Path) -> None:
    path, made = tmp_path / "train.h5", header(3, map_shape=(16, 4, 4))
    extract(path, made, stop_after=1)
    part = path.with_name("train.h5.part")
    data = part.read_bytes()
    for length in lengths_of(data, count):
        part.write_bytes(data[:length])
        attempt: Callable[[], object] = lambda: extract(path, made)  # noqa: E731
        if 128 < length < len(data) - 128:
            with pytest.raises(CacheError, match=r"train\.h5\.part: no usable feature cache"):
                attempt()
            assert part.read_bytes() == data[:length]
        else:
            attempt()
            FeatureCache(path).verify()
            path.unlink()
