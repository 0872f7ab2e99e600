"""`python -m cache verify PATH…` checks caches; `python -m cache info PATH` says what one holds; `import`
makes a cache of features from elsewhere, and `export` makes other files of a cache.

A PATH is a file or a folder of .h5 files. Exit code 2 and one line on a file that is damaged or none.
"""

import argparse
import io
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

from cache.contents import opened, read_contents
from cache.errors import CacheError
from cache.exporting import command as exporting
from cache.identity import canonical
from cache.importing import command as importing
from cache.reader import FeatureCache
from cache.telling import tell, watching


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def main(words: list[str] | None = None, program: str = "python -m cache") -> int:
    """Run the command line, under the name of a program. Returns the exit code."""
    parser = _Parser(prog=program, description="Look after feature caches.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (("verify", "check every digest"), ("info", "say what a cache holds")):
        commands.add_parser(name, help=text).add_argument("path", nargs="+", type=Path)
    importing.add_flags(commands.add_parser("import", help="make a cache of features from elsewhere"))
    exporting.add_flags(commands.add_parser("export", help="make other files of a cache"))
    given = parser.parse_args(words)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of any bytes, terminals of any encoding
    try:
        if given.command in ("verify", "info"):
            action = {"verify": verify, "info": info}[given.command]
            return max(_each(path, action, parser.prog) for path in given.path)
        convert = {"import": importing.import_features, "export": exporting.export_features}[given.command]
        return max(_show(line, parser.prog) for line in convert(given))
    except CacheError as error:
        tell(f"{parser.prog}: {error}")
        return 2
    except KeyboardInterrupt:
        tell(f"\n{parser.prog}: interrupted; run the same command again")
        return 130


def _each(path: Path, action: Callable[[Path], str], program: str) -> int:
    """Do something with each cache at a path; gives the exit code."""
    code = 0
    try:
        for file in _files(path):
            code = max(code, _show(action(file), program))
    except CacheError as error:
        tell(f"{program}: {error}")
        return 2
    return code


def verify(path: Path) -> str:
    """Check a cache; gives a line, and tells one every half minute until then. Raises: CacheError."""
    start, cache = time.perf_counter(), FeatureCache(path)
    watch = watching(str(path), "checked")
    cache.verify(watch=lambda checked: watch(checked / cache.blocks))
    seconds, size = time.perf_counter() - start, path.stat().st_size
    return f"{path}: good ({size / 1e6:,.1f} MB in {cache.blocks:,} blocks, {size / 1e9 / seconds:.1f} GB/s)"


def info(path: Path) -> str:
    """What a cache, or the unfinished part of one, holds. Raises: CacheError."""
    with opened(path) as fd:
        contents = read_contents(fd, str(path))
    header, layout = contents.header, contents.layout
    images, views, *sizes = header.shape
    per_image = f"multi-label, {(header.labels == 1).sum() / images:.1f} labels per image, "
    kind = per_image if header.multi_label else ""
    steps = () if header.scales is None else header.scales[0]
    scaled = f" (scales from {min(steps):.3g} to {max(steps):.3g})" if len(steps) else ""
    lines = [
        f"{path}: {images:,} images, {views} view{'s' * (views > 1)}, maps of {'×'.join(map(str, sizes))}",
        f"  dtype: {header.dtype}{scaled}, {layout.end / 1e6:,.1f} MB",
        f"  blocks: {contents.written.sum():,} of {layout.blocks:,} written",
        f"  classes: {len(header.classes)}, {kind}{canonical(header.classes).decode()}",
        f"  key: {header.key}",
    ]
    lines += [f"  images: {contents.images.hex()}"] if any(contents.images) else []
    facts = {"identity": header.identity, "notes": header.notes}
    lines += [f"  {name}: {canonical(value).decode()}" for name, value in _flat(facts)]
    return "\n".join(lines)


def _show(text: str, program: str) -> int:
    """Print on the standard output; gives an exit code. A reader may leave; a disk must not be full."""
    try:
        print(text, flush=True)
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # for the rest, and when the interpreter ends
        if not isinstance(error, BrokenPipeError):
            tell(f"{program}: standard output: {error.strerror}")
            return 2
    return 0


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
