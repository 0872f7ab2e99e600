"""A standard output and error that stop no work: what they don't take is lost."""

import io
import os
import sys
from contextlib import suppress
from typing import Any


class Lossy(io.FileIO):
    """A file descriptor to which writing never fails. What can't be written is lost; `error` is the first."""

    error: OSError | None = None

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data) or len(data)
        except OSError as error:
            self.error = self.error or error
            return len(data)


def secure_output() -> None:
    """Let nothing that is printed stop this process: what a closed, full or abandoned standard output or
    error doesn't take is lost. A closed descriptor becomes /dev/null, or the next file that is opened, a
    cache say, would get the number and what libraries print.
    """
    if sys.stderr is sys.__stderr__ and not is_terminal():
        os.environ.setdefault(
            "TQDM_DISABLE", "1"
        )  # bars of libraries, which would fill a log with one endless line
    while (null := os.open(os.devnull, os.O_RDWR)) <= 2:  # the lowest number that is free
        os.set_inheritable(null, True)
    os.close(null)
    for fd, name in ((1, "stdout"), (2, "stderr")):
        stream = getattr(sys, name)
        if stream is getattr(sys, f"__{name}__"):  # neither secured before nor a test's
            with suppress(AttributeError, OSError, ValueError):
                stream.flush()
            encoding = getattr(stream, "encoding", None) or "utf-8"
            buffer = io.BufferedWriter(Lossy(fd, "w", closefd=False))
            # a terminal without UTF-8 stops no stage; in a log the lines of both are in their order
            secured = io.TextIOWrapper(buffer, encoding, "backslashreplace", line_buffering=True)
            setattr(sys, name, secured)


def lost(stream: Any) -> OSError | None:
    """Why some of what was printed on a stream got lost: a full disk. A reader who left wanted no more."""
    raw = getattr(getattr(stream, "buffer", None), "raw", None)
    error = raw.error if isinstance(raw, Lossy) else None
    return None if isinstance(error, BrokenPipeError) else error


def is_terminal() -> bool:
    """Whether the standard error is a terminal that has lines."""
    with suppress(AttributeError, OSError, ValueError):  # no standard error, or one that is closed
        # in one without a size, as some containers have, a bar has no place
        return sys.stderr.isatty() and os.get_terminal_size(sys.stderr.fileno()).lines > 0
    return False
