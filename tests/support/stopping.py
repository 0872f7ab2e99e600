"""Stop extract_features.py at random moments and run it again, until it was stopped often enough.

    PYTHONPATH=.:tests python tests/support/stopping.py SIGKILL 200 FOLDER FLAG…

Prints a line of JSON. After each stop, what is on the disk has to be what FORMAT.md promises.
"""

import json
import os
import random
import sys
from pathlib import Path
from typing import Any

from cache import CacheWriter
from cache.contents import opened
from cache.partial import read_part
from support.extracting import files
from support.running import Ended, run

STOPS_PER_CACHE = 10
CODES = {"SIGKILL": -9, "SIGINT": 130, "SIGTERM": 143}


def extract(flags: list[str], log: Path, stop: str = "", after: float = 0) -> Ended:
    """Run stage one; `log` gets a byte for each block that is written."""

    def prepare() -> None:
        blocks = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        write = CacheWriter.write

        def logged(self: CacheWriter, *arguments: Any) -> None:
            os.write(blocks, b".")
            write(self, *arguments)

        CacheWriter.write = logged  # type: ignore[method-assign]

    said = log.with_suffix(".stderr")
    return run("extract_features.py", flags, said, prepare, stop, after)


def check_disk(cache: Path, whole: dict[str, bytes]) -> None:
    """What is published is right to the last byte, and what isn't can be gone on with."""
    for path in cache.iterdir() if cache.exists() else ():
        if path.name.endswith(".h5.part"):
            with opened(path) as fd:
                read_part(fd, path)  # raises if it can't be read
        elif path.suffix == ".h5":  # an unfinished layout is never opened, and a stamp may be missing
            assert path.read_bytes() == whole[path.name], f"{path} has wrong bytes"


def check_words(stop: str, ended: Ended) -> None:
    if ended.code and stop != "SIGKILL":
        last = ended.said.splitlines()[-1]
        assert last == "extract_features.py: interrupted; run the same command again", ended.said
        assert "Traceback" not in ended.said


def main(stop: str, wanted: int, folder: Path, flags: list[str]) -> dict[str, float]:
    """Stop caches of FOLDER until `wanted` stops hit a run that was still going."""
    moments, stops, rounds, redone = random.Random(0), 0, 0, 0
    first = extract([*flags, "--cache", str(folder / "whole")], folder / "whole.log")
    assert first.code == 0, first.said
    whole = files(folder / "whole")
    blocks = (folder / "whole.log").stat().st_size
    while stops < wanted:
        cache, log = folder / f"{rounds}", folder / f"{rounds}.log"
        here, code = 0, 1
        while code:
            more = here < STOPS_PER_CACHE and stops + here < wanted
            after = moments.uniform(0 if stop == "SIGKILL" else 0.1, first.seconds)
            ended = extract([*flags, "--cache", str(cache)], log, stop if more else "", after)
            code = ended.code
            assert code in (0, CODES[stop] if more else 0), f"exit code {code}: {ended.said}"
            check_words(stop, ended)
            check_disk(cache, whole)
            here += code != 0
        assert files(cache) == whole
        lost = log.stat().st_size - blocks
        assert lost <= here, f"{lost} blocks were written again after {here} stops"
        stops, rounds, redone = stops + here, rounds + 1, redone + lost
    return {"stops": stops, "caches": rounds, "redone": redone, "blocks": blocks, "seconds": first.seconds}


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]), sys.argv[4:])))
