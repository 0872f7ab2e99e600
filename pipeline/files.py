"""Writing files whole or not at all: text, JSON, and logs of one line per entry."""

import contextlib
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cache.whole_files import unfinished_path
from pipeline.errors import RunError, cant_open, naming

LARGEST = 1 << 26
"""Bytes of JSON that are read into memory; what this project writes and reads again stays far below."""


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path that is renamed to `path` at the end. If writing fails or is stopped, the old
    file stays as it was. Each process has its own temporary name, so two can't tear each other's file; what
    one that was killed left is removed.

    The file's mode is the one that the umask gives to new files, whatever the library that writes it thinks.

    Raises: OSError naming the file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with naming(path):
        part = unfinished_path(path)
    try:
        with naming(path):
            part.touch()
            mode = part.stat().st_mode
            yield part
            if part.stat().st_mode != mode:
                part.chmod(mode)
            os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def written_first(path: Path, data: bytes) -> bytes:
    """What stands in a file that whoever comes first writes, of several processes or machines.

    Raises: OSError naming the file.
    """
    with naming(path):
        mine = unfinished_path(path)
    while True:
        with naming(path):
            try:
                mine.write_bytes(data)
                try:
                    os.link(mine, path)  # which fails where there is a file, on network file systems too
                except FileExistsError:
                    pass
                except OSError:  # no hard links here
                    if not path.exists():
                        os.replace(mine, path)
            finally:
                mine.unlink(missing_ok=True)
        with contextlib.suppress(FileNotFoundError):  # somebody removed it meanwhile
            return path.read_bytes()


def write_text(path: Path, text: str) -> None:
    """Write text as UTF-8, whole or not at all. Raises: OSError naming the file."""
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON, whole or not at all; NaN and infinities become null."""
    write_text(path, json.dumps(_finite(value), indent=1, allow_nan=False) + "\n")


def read_bytes(path: Path, most: int = LARGEST) -> bytes:
    """The contents of a file. Raises: RunError when it is missing, larger, no file, or may not be read."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # a pipe would be waited for
            raise RunError(f"{path}: expected a file, found something else; remove it")
        if status.st_size > most:
            raise RunError(f"{path}: expected at most {most:,} bytes, found {status.st_size:,}; remove it")
        return path.read_bytes()
    except OSError as error:
        raise RunError(cant_open(path, error)) from error


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object. Raises: RunError when it is missing, damaged, too large or may not be read."""
    data = read_bytes(path)
    try:
        value = json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise RunError(f"{path}: can't be read as JSON: {error}") from error
    if not isinstance(value, dict):
        raise RunError(f"{path}: expected a JSON object, found a {type(value).__name__}")
    return value


def append_line(path: Path, line: dict[str, Any]) -> None:
    """Append one line of JSON and close the file. Raises: OSError naming the file."""
    with naming(path), open(path, "a", encoding="utf-8") as log:
        log.write(json.dumps(_finite(line), allow_nan=False) + "\n")


def keep_lines(path: Path, count: int) -> None:
    """Cut a log to its first `count` lines, which belong to the epochs before a checkpoint."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
    write_text(path, "".join(lines[:count]))


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not abs(value) < float("inf") else value
