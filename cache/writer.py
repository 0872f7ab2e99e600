"""Write a cache block by block; it may be interrupted anywhere and continued (FORMAT.md §6).

with CacheWriter("train.h5", header) as writer:
    for rows in writer.missing:
        writer.write(rows, features_of(rows), digests_of(rows))
    writer.publish()
"""

from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Self

import numpy as np
import xxhash
from numpy.typing import NDArray

from cache import disk
from cache.contents import Contents, opened, read_digests, read_published
from cache.digests import block_spans, block_state, damaged_blocks
from cache.dtypes import Raw, Values
from cache.encoding import encoded
from cache.errors import CacheError
from cache.format import BLOCK_ROWS, DIGEST_BYTES, IMAGE_DIGESTS, Layout
from cache.header import CacheHeader, refuse_if_stale
from cache.journal import Journal
from cache.manifest import SUFFIX
from cache.many_files import ManyFiles
from cache.partial import Part, layout_path, part_path, read_part
from cache.relabelling import relabelled

Status = Literal["absent", "partial", "relabel", "complete"]


class CacheWriter:
    """Makes `path`, or continues it. Leaving the context releases the lock and keeps finished blocks.

    Raises, on entering:
        StaleCacheError: a cache stands there that was made from something else; the message names the fields.
        CacheError: another process is writing it, it is complete, or the disk is too small for it.
    """

    def __init__(self, path: str | Path, header: CacheHeader) -> None:
        self.path = Path(path)
        self.header = header
        self.saturated = 0
        """How many of the numbers written here were beyond the range of their scales (int8)."""
        self._begun: _Begun | None = None

    def __enter__(self) -> Self:
        with disk.explained(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._part = Part.acquire(part_path(self.path))
            try:
                self._layout, self._missing = self._prepare(self._part)
            except BaseException:
                self._part.close()
                raise
        self._journal = Journal(self._part.fd, self._layout)
        return self

    def __exit__(self, *error: object) -> None:
        try:
            self._journal.close()
        finally:
            self._part.close()

    @property
    def is_locked(self) -> bool:
        """Whether a second writer is kept away; False where the file system has no locks."""
        return bool(self._part.is_locked)

    @property
    def missing(self) -> list[range]:
        """The blocks still to be written, as ranges of rows, in order."""
        return [self._layout.block(b) for b in self._missing]

    @property
    def image_digests(self) -> NDArray[np.uint8]:
        """(N, 16): the digests of the images in the blocks that are there, zeros for the others."""
        with disk.explained(self.path):
            digests = read_digests(self._part.fd, self._layout, IMAGE_DIGESTS)
        for rows in self.missing:
            digests[rows.start : rows.stop] = 0
        return digests

    def write(self, rows: range, features: Values, image_digests: NDArray[np.uint8]) -> None:
        """Store one of the `missing` blocks, whole or in pieces: its first rows, then those behind them.

        features: (n, V, C, H, W) floating point, of n of the block's rows; converted to the cache's dtype.
        image_digests: (n, 16) uint8.

        Raises: CacheError as `encode` does, when the digests have another shape, the rows aren't the first of
        a missing block nor the next, or the disk fails.
        """
        begun = self._begun_by(rows)
        raw, saturated = encoded(self.header, rows, features, str(self.path))
        digests = np.ascontiguousarray(image_digests)
        if digests.dtype != np.uint8 or digests.shape != (len(rows), DIGEST_BYTES):
            raise CacheError(
                f"{self.path}: image digests: expected uint8 of shape {(len(rows), DIGEST_BYTES)}, "
                f"found {digests.dtype} of shape {digests.shape}"
            )
        piece, fd, whole = raw.reshape(-1).view(np.uint8).data, self._part.fd, self._layout.block(begun.block)
        (features_at, _), (digests_at, _) = block_spans(self._layout, begun.block)
        with disk.explained(self.path):
            disk.write_all(fd, piece, features_at + (rows.start - whole.start) * self._layout.row_bytes)
            begun.state.update(piece)
            begun.image_digests += digests.tobytes()
            begun.end = rows.stop
            self.saturated += saturated
            if begun.end == whole.stop:
                disk.write_all(fd, begun.image_digests, digests_at)
                begun.state.update(begun.image_digests)
                # The digest goes last: it is what says that the block is there.
                self._journal.add(begun.block, begun.state.digest())
                self._missing.remove(begun.block)

    def encode(self, rows: range, features: Values) -> Raw:
        """Features (n, V, C, H, W) of any n rows as they are stored.

        Raises: CacheError when the shape is another, or a value is NaN, infinite or too large for the dtype
        (naming image and row).
        """
        return encoded(self.header, rows, features, str(self.path))[0]

    def publish(self) -> Path:
        """Give the complete file its name. Raises: CacheError when blocks are missing or the disk fails."""
        if self._missing:
            raise CacheError(f"{self.path}: {len(self._missing)} of {self._layout.blocks} blocks are missing")
        with disk.explained(self.path):
            self._journal.sync()
            self._part.publish(self.path, self._layout)
        return self.path

    @staticmethod
    def status(path: str | Path, header: CacheHeader) -> Status:
        """Tell what is there, also of a manifest: nothing, some blocks, or all of it, perhaps under other
        labels or class names.

        Raises: StaleCacheError when made from something else, naming the fields; CacheError when damaged.
        """
        path = Path(path)
        if found := _published_header(path):
            refuse_if_stale(str(path), found, header)
            return "complete" if found.labelled_like(header) else "relabel"
        unfinished = part_path(path)
        if not unfinished.exists():
            return "absent"
        with opened(unfinished) as fd:
            part = read_part(fd, unfinished)
        if part is None or _holds_nothing(part, header):
            return "absent"
        refuse_if_stale(str(unfinished), part.header, header)
        return "partial"

    @staticmethod
    def bytes_needed(path: str | Path, header: CacheHeader, status: Status) -> int:
        """The room that the disk must have: none for blocks of a file that is laid out, a whole file for new
        labels, which need a copy. What unfinished writing of something else left is replaced, and counts off.
        """
        unfinished = part_path(Path(path))
        if status == "absent":
            leftovers = (unfinished, layout_path(unfinished))
            return header.nbytes - sum(f.stat().st_blocks * 512 for f in leftovers if f.exists())
        if status == "partial":
            with opened(unfinished) as fd:
                part = read_part(fd, unfinished)
            status = "complete" if part and part.header.labelled_like(header) else "relabel"
        return header.nbytes if status == "relabel" else 0

    def _prepare(self, part: Part) -> tuple[Layout, list[int]]:
        """Lay the file out or take up the one there. Returns where things are, and the missing blocks."""
        if found := _published(self.path):
            refuse_if_stale(str(self.path), found.header, self.header)
            raise CacheError(f"{self.path}: already complete; nothing to write")
        if part.contents and _holds_nothing(part.contents, self.header):
            part.clear()
        there = part.contents
        if there is None:
            there = part.lay_out(self.header)
        else:
            refuse_if_stale(str(part.path), there.header, self.header)
            # What an earlier process wrote and didn't sync may fail to reach the medium only now.
            with closing(Journal(part.fd, there.layout, there.written.nonzero()[0].tolist())) as journal:
                journal.sync()
            if not there.header.labelled_like(self.header):
                there = part.lay_out(relabelled(there.header, self.header), source=(part.fd, there))
        written = there.written.nonzero()[0].tolist()
        damaged = set(damaged_blocks(part.fd, there.layout, there.digests, written))
        kept = set(written) - damaged
        return there.layout, [b for b in range(there.layout.blocks) if b not in kept]

    def _begun_by(self, rows: range) -> "_Begun":
        """The block that begins with these rows, or goes on with them. Raises: CacheError when none does."""
        block = rows.start // BLOCK_ROWS
        if rows.start == block * BLOCK_ROWS:
            self._begun = _Begun(block, rows.start, block_state(block))
        begun = self._begun
        if (
            block not in self._missing or begun is None or begun.block != block or begun.end != rows.start
        ) or (not rows or rows.step != 1 or rows.stop > self._layout.block(block).stop):
            raise CacheError(
                f"{self.path}: rows {rows.start} to {rows.stop}: expected one of the missing blocks, or the "
                "next rows of one"
            )
        return begun


@dataclass
class _Begun:
    """A block whose rows up to `end` are written."""

    block: int
    end: int
    state: xxhash.xxh3_128
    image_digests: bytearray = field(default_factory=bytearray)


def _holds_nothing(part: Contents, wanted: CacheHeader) -> bool:
    """Whether a part has another identity and no block: refusing it would keep nothing safe."""
    return part.header.key != wanted.key and not part.written.any()


def _published_header(path: Path) -> CacheHeader | None:
    if path.suffix == SUFFIX:
        return ManyFiles(path, None).whole_header() if path.exists() else None
    found = _published(path)
    return found.header if found else None


def _published(path: Path) -> Contents | None:
    if not path.exists():
        return None
    with opened(path) as fd:
        return read_published(fd, str(path))
