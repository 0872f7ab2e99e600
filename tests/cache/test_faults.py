"""FORMAT.md's promises when the k-th system call fails or is the last, for every k."""

import errno
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
from support import faults
from support.faults import CACHE_ERROR, count_calls, interrupted, spawn, wait
from support.samples import extract, header
from support.tally import Tally

from cache import CacheError, CacheHeader, CacheWriter, FeatureCache, relabel

pytestmark = pytest.mark.fault


def finish(path: Path, made: CacheHeader) -> bytes:
    """Run the same command again until the cache is there; its bytes."""
    if CacheWriter.status(path, made) != "complete":
        extract(path, made)
    FeatureCache(path).verify()
    assert os.listdir(path.parent) == [path.name]
    return path.read_bytes()


@pytest.mark.parametrize("error", faults.ERRORS)
def test_every_failing_call_ends_in_one_line_and_the_next_run_succeeds(
    error: str, sample: Path, tmp_path: Path, tally: Tally
) -> None:
    made, expected = header(), sample.read_bytes()
    calls = count_calls(lambda: extract(tmp_path / "count" / "train.h5", made))
    assert calls > 20
    for at in range(calls):
        path = tmp_path / str(at) / "train.h5"
        wanted = KeyboardInterrupt if error == "Ctrl-C" else CacheError
        with tally(f"{error} at the k-th pwrite, fsync, rename …, every k"):
            with interrupted(at, faults.ERRORS[error]) as tried, pytest.raises(wanted) as caught:
                extract(path, made)
            if wanted is CacheError:
                assert "can't be written" in str(caught.value), tried[-1]
                assert "\n" not in str(caught.value)
            assert finish(path, made) == expected, f"call {at}, {tried[-1]}"


def test_a_kill_at_every_call_leaves_what_the_next_run_goes_on_with(
    sample: Path, tmp_path: Path, tally: Tally
) -> None:
    made, expected = header(), sample.read_bytes()
    calls = count_calls(lambda: extract(tmp_path / "count" / "train.h5", made))
    for at in range(calls):
        path = tmp_path / str(at) / "train.h5"

        def killed(at: int = at, path: Path = path) -> None:
            with interrupted(at, faults.kill_myself):
                extract(path, made)

        with tally("SIGKILL at the k-th pwrite, fsync, rename …, every k"):
            assert wait(spawn(killed)) == -signal.SIGKILL
            assert finish(path, made) == expected, f"call {at}"


@pytest.mark.parametrize("how", ["kill", pytest.param("disk full", marks=pytest.mark.faults)])
def test_relabelling_interrupted_anywhere_leaves_the_old_or_the_new(
    how: str, sample: Path, tmp_path: Path, tally: Tally
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

        with tally(f"relabelling, {how} at the k-th pwrite, fsync, rename …, every k"):
            assert wait(spawn(stopped)) == (-signal.SIGKILL if how == "kill" else CACHE_ERROR)
            assert path.read_bytes() in (sample.read_bytes(), expected)
            FeatureCache(path).verify()
            relabel(path, new)
            assert path.read_bytes() == expected
            assert os.listdir(path.parent) == ["train.h5"]


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


def test_a_file_is_on_the_medium_before_it_has_its_name_and_the_name_after(tmp_path: Path) -> None:
    """Else a power cut could leave a published file without its bytes."""
    with interrupted(-1, lambda: None) as made:
        extract(tmp_path / "train.h5", header())
    renames = [i for i, name in enumerate(made) if name == "replace"]
    assert len(renames) == 2  # the layout to .part, .part to its final name
    for i in renames:
        assert made[i - 1] == made[i + 1] == "fsync"
    assert made[-4:] == ["ftruncate", "fsync", "replace", "fsync"]
