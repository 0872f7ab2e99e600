"""A block that is written in pieces is the block written whole, and isn't there before its last piece."""

from pathlib import Path

import numpy as np
import pytest
from support.samples import BLOCKS, extract, features, header, image_digests

from cache import CacheError, CacheWriter


def pieces(rows: range, size: int) -> list[range]:
    return [rows[at : at + size] for at in range(0, len(rows), size)]


def write(writer: CacheWriter, rows: range) -> None:
    writer.write(rows, features(writer.header, rows), image_digests(rows))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "int8"])
@pytest.mark.parametrize("size", [1, 300, 1023, 1024])
def test_pieces_of_any_size_give_the_same_file(size: int, dtype: str, tmp_path: Path) -> None:
    made = header(1300, views=2, dtype=dtype)
    with CacheWriter(tmp_path / "pieces.h5", made) as writer:
        for block in reversed(writer.missing):
            for rows in pieces(block, size):
                assert block in writer.missing
                write(writer, rows)
            assert block not in writer.missing
        path = writer.publish()
    assert path.read_bytes() == extract(tmp_path / "whole.h5", made).read_bytes()


def test_a_block_that_was_begun_is_written_again(tmp_path: Path) -> None:
    """After a stop, and from its first row in the same process."""
    path, made = tmp_path / "train.h5", header()
    with CacheWriter(path, made) as writer:
        write(writer, range(1024))
        write(writer, range(1024, 1500))
    with CacheWriter(path, made) as writer:
        assert writer.missing == BLOCKS[1:]
        with pytest.raises(
            CacheError, match="rows 1500 to 2048: expected one of the missing blocks, or the n"
        ):
            write(writer, range(1500, 2048))
        write(writer, range(1024, 1030))
        for rows in (*pieces(BLOCKS[1], 700), BLOCKS[2]):
            write(writer, rows)
        writer.publish()
    assert path.read_bytes() == extract(tmp_path / "whole.h5", made).read_bytes()


@pytest.mark.parametrize(
    "rows", [range(11, 20), range(9, 20), range(10, 1025), range(10, 10), range(1034, 1040), range(10, 20, 2)]
)
def test_only_the_next_rows_go_on_with_a_block(rows: range, tmp_path: Path) -> None:
    made = header()
    with CacheWriter(tmp_path / "train.h5", made) as writer:
        write(writer, range(10))
        with pytest.raises(CacheError, match="expected one of the missing blocks, or the next rows of one"):
            writer.write(rows, np.zeros((len(rows), 1, 2, 2, 2), np.float32), image_digests(range(len(rows))))
        write(writer, range(10, 1024))
        assert writer.missing == BLOCKS[1:]


def test_a_piece_that_is_refused_can_be_given_again(tmp_path: Path) -> None:
    made = header(20)
    with CacheWriter(tmp_path / "train.h5", made) as writer:
        write(writer, range(10))
        with pytest.raises(CacheError, match="row 13 "):
            writer.write(
                range(10, 20),
                np.where(np.arange(10) == 3, np.nan, 0.0)[:, None, None, None, None]
                * np.ones((1, 1, 2, 2, 2)),
                image_digests(range(10)),
            )
        write(writer, range(10, 20))
        path = writer.publish()
    assert path.read_bytes() == extract(tmp_path / "whole.h5", made).read_bytes()
