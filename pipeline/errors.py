"""The pipeline's members of the error family; see `cache.errors`."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cache.errors import CacheError, StaleCacheError, UserError


class ConfigError(UserError):
    """A flag has a value it can't have."""


class DataError(UserError):
    """An image, a folder of images or a download is missing, damaged or not what it should be."""


class WeightsError(UserError):
    """A file of weights is missing, damaged, hostile, or belongs to another network."""


class RunError(UserError):
    """A run folder is missing, incomplete, or was made with other settings."""


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """An OSError says which file it is about: that of a full disk, which comes with the writing, doesn't, and
    that of a rename names the part first."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and (error.filename is None or error.filename2 is not None):
            error.filename = str(path)
        raise


def out_of_memory(error: Exception) -> bool:
    """numpy's, CUDA's and torch's on the CPU, which has no class of its own. torch is not imported here."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return "can't allocate memory" in str(error)


__all__ = [
    "CacheError",
    "ConfigError",
    "DataError",
    "RunError",
    "StaleCacheError",
    "UserError",
    "WeightsError",
    "naming",
    "out_of_memory",
]
