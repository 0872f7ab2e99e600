"""`python -m cache verify PATH…` checks caches; `python -m cache info PATH` says what one holds; `split` and
`join` rewrite a split as several files or one; `fetch` gets a published cache from a store; `import` makes a
cache of features from elsewhere, and `export` makes other files of a cache.

A PATH is a cache in one file (.h5) or several (the .json that lists them), or a folder of such. Exit code 2
and one line on a file that is damaged or none.
"""

import argparse
import io
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NoReturn

from cache import fetch_command as fetching
from cache.errors import CacheError, UserError
from cache.exporting import command as exporting
from cache.importing import command as importing
from cache.inspection import caches_in, info, verify
from cache.manifest_checks import MAX_SHARDS
from cache.resharding import join, split
from cache.telling import tell, watching

TEXTS = {
    "verify": "check every digest",
    "info": "say what a cache holds",
    "join": "write a split as one file",
    "split": "write a split as several files and the manifest that lists them",
}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def main(words: list[str] | None = None, program: str = "python -m cache") -> int:
    """Run the command line, under the name of a program. Returns the exit code."""
    parser = _Parser(prog=program, description="Look after feature caches.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in TEXTS.items():
        command = commands.add_parser(name, help=text)
        command.add_argument("path", nargs="+", type=Path, help="a cache's .h5 or .json file, or a folder")
        if name in ("join", "split"):
            command.add_argument("--to", required=True, type=Path, metavar="FOLDER", help="where to write it")
        if name == "split":
            command.add_argument("--shards", required=True, type=_count, help="how many files")
    importing.add_flags(commands.add_parser("import", help="make a cache of features from elsewhere"))
    exporting.add_flags(commands.add_parser("export", help="make other files of a cache"))
    fetching.add_flags(commands.add_parser("fetch", help="get a published cache from a store, and check it"))
    given = parser.parse_args(words)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of any bytes, terminals of any encoding
    try:
        if given.command in TEXTS:
            return max(_each(path, _action(given), parser.prog) for path in given.path)
        convert = {
            "import": importing.import_features,
            "export": exporting.export_features,
            "fetch": fetching.fetch,
        }[given.command]
        return max(_show(line, parser.prog) for line in convert(given))
    except UserError as error:
        tell(f"{parser.prog}: {error}")
        return 2
    except KeyboardInterrupt:
        tell(f"\n{parser.prog}: interrupted; run the same command again")
        return 130


def _action(given: argparse.Namespace) -> Callable[[Path], str]:
    """What a command does with each cache; gives a line."""
    if given.command in ("verify", "info"):
        return {"verify": verify, "info": info}[given.command]
    rewrite = join if given.command == "join" else partial(split, shards=given.shards)

    def rewritten(path: Path) -> str:
        with watching(str(path), "copied") as watch:
            return f"{rewrite(path, given.to, watch=watch)}: made of {path}"

    return rewritten


def _count(word: str) -> int:
    """A number of shards. Raises: ArgumentTypeError."""
    if not word.isascii() or not word.isdigit() or not 1 <= int(word) <= MAX_SHARDS:
        raise argparse.ArgumentTypeError(f"expected 1 to {MAX_SHARDS:,}, found {word!r}")
    return int(word)


def _each(path: Path, action: Callable[[Path], str], program: str) -> int:
    """Do something with each cache at a path; gives the exit code."""
    code = 0
    try:
        for file in caches_in(path):
            code = max(code, _show(action(file), program))
    except CacheError as error:
        tell(f"{program}: {error}")
        return 2
    return code


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


if __name__ == "__main__":
    sys.exit(main())
