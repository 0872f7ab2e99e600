"""A file of rows that grows batch by batch, and can go on after an interruption.

    PATH.part    the rows so far; the file has its name once all are there
    PATH.json    what the rows are about, how many there are, and the bytes that they take

Rows are on the disk before PATH.json says so. What is behind the bytes that it names is cut off.
"""

import fcntl
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, Self

from pipeline.errors import RunError, naming
from pipeline.files import read_json, write_json
from pipeline.runs.claim import NO_LOCKS

SAVE_SECONDS = 2.0
"""How much work a kill may cost; Ctrl-C costs none."""


class GrowingFile:
    """A context manager. Inside it `done` rows are there; `is_finished`: nothing is to be added."""

    def __init__(self, path: Path, about: Mapping[str, Any], total: int) -> None:
        """`about` has JSON types that tell one such file from others, under names for messages."""
        self.path, self.about, self.total = path, dict(about), total
        self.part, self.journal = path.with_name(f"{path.name}.part"), path.with_name(f"{path.name}.json")
        self.done = self.bad = self._bytes = 0
        self.is_finished = False
        self._file: BinaryIO | None = None

    def __enter__(self) -> Self:
        """Raises: RunError when there is a file about something else, or another process writes it."""
        if self.path.exists():
            if not self.journal.exists():
                raise RunError(f"{self.path}: is no file of predict.py's; give another --out, or delete it")
            self._continue(self.path)
            self.is_finished = True
            return self
        with naming(self.part):
            self.part.parent.mkdir(parents=True, exist_ok=True)
            file = open(self.part, "ab")
        try:
            self._lock(file.fileno())
            if self.part.stat().st_size and self.journal.exists():
                self._continue(self.part)
            file.truncate(self._bytes)
        except BaseException:
            file.close()
            raise
        self._file, self._saved = file, time.monotonic()
        return self

    def __exit__(self, *stop: object) -> None:
        if self._file is None:
            return
        with naming(self.part), self._file:
            self._save()
            if self.done == self.total and stop[0] is None:
                os.replace(self.part, self.path)

    def add(self, text: str, rows: int, bad: int = 0) -> None:
        """Append the text of some rows. Raises: OSError naming the file."""
        if self._file is None:
            raise ValueError("nothing can be added to a file that is finished or not open")
        data = text.encode()
        with naming(self.part):
            self._file.write(data)
        self._bytes, self.done, self.bad = self._bytes + len(data), self.done + rows, self.bad + bad
        if time.monotonic() - self._saved > SAVE_SECONDS:
            self._save()

    def _continue(self, there: Path) -> None:
        """Go on behind the rows that were written. Raises: RunError when they are about something else."""
        found = read_json(self.journal)
        about = found.get("about")
        about = about if isinstance(about, dict) else {}
        if differ := [name for name, value in self.about.items() if about.get(name) != value]:
            raise RunError(
                f"{there}: holds predictions with other {' and '.join(differ)}; give another --out, or "
                "delete it"
            )
        done, size, bad = (found.get(name) for name in ("rows", "bytes", "bad"))
        if isinstance(done, int) and isinstance(size, int) and size <= there.stat().st_size:
            self.done, self._bytes, self.bad = done, size, int(bad or 0)

    def _save(self) -> None:
        if self._file is not None:
            self._file.flush()
            os.fsync(self._file.fileno())
            counts = {"rows": self.done, "of": self.total, "bad": self.bad, "bytes": self._bytes}
            write_json(self.journal, {**counts, "about": self.about})
            self._saved = time.monotonic()

    def _lock(self, fd: int) -> None:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunError(
                f"{self.part}: another process is writing it; wait for it, or give another --out"
            ) from None
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
