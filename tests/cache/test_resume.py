"""Writing that was broken off goes on from the blocks that are there, and ends in the same bytes."""

import os
from pathlib import Path

import numpy as np
import pytest
from support.samples import BLOCKS, extract, fill, header, image_digests

from cache import CacheError, CacheWriter


@pytest.mark.parametrize("stop_after", [0, 1, 2, 3])
def test_resumed_bytes_equal_uninterrupted_ones(stop_after: int, sample: Path, tmp_path: Path) -> None:
    path, made = tmp_path / "train.h5", header()
    extract(path, made, stop_after=stop_after)
    with CacheWriter(path, made) as writer:
        assert writer.missing == BLOCKS[stop_after:]
        fill(writer, made, writer.missing)
        writer.publish()
    assert path.read_bytes() == sample.read_bytes()


def test_blocks_may_come_in_any_order(sample: Path, tmp_path: Path) -> None:
    path, made = tmp_path / "train.h5", header()
    with CacheWriter(path, made) as writer:
        fill(writer, made, [BLOCKS[2], BLOCKS[0]])
        assert writer.missing == [BLOCKS[1]]
    with CacheWriter(path, made) as writer:
        assert writer.missing == [BLOCKS[1]]
        fill(writer, made, [BLOCKS[1]])
        writer.publish()
    assert path.read_bytes() == sample.read_bytes()


@pytest.mark.parametrize("name", ["features", "image_digests", "digests"])
def test_a_damaged_block_of_a_part_file_is_missing_again(name: str, sample: Path, tmp_path: Path) -> None:
    path, made = tmp_path / "train.h5", header()
    extract(path, made, stop_after=3)
    part = path.with_name("train.h5.part")
    with CacheWriter(path, made) as writer:
        extent = writer._layout[name]
    with part.open("r+b") as file:
        middle = extent.offset + extent.nbytes // 2  # in block 1
        file.seek(middle)
        byte = file.read(1)[0]
        file.seek(middle)
        file.write(bytes([byte ^ 4]))
    with CacheWriter(path, made) as writer:
        assert writer.missing == [BLOCKS[1]]
        assert not writer.image_digests[1024:2048].any()
        fill(writer, made, writer.missing)
        writer.publish()
    assert path.read_bytes() == sample.read_bytes()


def test_blocks_without_a_digest_are_not_read_on_resuming(tmp_path: Path) -> None:
    """A large cache that has just begun is taken up at once."""
    path, made = tmp_path / "train.h5", header(200 * 1024)
    extract(path, made, stop_after=1)
    with CacheWriter(path, made) as writer:
        assert len(writer.missing) == 199
        end = writer._layout.end
    read = Path("/proc/self/io")
    if not read.exists():
        pytest.skip("only Linux counts the bytes that a process reads")
    before = int(read.read_text().split()[1])
    with CacheWriter(path, made):
        pass
    header_bytes = end - 200 * 1024 * (16 + 16)
    assert int(read.read_text().split()[1]) - before < 2 * header_bytes + 3 * 1024 * 32 + 100_000


def test_the_writer_knows_the_image_digests_of_the_blocks_that_are_there(tmp_path: Path) -> None:
    path, made = tmp_path / "train.h5", header()
    with CacheWriter(path, made) as writer:
        fill(writer, made, [BLOCKS[0], BLOCKS[2]])
    expected = image_digests(range(2500))
    expected[1024:2048] = 0
    with CacheWriter(path, made) as writer:
        assert np.array_equal(writer.image_digests, expected)


def test_a_damaged_part_file_is_refused_and_kept(tmp_path: Path) -> None:
    path, made = tmp_path / "train.h5", header()
    extract(path, made, stop_after=2)
    part = path.with_name("train.h5.part")
    data = bytearray(part.read_bytes())
    data[:8] = b"not HDF5"
    part.write_bytes(data)
    for attempt in (lambda: CacheWriter.status(path, made), lambda: extract(path, made)):
        with pytest.raises(CacheError, match=r"train\.h5\.part: no usable feature cache"):
            attempt()
    assert part.read_bytes() == bytes(data)


def test_leftovers_of_a_killed_layout_are_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "train.h5.layout").write_bytes(b"half a file" * 1000)
    (tmp_path / "train.h5.part").touch()
    extract(tmp_path / "train.h5", header(3))
    assert os.listdir(tmp_path) == ["train.h5"]
