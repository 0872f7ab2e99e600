"""A disk that is full, without root: files that may not grow."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def no_room(nbytes: int) -> Iterator[None]:
    """No file can be written beyond so many bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (nbytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
