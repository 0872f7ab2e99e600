"""`python -m cache verify PATH…` checks caches; `python -m cache info PATH` says what one holds.

A PATH is a file or a folder of .h5 files. Exit code 2 and one line on a file that is damaged or none.
"""

import argparse
import io
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from cache.contents import opened, read_contents
from cache.errors import CacheError
from cache.identity import canonical
from cache.reader import FeatureCache


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def main(words: list[str] | None = None, program: str = "python -m cache") -> int:
    """Run the command line, under the name of a program. Returns the exit code."""
    parser = _Parser(prog=program, description="Look after feature caches.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (("verify", "check every digest"), ("info", "say what a cache holds")):
        commands.add_parser(name, help=text).add_argument("path", nargs="+", type=Path)
    given = parser.parse_args(words)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of any bytes, terminals of any encoding
    action = {"verify": verify, "info": info}[given.command]
    failed = 0
    for path in given.path:
        try:
            for file in _files(path):
                action(file)
        except CacheError as error:
            print(f"{parser.prog}: {error}", file=sys.stderr)
            failed = 2
        except BrokenPipeError:  # the reader of our output left, as `| head` does
            break
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or the interpreter complains when it ends
    return failed


def verify(path: Path) -> None:
    """Check a cache and print a line. Raises: CacheError."""
    start = time.perf_counter()
    cache = FeatureCache(path)
    cache.verify()
    seconds = time.perf_counter() - start
    size = path.stat().st_size
    print(f"{path}: good ({size / 1e6:,.1f} MB in {cache.blocks:,} blocks, {size / 1e9 / seconds:.1f} GB/s)")


def info(path: Path) -> None:
    """Print what a cache, or the unfinished part of one, holds. Raises: CacheError."""
    with opened(path) as fd:
        contents = read_contents(fd, str(path))
    header, layout = contents.header, contents.layout
    images, views, *sizes = header.shape
    print(f"{path}: {images:,} images, {views} views, maps of {'×'.join(map(str, sizes))}")
    print(f"  dtype: {header.dtype}, {layout.end / 1e6:,.1f} MB")
    print(f"  blocks: {contents.written.sum():,} of {layout.blocks:,} written")
    per_image = f"multi-label, {(header.labels == 1).sum() / images:.1f} labels per image, "
    kind = per_image if header.multi_label else ""
    print(f"  classes: {len(header.classes)}, {kind}{canonical(header.classes).decode()}")
    print(f"  key: {header.key}")
    if any(contents.images):
        print(f"  images: {contents.images.hex()}")
    for name, value in _flat({"identity": header.identity, "notes": header.notes}):
        print(f"  {name}: {canonical(value).decode()}")


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    if not (files := sorted(path.glob("*.h5"))):
        parts = ", ".join(part.name for part in sorted(path.glob("*.h5.part")))
        raise CacheError(
            f"{path}: no .h5 file in this folder" + (f", but {parts}, not complete yet" if parts else "")
        )
    return files


def _flat(fields: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested fields as dotted names."""
    for name, value in fields.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


if __name__ == "__main__":
    sys.exit(main())
