"""The pipeline's part of the error family; `cache.errors` has the base."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cache.errors import CacheError as CacheError
from cache.errors import StaleCacheError as StaleCacheError
from cache.errors import UserError as UserError


class ConfigError(UserError):
    """A setting has a value it can't have.

    `field` names the field of a configuration, as in "ExtractConfig.batch". A problem that only a stage can
    find has none, and begins with the flag.
    """

    def __init__(self, problem: str, field: str = "") -> None:
        super().__init__(f"{field}: {problem}" if field else problem)
        self.problem, self.field = problem, field


class DataError(UserError):
    """An image, a folder of images or a download is missing, damaged or not what it should be."""


class WeightsError(UserError):
    """A file of weights is missing, damaged, hostile, or belongs to another network."""


class RunError(UserError):
    """A run folder is missing, incomplete, or was made with other settings."""


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Make an OSError inside name this file: a full disk's names none, a failed rename's a temporary one."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and (error.filename is None or error.filename2 is not None):
            error.filename = str(path)
        raise


@contextmanager
def needs_extra(what: str, extra: str) -> Iterator[None]:
    """Make a package that can't be imported inside name the extra that brings it. Raises: ConfigError."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise ConfigError(
            f'{what}: needs the package {error.name}; pip install "ten-crop-cache[{extra}]"'
        ) from error


def cant_open(path: Path, error: OSError) -> str:
    """The line for a file that can't be opened: the system's reason, and what helps if that is known."""
    advice = "; ask its owner for the right to read it" if isinstance(error, PermissionError) else ""
    return f"{path}: can't be opened: {error.strerror or error}{advice}"


def out_of_memory(error: Exception) -> bool:
    """Whether numpy, CUDA, torch or a memory map ran out of memory. torch has no class for it on a CPU, nor
    for memory of a CPU that a GPU copies from."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return any(words in str(error) for words in ("can't allocate memory", "CUDA error: out of memory"))
