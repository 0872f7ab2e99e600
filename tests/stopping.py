"""Stop extract_features.py at random moments and run it again, until it was stopped often enough.

    PYTHONPATH=. python tests/stopping.py SIGKILL 200 FOLDER FLAG…

Prints a line of JSON. torch is imported once: each run is a forked child that runs the script as `python`
would. After each stop, what is on the disk has to be what FORMAT.md promises.
"""

import json
import os
import random
import runpy
import signal
import sys
import time
from pathlib import Path
from typing import NamedTuple
from unittest import mock

from cache import CacheWriter
from cache.contents import opened
from cache.part import read_part

SCRIPT = Path(__file__).parents[1] / "extract_features.py"
STOPS_PER_CACHE = 10
CODES = {"SIGKILL": -signal.SIGKILL, "SIGINT": 130, "SIGTERM": 143}
SECONDS = 600
"""A run that takes longer is ended, and found wanting."""


class Ended(NamedTuple):
    """How a run ended."""

    code: int
    said: str
    seconds: float


def run(flags: list[str], log: Path, stop: str = "", after: float = 0) -> Ended:
    """Run the script in a child and stop it after so many seconds; `log` gets a byte for a block written."""
    said = log.with_suffix(".stderr")
    begun = time.perf_counter()
    if not (pid := os.fork()):
        os._exit(child(flags, log, said))
    if stop:
        time.sleep(after)
        os.kill(pid, getattr(signal, stop))
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return Ended(code, said.read_text(), time.perf_counter() - begun)


def child(flags: list[str], log: Path, said: Path) -> int:
    signal.alarm(SECONDS)
    for number, path in ((1, Path(os.devnull)), (2, said)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666), number)
    blocks = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    write = CacheWriter.write

    def logged(self: CacheWriter, *arguments: object) -> None:
        os.write(blocks, b".")
        write(self, *arguments)  # type: ignore[arg-type]

    sys.argv = [str(SCRIPT), *flags]
    with mock.patch.object(CacheWriter, "write", logged):
        try:
            runpy.run_path(str(SCRIPT), run_name="__main__")
        except SystemExit as stop:
            sys.stderr.flush()
            return int(stop.code or 0)
    return 1


def check_disk(cache: Path, whole: dict[str, bytes]) -> None:
    """What is published is right to the last byte, and what isn't can be gone on with."""
    for path in cache.iterdir() if cache.exists() else ():
        if path.suffix == ".part":
            with opened(path) as fd:
                read_part(fd, path)  # raises if it can't be read
        elif path.suffix != ".layout":  # an unfinished layout is never opened
            assert path.read_bytes() == whole[path.name], f"{path} has wrong bytes"


def check_words(stop: str, ended: Ended) -> None:
    if ended.code and stop != "SIGKILL":
        last = ended.said.splitlines()[-1]
        assert last == "extract_features.py: interrupted; the same command goes on from here", ended.said
        assert "Traceback" not in ended.said


def main(stop: str, wanted: int, folder: Path, flags: list[str]) -> dict[str, float]:
    """Stop caches of FOLDER until `wanted` stops hit a run that was still going."""
    moments, stops, rounds, redone = random.Random(0), 0, 0, 0
    first = run([*flags, "--cache", str(folder / "whole")], folder / "whole.log")
    assert first.code == 0, first.said
    whole = {path.name: path.read_bytes() for path in (folder / "whole").iterdir()}
    blocks = (folder / "whole.log").stat().st_size
    while stops < wanted:
        cache, log = folder / f"{rounds}", folder / f"{rounds}.log"
        here, code = 0, 1
        while code:
            more = here < STOPS_PER_CACHE and stops + here < wanted
            after = moments.uniform(0 if stop == "SIGKILL" else 0.05, first.seconds)
            ended = run([*flags, "--cache", str(cache)], log, stop if more else "", after)
            code = ended.code
            assert code in (0, CODES[stop] if more else 0), f"exit code {code}: {ended.said}"
            check_words(stop, ended)
            check_disk(cache, whole)
            here += code != 0
        assert {path.name: path.read_bytes() for path in cache.iterdir()} == whole
        lost = log.stat().st_size - blocks
        assert lost <= here, f"{lost} blocks were written again after {here} stops"
        stops, rounds, redone = stops + here, rounds + 1, redone + lost
    return {"stops": stops, "caches": rounds, "redone": redone, "blocks": blocks, "seconds": first.seconds}


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]), sys.argv[4:])))
