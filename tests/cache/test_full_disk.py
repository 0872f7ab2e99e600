"""A disk that is full: a clear error, nothing left behind, an older cache unharmed."""

import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.faults import CACHE_ERROR, spawn, wait
from support.samples import extract, header
from support.tally import Tally

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.fault("file that may not grow")


@pytest.mark.parametrize("share", [0, 0.001, 0.01, 0.5, 0.99, 0.9999])
def test_a_file_that_may_not_grow_is_a_clear_error(share: float, sample: Path, tmp_path: Path) -> None:
    """RLIMIT_FSIZE is a full disk that needs no root. A crash at exit would show as another exit code."""
    path, limit = tmp_path / "train.h5", int(sample.stat().st_size * share)

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


def test_a_full_disk_at_five_levels(tmp_path: Path, tally: Tally) -> None:
    mount = ["unshare", "-rm", "mount", "-t", "tmpfs", "none", str(tmp_path)]
    if not shutil.which("unshare") or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs Linux with user namespaces, to mount a small tmpfs")
    script = [sys.executable, str(ROOT / "tests/support/full_disk.py"), str(tmp_path)]
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    done = subprocess.run(
        ["unshare", "-rm", *script],
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )
    with tally("disk full, at a level of a small tmpfs", 5):
        assert done.returncode == 0, done.stderr
        assert done.stdout.split() == ["refused"] * 5
