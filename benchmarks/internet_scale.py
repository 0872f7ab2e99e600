"""A split of 1e8 images in 10,000 files: what opening it, listing it and reading rows of it costs.

    python -m benchmarks.internet_scale [--quick]
    python -m benchmarks.internet_scale --plan [NAME=NUMBER ...]    # what 1e8 images on 64 GPUs take

Simulated: the files are links to two real caches, of 9 and 10 blocks, whose features are holes (zeros that
take no disk), and the manifest lists 10,000 of them. So the numbers of files, rows and bytes are real, and
what is looked at of each is; the images aren't. A process of its own opens it.

The plan is arithmetic on rates of this machine, and on those in `GIVEN`: replace them by your own.
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
GIVEN: dict[str, float] = {
    "gpus": 64,
    "cores": 16,  # beside each GPU
    "trunk_per_s": 6000,  # images a second of a GPU: that of your trunk, by benchmarks/trunk_forward.py
    "decode_ms": 0.6,  # of a core, for a JPEG of 500×375 pixels, by benchmarks/decoding.py
    "image_kb": 100,
    "store_gb_per_s": 20,  # of what all workers read images from and write maps to together
    "disk_gb_per_s": 3,  # of the disk that one machine of a sweep maps its copy from
    "path_bytes": 40,
    "scan_us": 5.5,  # to list a file of a folder on a local disk, by benchmarks/startup.py
}
LISTED_BYTES = 41
"""What a worker holds of an image beside its path: its end, label and status (benchmarks/worker_list.py)."""
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


def plan(given: dict[str, float], measured: dict[str, float]) -> list[tuple[str, str]]:
    """What an extraction of all images, and a sweep over it, take: pairs of a name and a figure in words."""
    row_bytes, gpus = 2 * int(np.prod(MAP)), given["gpus"]
    maps, photos = IMAGES * row_bytes, IMAGES * given["image_kb"] * 1e3
    seconds = {
        "the trunks": IMAGES / (gpus * given["trunk_per_s"]),
        "decoding": IMAGES * given["decode_ms"] / 1e3 / (gpus * given["cores"]),
        "the store": (photos + maps) / 1e9 / given["store_gb_per_s"],
    }
    header = IMAGES * (8 + 16 + given["path_bytes"])
    digests = maps / 1e9 / measured["digest_gb_per_s"] / given["cores"]
    once = _minutes(maps / 1e9 / given["disk_gb_per_s"])
    return [
        ("photos", f"{photos / 1e12:.1f} TB"),
        ("maps, float16 / int8", f"{maps / 1e12:.2f} / {maps / 2e12:.2f} TB"),
        ("files", f"{SHARDS:,} of {maps / SHARDS / 1e6:.0f} MB, {SHARDS / gpus:.0f} for each GPU"),
        ("labels, paths and image digests in them", f"{header / 1e9:.1f} GB"),
        ("to list the photos, once", _minutes(IMAGES * given["scan_us"] / 1e6)),
        ("the list in each worker's memory", f"{IMAGES * (given['path_bytes'] + LISTED_BYTES) / 1e9:.1f} GB"),
        *((f"extraction, if {name} were all", _minutes(time)) for name, time in seconds.items()),
        ("to open the split", f"{measured['open_s']:.1f} s, {measured['open_mb']:.0f} MB"),
        ("to read all labels, one process", f"{_minutes(SHARDS * measured['header_s'])}, 0.8 GB"),
        ("to look at the structure of all files", _minutes(SHARDS * measured["structure_s"])),
        ("to verify on one machine: digests / disk", f"{_minutes(digests)} / {once}"),
        ("an epoch from a disk, for all heads of a sweep together", once),
    ]


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.1f} min"


def rates(path: Path) -> dict[str, float]:
    """Rates of this machine, in seconds of processor time."""
    start = time.process_time()
    cache = FeatureCache(path)
    found = {"open_s": time.process_time() - start}
    found["open_mb"] = float(_alone(path).split()[1])
    files = [FeatureCache(file) for file in list(cache.shards)[:2]]
    start = time.process_time()
    for file in list(cache.shards)[2:22]:
        with opened(file) as fd:
            read_published(fd, str(file))
    found["header_s"] = (time.process_time() - start) / 20
    start = time.process_time()
    cache.take(np.arange(0, len(cache), len(cache) // 50))
    found["structure_s"] = (time.process_time() - start) / 50
    data = np.array(files[0].features[:2000])
    start = time.process_time()
    xxhash.xxh3_128_digest(data.data)
    found["digest_gb_per_s"] = data.nbytes / 1e9 / (time.process_time() - start)
    return found


def show_plan(words: list[str]) -> None:
    """Print the plan. Words: NAME=NUMBER, what to take instead of what is in `GIVEN`."""
    changed = {name: float(number) for name, _, number in (word.partition("=") for word in words)}
    if unknown := changed.keys() - GIVEN.keys():
        raise SystemExit(f"--plan: expected {', '.join(GIVEN)}, found {sorted(unknown)[0]}")
    with tempfile.TemporaryDirectory() as folder:
        measured = rates(simulated(Path(folder), IMAGES, SHARDS))
    for name, figure in plan(GIVEN | changed, measured):
        print(f"{name}: {figure}")


def _alone(path: Path) -> str:
    command = [sys.executable, "-m", "benchmarks.internet_scale", "--open", str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def _peak_mb() -> float:
    status = Path("/proc/self/status")
    if status.exists():  # the other way counts what the process was before it began this program
        return int(status.read_text().partition("VmHWM:")[2].split()[0]) / 1000
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def measure(path: Path) -> None:
    """Print the figures of one manifest."""
    before = _peak_mb()
    start = time.perf_counter()
    cache = FeatureCache(path)
    assert len(cache.key) == 64
    seconds = time.perf_counter() - start
    megabytes = _peak_mb() - before
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
    elif "--plan" in sys.argv:
        show_plan(sys.argv[sys.argv.index("--plan") + 1 :])
    else:
        main(run)
