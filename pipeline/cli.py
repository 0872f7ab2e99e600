"""From flags to a stage and back to an exit code.

    0    done
    2    what the user can mend, a wrong flag or a disk without room: one line on stderr, no traceback
    130  Ctrl-C        143  SIGTERM        141  the reader of the output left before the end, as `| head` does

torch takes seconds to import, so a stage's module is imported only once its flags are known to be good.
"""

import contextlib
import gc
import inspect
import io
import os
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from pkgutil import resolve_name
from types import FrameType
from typing import Any, TypeVar

import tyro

from pipeline.checks import Checked
from pipeline.errors import UserError, out_of_memory

C = TypeVar("C", bound=Checked)


class Terminated(BaseException):
    """SIGTERM, raised where the program stands so that files are closed on the way out."""


def main(
    config_class: type[Checked],
    stage: str,
    again: str = "the same command goes on from here",
    smaller: str = "give a smaller --batch, then the same command goes on from here",
) -> int:
    """Parse `sys.argv` into a configuration and run `stage`, given as "module:function".

    `again` says how to go on after an interruption, `smaller` what takes less memory. Returns the exit code.
    """
    program = Path(sys.argv[0]).name
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal without UTF-8 stops no stage
    try:
        signal.signal(signal.SIGTERM, _terminate)
        config = parse(config_class, program, sys.argv[1:])
        load(stage)(config)
    except UserError as error:
        print(f"{program}: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except (KeyboardInterrupt, Terminated) as stop:
        print(f"\n{program}: interrupted; {again}", file=sys.stderr)
        return 143 if isinstance(stop, Terminated) else 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is still to be flushed
        return 141  # as of a program that SIGPIPE ended: what was asked for isn't done
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        print(f"{program}: out of memory; {smaller}", file=sys.stderr)
        return 2
    except OSError as error:
        if not error.strerror:
            raise
        where = f"{error.filename}: " if error.filename else ""
        print(f"{program}: {where}{error.strerror}; mend that, then {again}", file=sys.stderr)
        return 2
    return 0


def load(stage: str) -> Callable[..., Any]:
    """Import a stage's function. What torch's modules hold stays until the end of the program: to look for
    garbage in it, while it is imported and at the exit, would take half a second.
    """
    gc.disable()
    try:
        return resolve_name(stage)
    finally:
        gc.freeze()
        gc.enable()


def parse(config_class: type[C], program: str, flags: list[str]) -> C:
    """Flags → configuration. Wrong ones end the program with one line and exit code 2."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return tyro.cli(config_class, prog=program, args=flags, description=inspect.getdoc(config_class))
    except SystemExit as stop:
        if stop.code:
            print(f"{program}: {one_line(said.getvalue())}; see {program} --help", file=sys.stderr)
        raise


def one_line(box: str) -> str:
    """The first paragraph of tyro's message without title and box (which is of dashes without UTF-8)."""
    lines = [line.strip("│ ") for line in box.splitlines() if not line.startswith(("╭", "╰"))]
    paragraphs = re.split(r"^[─-]{3,}$", "\n".join(lines), flags=re.MULTILINE)
    text = " ".join((paragraphs[0] if "╭" in box or len(paragraphs) < 2 else paragraphs[1]).split())
    return text.rstrip(".") if len(text) <= 300 else f"{text[:300]}…"


def _terminate(signum: int, frame: FrameType | None) -> None:
    raise Terminated
