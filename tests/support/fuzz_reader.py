"""Throw changed files at the reader: it has to answer with a CacheError or arrays, soon, in little memory.

    PYTHONPATH=.:tests python tests/support/fuzz_reader.py --seconds 1800 --keep FOLDER

Most files get their checksums right again, so that HDF5 goes on to read what was changed. They are read in
forked children; one that ends a child with a signal, another exception or too much time is kept. With
--corpus FILE.tar.xz, so is the first file of each answer.
"""

import argparse
import contextlib
import io
import os
import random
import re
import resource
import signal
import sys
import tarfile
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from cache import CacheError, FeatureCache
from cache.contents import opened
from cache.digests import header_digest
from cache.format import DIGEST_BYTES, HEADER_DATASETS, HEADER_DIGESTS, Layout
from cache.hdf5_checks import locate
from support import structure
from support.samples import extract, header, several_labels

EDGES = [0, 1, 2, 7, 8, *((1 << bits) - 1 for bits in (7, 8, 15, 16, 31, 32, 63, 64)), 1 << 7]
PER_CHILD = 200
SECONDS_PER_CHILD = 60  # of the processor; on a busy machine a child may take ten times as long
MEMORY = 1 << 30  # beyond what this process has already: torch alone reserves more than 3 GiB
ANSWER = 100  # bytes, of which the first 20 are the file's seed; a child's answers fit into a pipe


class Base(NamedTuple):
    """A good file, where its checksums are, and where its datasets are."""

    data: bytes
    spans: list[structure.Span]
    layout: Layout


def bases(folder: Path) -> list[Base]:
    """Good files to start from: every dtype, one and two views, one and two blocks, both kinds of labels."""
    headers = [
        header(3, map_shape=(16, 4, 4)),
        header(2, views=2, map_shape=(1, 3, 2), dtype="bfloat16", notes={}),
        header(3, labels=several_labels(3)),
        header(3, map_shape=(3, 2, 2), dtype="int8"),
        header(1030, map_shape=(1, 1, 1), dtype="float32", paths=[f"{i:x}" for i in range(1030)]),
    ]
    found = []
    for i, made in enumerate(headers):
        path = extract(folder / f"{i}.h5", made)
        with opened(path) as fd:
            layout = locate(fd, str(path))
        data = path.read_bytes()
        found.append(Base(data, structure.spans(data), layout))
    return found


def changed(goods: list[Base], seed: int) -> bytes:
    """A file of our own with one to four things changed."""
    rng = random.Random(seed)
    data, spans, layout = goods[0 if rng.random() < 0.5 else rng.randrange(len(goods))]
    new = bytearray(data)
    if in_header := rng.random() < 0.15:  # contents with the right digest, rather than structure
        extents = [layout[name] for name in HEADER_DATASETS]
        spans = [(extent.offset, extent.end) for extent in extents]
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
    if in_header:
        parts = {name: bytes(new[layout[name].offset : layout[name].end]) for name in HEADER_DATASETS}
        at = layout[HEADER_DIGESTS].offset
        new[at : at + DIGEST_BYTES] = header_digest(layout, parts)
    elif rng.random() < 0.9:
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
        said = re.sub(r"\d[\d,]*", "…", str(error).partition(": ")[2])
        said = said.removeprefix("no usable feature cache: ")
        return said[: 20 if said.startswith(("cache header", "'utf")) else 45]  # then come the file's bytes
    cache.take([0])
    return "accepted"


def survives(goods: list[Base], seeds: range, folder: Path, tell: int) -> bool:
    """Read these files in a child. False when that ended it."""
    return survives_all((changed(goods, seed) for seed in seeds), seeds, folder, tell)


def survives_all(files: Iterable[bytes], names: Iterable[int], folder: Path, tell: int) -> bool:
    """The same with any files; `names` are numbers that go into the answers."""
    if pid := os.fork():
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    code = 1
    with contextlib.suppress(Exception):
        limit = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        signal.setitimer(signal.ITIMER_PROF, SECONDS_PER_CHILD)
        signal.alarm(10 * SECONDS_PER_CHILD)
        path = folder / "changed.h5"
        for data, name in zip(files, names, strict=True):
            path.write_bytes(data)
            answer = f"{name:20}{read(path)}".encode()[:ANSWER].ljust(ANSWER)
            with contextlib.suppress(BlockingIOError):
                os.write(tell, answer)
        code = 0
    os._exit(code)


class Findings(NamedTuple):
    """How often each answer came, the first seed that gave it, and the seeds that ended a child."""

    answers: Counter[str]
    first: dict[str, int]
    bad: list[int]


def fuzz(goods: list[Base], seconds: float, first: int, folder: Path) -> Findings:
    """Change and read files for so long, from seed `first` on."""
    found = Findings(Counter(), {}, [])

    def drain() -> None:
        with contextlib.suppress(BlockingIOError):
            while told := os.read(ready, ANSWER):
                answer = told[20:].decode(errors="replace").strip()
                found.answers[answer] += 1
                found.first.setdefault(answer, int(told[:20]))

    ready, tell = os.pipe()
    os.set_blocking(ready, False)
    os.set_blocking(tell, False)  # answers about a bad batch's files one by one may be lost
    until, seed = time.monotonic() + seconds, first
    while time.monotonic() < until:
        batch = range(seed, seed + PER_CHILD)
        good = survives(goods, batch, folder, tell)
        drain()
        if not good:
            alone = [s for s in batch if not survives(goods, range(s, s + 1), folder, tell)]
            found.bad.extend(alone or [seed])
        seed += PER_CHILD
    return found


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--keep", type=Path, help="folder for files that ended a child")
    parser.add_argument("--corpus", type=Path, help="archive for the first file of each answer")
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        goods = bases(Path(name))
        answers, first, bad = fuzz(goods, flags.seconds, flags.first, Path(name))
    for answer, count in answers.most_common():
        print(f"{count:9,}  {answer}")
    print(f"{sum(answers.values()):9,}  files; ended a child: {bad or 'none'}")
    if flags.keep:
        flags.keep.mkdir(parents=True, exist_ok=True)
        for seed in bad:
            (flags.keep / f"{seed}.h5").write_bytes(changed(goods, seed))
    if flags.corpus:
        with tarfile.open(flags.corpus, "w:xz") as corpus:
            for seed in sorted(first.values()):
                data, member = changed(goods, seed), tarfile.TarInfo(f"{seed}.h5")
                member.size = len(data)
                corpus.addfile(member, io.BytesIO(data))
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main())
