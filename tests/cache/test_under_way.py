"""How many rows of a file are there, seen by somebody who doesn't make it."""

from pathlib import Path

import pytest
from support.samples import extract, fill, header

from cache import CacheWriter, rows_there


def test_rows_are_counted_while_they_are_written(tmp_path: Path) -> None:
    path, made = tmp_path / "train.h5", header(2500)
    assert rows_there(path) == 0
    with CacheWriter(path, made) as writer:
        assert rows_there(path) == 0
        for block, expected in ((writer.missing[2], 452), (writer.missing[0], 1476)):
            fill(writer, made, [block])
            assert rows_there(path) == expected
    assert rows_there(path) == 1476
    assert rows_there(extract(path, made)) == 2500


@pytest.mark.parametrize("data", [b"", b"held by process 7".ljust(128, b"\0"), b"no cache" * 100])
def test_of_anything_else_there_are_none(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "train.h5.part").write_bytes(data)
    assert rows_there(tmp_path / "train.h5") == 0
