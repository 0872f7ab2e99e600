"""What a worker must have in common with the command that gives it tasks: versions, sources and folders.

A worker on another machine may run another torch, or another commit, and compute other numbers, or write into
a folder of the same name that nobody else sees. It looks before it begins.
"""

import dataclasses
import functools
import glob
import hashlib
import os
import re
import secrets
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from cache.whole_files import lives
from pipeline.errors import RunError, naming

PACKAGES = ("torch", "torchvision", "numpy")
"""What computes: numbers may differ between versions."""
SOURCES = "this project's code"


@dataclasses.dataclass(frozen=True)
class Passport:
    """The versions and the working directory of the command, and a file in each folder that all must see."""

    versions: tuple[tuple[str, str], ...]
    directory: str
    marks: tuple[str, ...]

    def check(self) -> None:
        """Go to the working directory. Raises: RunError, naming this machine and what it lacks."""
        for name, wanted in self.versions:
            if (found := version_of(name)) != wanted:
                raise RunError(
                    f"{me()} has {name} {found or 'not at all'}, expected {wanted} as where the command was "
                    "given; install the same on both"
                )
        try:
            os.chdir(self.directory)
        except OSError as error:
            raise RunError(
                f"{me()} doesn't see the folder {self.directory} ({error.strerror}), where the command was "
                "given; run it in a folder that all machines share"
            ) from None
        for mark in self.marks:
            if not os.path.exists(mark):
                raise RunError(
                    f"{me()} doesn't see what is written into {os.path.dirname(mark)}; give a folder that "
                    "all machines share"
                )


@contextmanager
def passport(folders: Sequence[Path]) -> Iterator[Passport]:
    """The passport of this command. Each folder is made, and holds a small file until the end.

    Raises: OSError when it can't be.
    """
    with ExitStack() as stack:
        marks = [stack.enter_context(_mark(folder.absolute())) for folder in folders]
        versions = tuple((name, version_of(name)) for name in (*PACKAGES, SOURCES))
        yield Passport(versions, os.getcwd(), tuple(marks))


@contextmanager
def _mark(folder: Path) -> Iterator[str]:
    path = mark_in(folder)
    with naming(folder):
        folder.mkdir(parents=True, exist_ok=True)
        clear_marks(folder)
        path.touch()
    try:
        yield str(path)
    finally:
        path.unlink(missing_ok=True)


def mark_in(folder: Path) -> Path:
    """The path of a new file that is there while this command is, which `clear_marks` removes if need be."""
    return folder / f"{_ours()}{os.getpid()}-{secrets.token_hex(4)}"


def clear_marks(folder: Path) -> None:
    """Remove what commands of this machine left in a folder that were killed. Raises: OSError."""
    for left in folder.glob(f"{glob.escape(_ours())}*-*"):
        # else it is of a machine whose name begins with that of this one
        ours = re.fullmatch(r"(\d+)-[0-9a-f]{8}", left.name.removeprefix(_ours()))
        if ours and not lives(int(ours[1])):
            left.unlink(missing_ok=True)


def _ours() -> str:
    """How the marks of this machine's commands begin."""
    return f".seen-{socket.gethostname()}-"


@functools.cache
def version_of(name: str) -> str:
    """The version of a package, or the digest of this project's sources; empty if it is not installed."""
    if name == SOURCES:
        return _sources()
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _sources() -> str:
    """The first digits of a digest of every module of cache/ and pipeline/, names included."""
    root, digest = Path(__file__).parents[2], hashlib.sha256()
    for path in sorted(path for room in ("cache", "pipeline") for path in (root / room).rglob("*.py")):
        digest.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def me() -> str:
    """This worker, in a message."""
    return f"the worker on {socket.gethostname()}"
