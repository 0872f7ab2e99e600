"""Very many paths in little memory: one buffer of text, and where each path ends in it.

A million paths take 50 MB here and 110 MB as a list of `str`, of which every copy takes time as well.
"""

import hashlib
import json
import operator
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from io import BytesIO
from itertools import chain, islice
from typing import overload

import numpy as np
from numpy.typing import NDArray

from cache.errors import CacheError

_STEP = 1 << 15  # paths that are `str` at the same time
_PIECE = 1 << 26  # bytes that are looked through at the same time
_PLAIN = bytes({0, *range(0x20, 0x7F)} - set(b'"\\'))  # stand for themselves in JSON, but for the zero byte


class Paths(Sequence[str]):
    """A sequence of paths that never changes; it indexes, iterates and compares as a list of `str` does."""

    def __init__(self, paths: Iterable[str] = ()) -> None:
        """Raises: CacheError naming the first that holds a NUL character or is not valid Unicode."""
        packed, rest, done = BytesIO(), iter(paths), 0
        while some := list(islice(rest, _STEP)):
            text = "\0".join(some) + "\0"
            try:
                packed.write(text.encode())
            except UnicodeEncodeError:
                _refuse(some, done)
            if text.count("\0") != len(some):
                _refuse(some, done)
            done += len(some)
        self._set(packed.getvalue())

    @classmethod
    def of(cls, paths: Iterable[str]) -> "Paths":
        """The very same object where it is one already."""
        return paths if isinstance(paths, cls) else cls(paths)

    @classmethod
    def stored(cls, data: bytes) -> "Paths":
        """Each path in UTF-8 and a zero byte behind it: `data` of another. Raises: ValueError if it isn't."""
        if data[-1:] not in (b"", b"\0"):
            raise ValueError("paths: expected a zero byte behind each, found none behind the last")
        paths = cls()
        paths._set(data)
        if not data.isascii():
            for _ in paths:  # which decodes it
                pass
        return paths

    def _set(self, data: bytes) -> None:
        self.data = data
        found = (
            at + np.flatnonzero(np.frombuffer(data, np.uint8, min(_PIECE, len(data) - at), at) == 0)
            for at in range(0, len(data), _PIECE)
        )
        self._ends: NDArray[np.int64] = np.concatenate([np.empty(0, np.int64), *found])

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> "Paths": ...
    def __getitem__(self, index: int | slice) -> "str | Paths":
        if isinstance(index, slice):
            return self.take(range(len(self))[index])
        row = range(len(self))[operator.index(index)]
        return self.data[self._start(row) : int(self._ends[row])].decode()

    def __iter__(self) -> Iterator[str]:
        for some in self.pieces():
            yield from some.decode().split("\0")

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Paths):
            return self.data == other.data
        if isinstance(other, list | tuple):
            return len(self) == len(other) and all(map(operator.eq, self, other))
        return NotImplemented

    def __add__(self, other: Iterable[str]) -> "Paths":
        return Paths(chain(self, other))

    __hash__ = None  # pyright: ignore[reportAssignmentType]

    def __repr__(self) -> str:
        return f"Paths({[*self[:3], *(['…'] if len(self) > 3 else [])]})"

    def __reduce__(self) -> tuple[object, tuple[bytes]]:
        return Paths.stored, (self.data,)

    def take(self, rows: Sequence[int] | NDArray[np.integer]) -> "Paths":
        """These rows alone, in this order."""
        if isinstance(rows, range) and rows.step == 1:
            stop = self._start(max(rows.stop, rows.start))
            return Paths.stored(self.data[self._start(rows.start) : stop])
        index, packed = np.arange(len(self))[np.asarray(rows, np.int64)], BytesIO()
        for at in range(0, len(index), _STEP):
            ends = self._ends[some := index[at : at + _STEP]] + 1
            starts = np.where(some > 0, self._ends[some - 1] + 1, 0)
            packed.writelines(map(self.data.__getitem__, map(slice, starts.tolist(), ends.tolist())))
        return Paths.stored(packed.getvalue())

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(N,) bytes of each."""
        return np.diff(self._ends, prepend=-1) - 1

    def repeated(self) -> str | None:
        """The first path that stands there a second time."""
        if self._ascend():  # as those of a folder do
            return None
        hashes = np.empty(len(self), np.int64)
        for number, some in enumerate(self.pieces()):
            pieces = some.split(b"\0")
            at = number * _STEP
            hashes[at : at + len(pieces)] = np.fromiter(map(hash, pieces), np.int64, len(pieces))
        ordered = np.sort(hashes)
        if not (twice := ordered[1:][ordered[1:] == ordered[:-1]]).size:
            return None
        seen: set[str] = set()
        rows = np.flatnonzero(np.isin(hashes, twice))  # nearly always all of them are
        return next((path for row in rows.tolist() if (path := self[row]) in seen or seen.add(path)), None)

    @cached_property
    def sha256(self) -> str:
        """SHA-256, in hexadecimal, of the canonical JSON of the array of paths (FORMAT.md §3)."""
        return paths_sha256([self])

    def _ascend(self) -> bool:
        before = b""
        for some in self.pieces():
            listed = [before, *some.split(b"\0")]
            if not all(map(operator.lt, listed, listed[1:])):
                return False
            before = listed[-1]
        return True

    def _start(self, row: int) -> int:
        return int(self._ends[row - 1]) + 1 if row else 0

    def pieces(self) -> Iterator[bytes]:
        """The bytes of some thousand paths at a time, without the last zero byte."""
        for at in range(0, len(self), _STEP):
            last = min(at + _STEP, len(self)) - 1
            yield self.data[self._start(at) : int(self._ends[last])]


def paths_sha256(several: Iterable[Paths]) -> str:
    """That of all these paths in one array, of which one part is there at a time."""
    digest, comma = hashlib.sha256(b"["), b""
    for paths in several:
        for some in paths.pieces():
            if some.translate(None, _PLAIN):
                listed = json.dumps(some.decode().split("\0"), separators=(",", ":"))[2:-2].encode("ascii")
            else:  # nothing to escape, in a fifth of the time
                listed = some.replace(b"\0", b'","')
            digest.update(comma + b'"' + listed + b'"')
            comma = b","
    digest.update(b"]")
    return digest.hexdigest()


def _refuse(paths: Sequence[str], first: int) -> None:
    """Raises: CacheError naming the one that can't be stored; `first` is the row of the first of them."""
    for row, path in enumerate(paths, first):
        problem = "holds a NUL character" if "\0" in path else ""
        try:
            path.encode()
        except UnicodeEncodeError:
            problem = "is not valid Unicode; rename the file"
        if problem:
            raise CacheError(f"cache header: paths: path {row}, {path[:80]!r}, {problem}")
