"""File systems without locks: writing goes on, and says that nothing keeps a second writer away."""

import errno
import fcntl
import os
from pathlib import Path

import pytest
from support.samples import extract, header

from cache import CacheError, CacheWriter, FeatureCache


def failing(code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(fd: int, operation: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", flock)


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOLCK])
def test_a_file_system_without_locks_is_written_to(
    code: int, sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lustre without -o flock, and NFS without its lock server."""
    path, made = tmp_path / "train.h5", header()
    with CacheWriter(path, made) as writer:
        assert writer.is_locked
    failing(code, monkeypatch)
    with CacheWriter(path, made) as writer:
        assert not writer.is_locked
    extract(path, made, stop_after=2)
    assert extract(path, made).read_bytes() == sample.read_bytes()
    assert os.listdir(tmp_path) == ["train.h5"]
    FeatureCache(path).verify()


def test_a_lock_that_fails_otherwise_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(errno.EIO, monkeypatch)
    with pytest.raises(CacheError, match=r"train\.h5: can't be written: Input/output error"):
        extract(tmp_path / "train.h5", header(3))
