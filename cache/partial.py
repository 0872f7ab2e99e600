"""`NAME.part`: the cache while it is being made, locked by the one process that makes it (FORMAT.md §6)."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from cache import disk
from cache.contents import Contents, encode_header, read_contents
from cache.digests import block_digest, block_spans, header_digest, images_digest
from cache.errors import CacheError
from cache.format import DIGEST_BYTES, DIGESTS, HEADER_DIGESTS, Layout, create
from cache.header import CacheHeader

TAIL_BYTES = 128  # behind the cache proper: who holds the lock. Cut off before publishing.


@dataclass(eq=False)
class Part:
    """A locked file. `contents` is None until it is laid out, `is_locked` if the file system has no locks."""

    path: Path
    fd: int
    contents: Contents | None = None
    is_locked: bool | None = False

    @classmethod
    def acquire(cls, path: Path) -> "Part":
        """Create the file if need be, lock it, and read what is there.

        Raises: CacheError when another process holds it or it is damaged; OSError.
        """
        while True:
            part = cls(path, os.open(path, os.O_RDWR | os.O_CREAT, 0o666))
            try:
                part.is_locked = disk.try_lock(part.fd)
                if part.is_locked is False:
                    raise CacheError(
                        f"{path}: in use by {_holder(part.fd)}; wait until it is done or stop it"
                    )
                if disk.is_file_at(part.fd, path):
                    part.contents = read_part(part.fd, path)
                    _sign(part.fd, part.contents)
                    return part
            except BaseException:
                part.close()
                raise
            part.close()  # it was published or replaced before we got the lock

    def lay_out(self, header: CacheHeader, source: tuple[int, Contents] | None = None) -> Contents:
        """Replace the file by a new one, with the good blocks of `source` (file, contents).

        Made under another name, so that what stands under this one is whole at any time. Raises: OSError.
        """
        structure, layout = create(header)
        parts = encode_header(header, layout)
        parts[HEADER_DIGESTS] = header_digest(layout, parts)
        new_path = layout_path(self.path)
        fd = os.open(new_path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o666)
        try:
            disk.try_lock(fd)
            disk.allocate(fd, layout.end + TAIL_BYTES)
            disk.write_all(fd, structure, 0)
            for name, data in parts.items():
                disk.write_all(fd, data, layout[name].offset)
            if source:
                _copy_blocks(*source, fd, layout)
            contents = read_contents(fd, str(new_path))
            _sign(fd, contents)
            disk.sync(fd)
            disk.rename(new_path, self.path)
        except BaseException:
            os.close(fd)
            new_path.unlink(missing_ok=True)
            raise
        os.close(self.fd)
        self.fd, self.contents = fd, contents
        return contents

    def clear(self) -> None:
        """Forget what is there: not laid out any more. Raises: OSError."""
        os.ftruncate(self.fd, 0)
        _sign(self.fd, None)
        self.contents = None

    def publish(self, path: Path, layout: Layout) -> None:
        """Say which images are in it, cut the tail off and rename it to its final name. Raises: OSError."""
        disk.write_all(self.fd, images_digest(self.fd, layout), layout[HEADER_DIGESTS].offset + DIGEST_BYTES)
        os.ftruncate(self.fd, layout.end)
        disk.sync(self.fd)
        disk.rename(self.path, path)

    def close(self) -> None:
        """Let go of the lock. A file that was never laid out goes away."""
        if self.is_locked is not False and not _is_laid_out(self.fd) and disk.is_file_at(self.fd, self.path):
            self.path.unlink(missing_ok=True)
        os.close(self.fd)
        self.fd = -1  # the next file that is opened gets the number, and is not to be written to


def part_path(path: Path) -> Path:
    """Where the cache `path` is made."""
    return path.with_name(path.name + ".part")


def layout_path(part: Path) -> Path:
    """The name under which a new `.part` file is made."""
    return part.with_suffix(".layout")


def read_part(fd: int, path: Path) -> Contents | None:
    """What a `.part` file holds; None when it isn't laid out yet. Raises: CacheError when it is damaged."""
    return read_contents(fd, str(path)) if _is_laid_out(fd) else None


def _is_laid_out(fd: int) -> bool:
    return os.fstat(fd).st_size > TAIL_BYTES


def _sign(fd: int, contents: Contents | None) -> None:
    note = f"held by process {os.getpid()} on {os.uname().nodename}".encode()[:TAIL_BYTES]
    disk.write_all(fd, note.ljust(TAIL_BYTES, b"\0"), contents.layout.end if contents else 0)


def _holder(fd: int) -> str:
    size = os.fstat(fd).st_size
    tail = os.pread(fd, TAIL_BYTES, max(0, size - TAIL_BYTES))
    note = re.fullmatch(rb"held by (process \d+ on [\x21-\x7e]+)\0*", tail)
    return note[1].decode() if note else "another process"


def _copy_blocks(source_fd: int, source: Contents, fd: int, layout: Layout) -> None:
    """Copy the blocks that match their digest, and their digests."""
    for block in source.written.nonzero()[0].tolist():
        spans = block_spans(source.layout, block)
        pieces = [disk.read_all(source_fd, nbytes, offset) for offset, nbytes in spans]
        digest = source.digests[block].tobytes()
        if block_digest(block, pieces) != digest:
            continue
        for piece, (offset, _) in zip(pieces, block_spans(layout, block), strict=True):
            disk.write_all(fd, memoryview(piece), offset)
        disk.write_all(fd, digest, layout[DIGESTS].offset + block * len(digest))
