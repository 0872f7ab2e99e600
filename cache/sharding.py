"""Which rows of a split a shard holds, and under which name and header (FORMAT.md §7)."""

import dataclasses
from pathlib import Path

from cache.format import BLOCK_ROWS, block_count
from cache.header import CacheHeader
from cache.paths import Paths


def shard_ranges(rows: int, count: int) -> list[range]:
    """The rows of each of `count` shards of a split: whole blocks, as even as possible, none empty.

    A split of fewer blocks than `count` has as many shards as blocks. Raises: ValueError when either is < 1.
    """
    if rows < 1 or count < 1:
        raise ValueError(f"shards: expected at least one row and one shard, found {rows} and {count}")
    blocks = block_count(rows)
    each, more = divmod(blocks, min(count, blocks))
    ends = [each * (i + 1) + min(i + 1, more) for i in range(min(count, blocks))]
    begins = [0, *ends[:-1]]
    return [
        range(begin * BLOCK_ROWS, min(end * BLOCK_ROWS, rows))
        for begin, end in zip(begins, ends, strict=True)
    ]


def shard_paths(path: str | Path, count: int) -> list[Path]:
    """The files of a split of `count` shards: CACHE/train-00003-of-00008.h5 of CACHE/train.h5 or .json."""
    path = Path(path)
    return [path.with_name(f"{path.stem}-{i:05}-of-{count:05}.h5") for i in range(count)]


def shard_header(header: CacheHeader, rows: range) -> CacheHeader:
    """The header of the file that holds these rows, one behind the other, of a whole split."""
    return dataclasses.replace(
        header,
        shape=(len(rows), *header.shape[1:]),
        labels=header.labels[rows.start : rows.stop],
        paths=Paths.of(header.paths).take(rows),
    )
