"""A cache whose folder has grown by one image in a hundred, against one made anew, start-up included.

    python -m benchmarks.growth [--quick]

    ours     extract_features.py on the cache that is there: it lists, compares, computes what is new
    theirs   the same command into an empty folder

50,000 JPEG files of 32×32 pixels and 500 more, through `alexnet-cifar`; and 20,000 and 200 more through
`efficientnet-lite0` at 160 pixels, which takes longer for an image, and timm longer to import. On a CPU.
Both caches have to have one key and one images digest, and maps that differ in their last digits at most; the
files that were there have to keep their bytes and times. Beside the time by the clock stands that of all
processors, which what else the machine does changes less, and the part of it that Python takes to import
torch: less is not to be had.
"""

import hashlib
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.alone import main, row
from benchmarks.images import make_jpegs
from cache import FeatureCache, split_path

ROOT = Path(__file__).parents[1]


TARGET = 33
"""Growing by 1 % is to take 3 % of the time at most."""


def run(quick: bool) -> list[dict[str, Any]]:
    """Rows of name, ours, theirs, ratio, target, unit."""
    small = race("alexnet-cifar", 2000 if quick else 50_000)
    return [*small, *race("efficientnet-lite0", 200 if quick else 20_000, "--image-px", "160")]


def race(trunk: str, images: int, *flags: str) -> list[dict[str, Any]]:
    """Rows of a trunk."""
    flags = "--trunk", trunk, *flags
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_jpegs(folder / "photos", images + images // 100)
        later = sorted((folder / "photos/train").rglob("*.jpg"), key=lambda path: path.name)[images:]
        for path in later:
            path.rename(folder / path.name)
        extract(folder, "grown", *flags)
        old = folder / "grown/train.h5"
        before = _state(old)
        for path in later:
            (folder / path.name).rename(path)
        ours, theirs = extract(folder, "grown", *flags), extract(folder, "anew", *flags)
        torch = seconds_of("-c", "from pipeline.cli import load; load('torch:Tensor')")
        assert _state(old) == before, "the old file was touched"
        assert_equal(*(FeatureCache(split_path(folder / cache, "train")) for cache in ("grown", "anew")))
    what = f"{trunk}: {images // 100:,} new images to {images:,}, start-up included"
    return [
        row(what, ours[0], theirs[0], TARGET, "s"),
        row(f"{what}, processor time", ours[1], theirs[1], TARGET, "s"),
        row(
            f"{trunk}: starting Python and importing torch alone, the same", torch[1], theirs[1], TARGET, "s"
        ),
    ]


def extract(folder: Path, cache: str, *flags: str) -> tuple[float, float]:
    """As `seconds_of`."""
    flags = *flags, "--device", "cpu", "--cache", str(folder / cache)
    return seconds_of("extract_features.py", "--dataset", f"folder:{folder / 'photos'}", *flags)


def seconds_of(*arguments: str) -> tuple[float, float]:
    """Of a command of Python: by the clock, and of all processors."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    command = [sys.executable, *arguments]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    seconds, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def assert_equal(grown: FeatureCache, anew: FeatureCache) -> None:
    assert (grown.key, grown.images_digest) == (anew.key, anew.images_digest)
    assert np.array_equal(grown.labels, anew.labels)
    for start in range(0, len(anew), 1024):
        rows = np.arange(start, min(start + 1024, len(anew)))
        one, other = (cache.take(rows).astype(np.float32) for cache in (grown, anew))
        assert np.allclose(one, other, rtol=2**-9, atol=1e-4), f"maps of rows from {start} differ"


def _state(path: Path) -> tuple[str, int]:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest(), path.stat().st_mtime_ns


if __name__ == "__main__":
    main(run)
