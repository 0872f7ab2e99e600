"""Requests to a store that are sent again while they fail for a passing reason; their errors, in one line.

Drivers raise errors of their own and of the libraries below them. What matters of them is said here without
importing any: the number of a web server's answer, or the system's number of an error.
"""

import errno
import random
import sys
import time
from collections.abc import Callable
from typing import TypeVar

from cache.errors import StoreError

T = TypeVar("T")

TRIES, FIRST_WAIT = 6, 0.25
"""How often a request is sent, and the seconds before the second time; they double from then on."""
PASSING = {408, 425, 429, 500, 502, 503, 504}
"""Answers of a web server that may be others a moment later."""
PASSING_ERRNO = {
    *(errno.ECONNRESET, errno.ECONNABORTED, errno.ECONNREFUSED, errno.EPIPE, errno.ETIMEDOUT, errno.EBUSY),
    *(errno.EAGAIN, errno.EIO, errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ESTALE),
    getattr(errno, "EREMOTEIO", errno.EIO),  # Linux alone has it
}
_JITTER = random.SystemRandom()  # the random module's own numbers are left as they are


class CutShortError(ConnectionError):
    """A file has come that is shorter or longer than the store says."""


def retried(url: str, ask: Callable[[], T]) -> T:
    """What a request gives, sent again while it fails for a passing reason.

    Raises: OSError naming the URL, where the file is missing, forbidden or a folder; StoreError.
    """
    tried = 1
    while True:
        try:
            return ask()
        except Exception as error:
            if tried == TRIES or not is_passing(error):
                raise named(error, url, tried) from error
        wait = FIRST_WAIT * 2 ** (tried - 1)
        time.sleep(_JITTER.uniform(wait, 1.5 * wait))  # many would come back at the same moment
        tried += 1


def is_passing(error: Exception) -> bool:
    """Whether the same request may succeed a moment later: not for a file that isn't there."""
    error, web = _real(error), sys.modules.get("aiohttp")
    status = _status(error)
    if status is not None:
        return status in PASSING
    if isinstance(error, FileNotFoundError | PermissionError | IsADirectoryError | NotADirectoryError):
        return False
    if web and isinstance(error, web.ClientConnectionError | web.ClientPayloadError):
        return True
    known = isinstance(error, OSError) and error.errno in PASSING_ERRNO
    return known or isinstance(error, TimeoutError | ConnectionError)


def named(error: Exception, url: str, tried: int = 1) -> Exception:
    """The same error with the URL, the reason and what to do."""
    error = _real(error)
    status, said = _status(error), " ".join(str(error).split())[:300] or type(error).__name__
    if isinstance(error, FileNotFoundError) or status == 404:
        return FileNotFoundError(errno.ENOENT, "no such file, folder or bucket", url)
    if isinstance(error, IsADirectoryError):
        return IsADirectoryError(errno.EISDIR, "it is a folder", url)
    if isinstance(error, PermissionError) or status in (401, 403):
        reason = f"the store refuses it ({said}); check the credentials that its driver finds"
        return PermissionError(errno.EACCES, reason, url)
    if "Credential" in type(error).__name__:
        return StoreError(f"{url}: {said}; set them where the driver looks for them, as in the environment")
    again = f" after {tried} tries" if tried > 1 else ""
    return StoreError(
        f"{url}: can't be read{again}: {said}; check URL and network, then run the same command again"
    )


def _real(error: Exception) -> Exception:
    """What a driver saw before it said that a file isn't there: a busy server, perhaps."""
    cause = error.__cause__
    if isinstance(error, FileNotFoundError) and isinstance(cause, Exception):
        return cause if _status(cause) or is_passing(cause) else error
    return error


def _status(error: Exception) -> int | None:
    """The number of a web server's answer, where an error has one."""
    values = (getattr(error, name, None) for name in ("status", "status_code", "code", "response"))
    found = next(filter(None, values), None)
    found = getattr(found, "status_code", found)
    return int(str(found)) if str(found).isdecimal() else None
