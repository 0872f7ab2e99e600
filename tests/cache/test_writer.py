"""Writing a cache and publishing it. Kills and failing disks are in test_faults.py."""

import contextlib
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.samples import BLOCKS, extract, features, fill, header, image_digests

from cache import CacheError, CacheWriter, FeatureCache


def test_status_goes_from_absent_over_partial_to_complete(tmp_path: Path) -> None:
    path, made = tmp_path / "new" / "train.h5", header()
    assert CacheWriter.status(path, made) == "absent"
    extract(path, made, stop_after=1)
    assert CacheWriter.status(path, made) == "partial"
    assert extract(path, made) == path
    assert CacheWriter.status(path, made) == "complete"
    assert os.listdir(path.parent) == ["train.h5"]


def test_an_unlaid_part_file_is_absent(tmp_path: Path) -> None:
    (tmp_path / "train.h5.part").write_bytes(b"held by process 1 on nowhere")
    assert CacheWriter.status(tmp_path / "train.h5", header()) == "absent"


@pytest.mark.parametrize(
    ("rows", "change", "message"),
    [
        (range(1024), {"features": np.zeros((1024, 1, 2, 2, 1), np.float32)}, "features: expected floating"),
        (range(1024), {"features": np.zeros((1024, 1, 2, 2, 2), np.int16)}, "found int16"),
        (range(1024), {"image_digests": np.zeros((1024, 8), np.uint8)}, "image digests: expected uint8"),
        (range(1024), {"image_digests": np.zeros((1024, 16), np.int32)}, "found int32"),
        (range(0), {}, "rows 0 to 0: expected one of the missing blocks"),
        (range(1025), {}, "rows 0 to 1025: expected one of the missing blocks, or the next rows of one"),
        (range(1, 1025), {}, "rows 1 to 1025: expected one of the missing blocks"),
        (range(1024, 2048), {}, "rows 1024 to 2048: expected one of the missing blocks"),
        (range(3072, 4096), {}, "rows 3072 to 4096: expected one of the missing blocks"),
    ],
)
def test_wrong_arrays_and_rows_are_refused(
    rows: range, change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    made = header()
    with CacheWriter(tmp_path / "train.h5", made) as writer:
        fill(writer, made, [BLOCKS[1]])
        arrays = {"features": features(made, rows), "image_digests": image_digests(rows)} | change
        with pytest.raises(CacheError, match=message):
            writer.write(rows, **arrays)
        with pytest.raises(CacheError, match="2 of 3 blocks are missing"):
            writer.publish()


def test_a_complete_cache_is_not_written_again(sample: Path) -> None:
    def stamps() -> tuple[int, ...]:
        """Without the time of reading, which the system may bring up to date."""
        found = sample.stat()
        return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns

    before = stamps()
    with pytest.raises(CacheError, match="already complete"), CacheWriter(sample, header()):
        pass
    assert stamps() == before
    assert os.listdir(sample.parent) == ["train.h5"]


def test_a_second_writer_is_told_who_holds_the_cache(tmp_path: Path) -> None:
    path, made = tmp_path / "train.h5", header(3)
    with (
        CacheWriter(path, made) as writer,
        pytest.raises(CacheError, match=rf"in use by process {os.getpid()} on {os.uname().nodename};"),
        CacheWriter(path, made),
    ):
        writer.publish()
    assert extract(path, made) == path


def test_names_of_any_kind_and_length_are_kept(tmp_path: Path) -> None:
    paths = ["a b/ü.png", "名前/画像.png", "x" * 3000 + ".png", "new\nline", "-", "/../.."]
    made = header(6, paths=paths, classes=["", " ", "名前"])
    path = extract(tmp_path / "mit Leerzeichen ü" / "名前.h5", made)
    assert FeatureCache(path).paths == paths
    assert FeatureCache(path).classes == ("", " ", "名前")


def test_a_folder_that_can_t_be_written_to_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CacheError, match=r"train\.h5: can't be written: (Not a directory|File exists)"):
        extract(tmp_path / "file" / "train.h5", header(3))


def test_a_writer_that_was_left_touches_no_file(tmp_path: Path) -> None:
    """The system gives the number of its closed file to the next one that is opened."""
    path, made = tmp_path / "train.h5", header(3)
    with CacheWriter(path, made) as writer:
        fill(writer, made, writer.missing)
    with contextlib.ExitStack() as opened:
        for name in "abcd":
            (tmp_path / name).write_bytes(b"precious")
            opened.enter_context(open(tmp_path / name, "r+b"))
        with pytest.raises(CacheError, match="can't be written: Bad file descriptor"):
            writer.publish()
    assert {(tmp_path / name).read_bytes() for name in "abcd"} == {b"precious"}
    assert not path.exists()
