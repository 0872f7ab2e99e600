"""A split of 1e8 images in 10,000 files: what opening it, listing it and reading rows of it costs.

    python -m benchmarks.internet_scale [--quick]

Simulated: the files are links to two real caches, of 9 and 10 blocks, whose features are holes (zeros that
take no disk), and the manifest lists 10,000 of them. So the numbers of files, rows and bytes are real, and
what is looked at of each is; the images aren't. A process of its own opens it.
"""

import dataclasses
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from benchmarks.alone import main, row
from cache import CacheHeader, FeatureCache, shard_paths, shard_ranges
from cache.contents import encode_header, opened, read_published
from cache.digests import header_digest, images_digest
from cache.format import DIGEST_BYTES, DIGESTS, HEADER_DIGESTS, create
from cache.manifest import Manifest, Shard, key_of

IMAGES, SHARDS, MAP = 100_000_000, 10_000, (256, 5, 5)
SECONDS, MEGABYTES = 2.0, 1000
"""What opening may take."""


def run(quick: bool) -> list[dict[str, Any]]:
    """Rows of name, ours, theirs (what it may take), ratio, target, unit."""
    images, shards = (IMAGES // 10, SHARDS // 10) if quick else (IMAGES, SHARDS)
    with tempfile.TemporaryDirectory() as folder:
        path = simulated(Path(folder), images, shards)
        figures = [float(word) for word in _alone(path).split()]
    seconds, megabytes, listing, first, again = figures
    name = f"{images:,} images in {shards:,} files"
    return [
        row(f"{name}: open", seconds, SECONDS, 1.0, "s"),
        row(f"{name}: memory once open", megabytes, MEGABYTES, 1.0, "MB"),
        row(f"{name}: list the folder", listing, SECONDS, 1.0, "s"),
        row(f"{name}: 512 random rows, files new to the process", first, SECONDS, 1.0, "s"),
        row(f"{name}: the same rows again", again, first, 1.0, "s"),
    ]


def simulated(folder: Path, images: int, shards: int) -> Path:
    """A manifest of so many images in so many files."""
    ranges, paths = shard_ranges(images, shards), shard_paths(folder / "train.json", shards)
    kinds = {count: _sparse(folder / f"{count}.rows", count) for count in {len(rows) for rows in ranges}}
    listed = list[Shard]()
    for rows, path in zip(ranges, paths, strict=True):
        file, shard = kinds[len(rows)]
        os.link(file, path)
        listed.append(dataclasses.replace(shard, file=path.name, rows=rows))
    shape, digest, identity = (images, 1, *MAP), "0" * 64, {"benchmark": "internet_scale"}
    manifest = Manifest(
        shape=shape,
        dtype="float16",
        classes=("any",),
        identity=identity,
        notes={},
        varying=(),
        multi_label=False,
        paths_sha256=digest,
        key=key_of(shape, "float16", digest, identity, None),
        images=bytes.fromhex(digest),
        shards=tuple(listed),
        index=None,
        scales=None,
    )
    (folder / "train.json").write_bytes(manifest.encode())
    return folder / "train.json"


def _sparse(path: Path, rows: int) -> tuple[Path, Shard]:
    """A published cache whose features are a hole, and what a manifest says of it."""
    header = CacheHeader(
        shape=(rows, 1, *MAP),
        dtype="float16",
        labels=np.zeros(rows, np.int64),
        paths=[f"{row}.jpg" for row in range(rows)],
        classes=["any"],
        identity={"benchmark": "internet_scale"},
    )
    structure, layout = create(header)
    parts = encode_header(header, layout)
    parts[DIGESTS] = b"\1" * layout[DIGESTS].nbytes  # of no block: nothing is verified here
    with path.open("w+b") as file:
        file.write(structure)
        file.truncate(layout.end)
        for name, data in parts.items():
            os.pwrite(file.fileno(), data, layout[name].offset)
        digests = header_digest(layout, parts) + images_digest(file.fileno(), layout)
        os.pwrite(file.fileno(), digests, layout[HEADER_DIGESTS].offset)
    with opened(path) as fd:
        contents = read_published(fd, str(path))
    assert len(digests) == DIGEST_BYTES + 32
    return path, Shard(
        file=path.name,
        rows=range(rows),
        nbytes=layout.end,
        key=header.key,
        header=contents.header_digests,
        header_at=layout[HEADER_DIGESTS].offset,
        fingerprint=xxhash.xxh3_128_digest(contents.header_digests + contents.digests.tobytes()),
    )


def _alone(path: Path) -> str:
    command = [sys.executable, "-m", "benchmarks.internet_scale", "--open", str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def measure(path: Path) -> None:
    """Print the figures of one manifest."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    cache = FeatureCache(path)
    assert len(cache.key) == 64
    seconds = time.perf_counter() - start
    megabytes = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1000
    start = time.perf_counter()
    assert len(os.listdir(path.parent)) > len(cache.shards)
    listing, rows = time.perf_counter() - start, np.random.default_rng(0).choice(len(cache), 512)
    times = list[float]()
    for _ in range(2):
        start = time.perf_counter()
        assert not cache.take(rows).any()
        times.append(time.perf_counter() - start)
    print(seconds, megabytes, listing, *times)


if __name__ == "__main__":
    if "--open" in sys.argv:
        measure(Path(sys.argv[-1]))
    else:
        main(run)
