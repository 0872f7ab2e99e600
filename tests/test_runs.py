"""Files of a run folder on a disk that is full."""

import errno
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.report import replacing
from pipeline.runs import append_line, keep_lines, write_json

pytestmark = pytest.mark.skipif(
    not Path("/dev/full").exists(), reason="needs /dev/full, which has room for nothing"
)


def write_text(path: Path) -> None:
    with replacing(path) as file:
        file.write(b"text")


@pytest.mark.parametrize(
    "write",
    [
        lambda path: write_json(path, {}),
        lambda path: keep_lines(path, 1),
        write_text,
    ],
    ids=["write_json", "keep_lines", "replacing"],
)
def test_a_full_disk_is_reported_with_the_name_of_the_file(
    write: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text("{}\n")
    monkeypatch.setattr("pipeline.report.os.getpid", lambda: 1)
    for part in ("metrics.jsonl.part", "metrics.jsonl.1.part"):
        (tmp_path / part).symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left") as caught:
        write(path)
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(path))


def test_a_full_disk_is_reported_with_the_name_of_the_log(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left") as caught:
        append_line(path, {})
    assert caught.value.filename == str(path)
