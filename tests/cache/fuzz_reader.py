"""Throw changed files at the reader: it has to answer with a CacheError or arrays, soon, in little memory.

    PYTHONPATH=.:tests/cache python tests/cache/fuzz_reader.py --seconds 1800 --keep FOLDER

Most files get their checksums right again, so that HDF5 goes on to read what was changed. They are read in
forked children; one that ends a child with a signal, another exception or too much time is kept.
"""

import argparse
import contextlib
import os
import random
import re
import resource
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import structure
from samples import extract, header

from cache import CacheError, FeatureCache

EDGES = [
    0,
    1,
    2,
    7,
    8,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0xFFFF,
    0x7FFFFFFF,
    0xFFFFFFFF,
    (1 << 63) - 1,
    (1 << 64) - 1,
]
PER_CHILD = 200
SECONDS_PER_CHILD = 60
MEMORY = 4 << 30
ANSWER = 200  # bytes; a child's answers fit into a pipe


def changed(data: bytes, spans: list[structure.Span], seed: int) -> bytes:
    """A file of our own with one to four things changed."""
    rng, new = random.Random(seed), bytearray(data)
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        start, end = rng.choice(spans) if rng.random() < 0.9 else (0, len(new) - 8)
        at, width = rng.randrange(start, end), rng.choice([1, 1, 2, 4, 8])
        kind = rng.random()
        if kind < 0.3:
            new[at] ^= 1 << rng.randrange(8)
        elif kind < 0.5:
            new[at] = rng.randrange(256)
        elif kind < 0.8:
            number = rng.choice([*EDGES, len(data), rng.randrange(len(data))])
            new[at : at + width] = (number % (1 << 8 * width)).to_bytes(width, "little")
        else:
            other = rng.choice(spans)[0]
            length = rng.choice([4, 8, 16, 64, 128])
            new[at : at + length] = new[other : other + length]
    if rng.random() < 0.9:
        new = bytearray(structure.mended(bytes(new[: len(data)].ljust(len(data), b"\0")), spans))
    if rng.random() < 0.05:
        del new[rng.randrange(len(new)) :]
    return bytes(new)


def read(path: Path) -> str:
    """What the reader says."""
    try:
        cache = FeatureCache(path)
        cache.verify()
    except CacheError as error:
        return re.sub(r"\b\d[\d,]*", "…", str(error).partition(": ")[2])[:70]
    cache.take([0])
    return "accepted"


def survives(data: bytes, spans: list[structure.Span], seeds: range, folder: Path, tell: int) -> bool:
    """Read these files in a child. False when that ended it."""
    if pid := os.fork():
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    code = 1
    with contextlib.suppress(Exception):
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        signal.alarm(SECONDS_PER_CHILD)
        path = folder / "changed.h5"
        for seed in seeds:
            path.write_bytes(changed(data, spans, seed))
            answer = read(path).encode().ljust(ANSWER)[:ANSWER]
            with contextlib.suppress(BlockingIOError):
                os.write(tell, answer)
        code = 0
    os._exit(code)


def fuzz(seconds: float, first: int, keep: Path | None) -> tuple[Counter[str], list[int]]:
    """Answers of the reader and how often each came, and the seeds of files that ended a child."""
    answers: Counter[str] = Counter()

    def drain() -> None:
        with contextlib.suppress(BlockingIOError):
            while answer := os.read(ready, ANSWER):
                answers[answer.decode(errors="replace").strip()] += 1

    bad: list[int] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = extract(folder / "train.h5", header(3, map_shape=(16, 4, 4))).read_bytes()
        spans = structure.spans(data)
        ready, tell = os.pipe()
        os.set_blocking(ready, False)
        os.set_blocking(tell, False)  # answers about a bad batch's files one by one may be lost
        until, seed = time.monotonic() + seconds, first
        while time.monotonic() < until:
            batch = range(seed, seed + PER_CHILD)
            good = survives(data, spans, batch, folder, tell)
            drain()
            if not good:
                found = [s for s in batch if not survives(data, spans, range(s, s + 1), folder, tell)]
                bad += found or [seed]
                for s in found if keep else []:
                    assert keep
                    (keep / f"{s}.h5").write_bytes(changed(data, spans, s))
            seed += PER_CHILD
    return answers, bad


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--keep", type=Path, help="folder for files that ended a child")
    flags = parser.parse_args()
    answers, bad = fuzz(flags.seconds, flags.first, flags.keep)
    for answer, count in answers.most_common():
        print(f"{count:9,}  {answer}")
    print(f"{sum(answers.values()):9,}  files; ended a child: {bad or 'none'}")
    sys.exit(bool(bad))
