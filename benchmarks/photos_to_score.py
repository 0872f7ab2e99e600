"""From photos to a probe's test score: one command against thirty lines of code, start-up included.

    python -m benchmarks.photos_to_score [--quick]

    ours     run.py --head logistic
    theirs   benchmarks/plain_probe.py: ImageFolder, a DataLoader with two workers, np.save of the pooled maps
             of the same trunk, scikit-learn's LogisticRegression

2,000 made photos of 500×375 pixels in ten classes, a quarter of them to test, and `efficientnet-lite0`. Ours
stores all maps, chooses its penalty on a tenth of the training images and writes everything that evaluate.py
writes. Both scores have to agree within 5 points: the penalties differ.
"""

import io
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.alone import main, row
from benchmarks.decoding import HEIGHT, WIDTH, make_photo

ROOT = Path(__file__).parents[1]
CLASSES = 10
FLAGS = ("--trunk", "efficientnet-lite0", "--device", "cpu")


def run(quick: bool) -> list[dict[str, Any]]:
    """Rows of name, ours, theirs, ratio, target, unit."""
    images = 200 if quick else 2000
    ours, theirs = [], []
    for _ in range(1 if quick else 2):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            make_photos(folder / "photos", images)
            seconds, score = by_command(folder)
            ours.append(seconds)
            seconds, plain = by_hand(folder)
            theirs.append(seconds)
            assert quick or abs(score - plain) <= 5, f"top-1 {score} against {plain}"
    what = f"from {images:,} photos to a probe's test score, start-up included"
    return [row(what, min(ours), min(theirs), 1.5, "s")]


def by_command(folder: Path) -> tuple[float, float]:
    """Seconds, and top-1 in per cent."""
    places = ("--cache", str(folder / "cache"), "--out", str(folder / "run"))
    started = time.perf_counter()
    _call("run.py", "--dataset", f"folder:{folder / 'photos'}", *FLAGS, "--head", "logistic", *places)
    seconds = time.perf_counter() - started
    return seconds, json.loads((folder / "run/eval/metrics.json").read_text())["top1"]


def by_hand(folder: Path) -> tuple[float, float]:
    """Seconds, and top-1 in per cent."""
    (features := folder / "features").mkdir()
    started = time.perf_counter()
    said = _call("benchmarks/plain_probe.py", str(folder / "photos"), str(features))
    return time.perf_counter() - started, float(said.split()[-1])


def _call(script: str, *words: str) -> str:
    command = [sys.executable, str(ROOT / script), *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def make_photos(folder: Path, images: int) -> None:
    """FOLDER/{train,test}/CLASS/*.jpg: each class has a pattern over scenes that all share."""
    rng = np.random.default_rng(0)
    scenes = [np.asarray(Image.open(io.BytesIO(make_photo(seed)))) for seed in range(16)]
    marks = [_mark(rng) for _ in range(CLASSES)]
    for i in range(images):
        label, split = i % CLASSES, "test" if i // CLASSES % 4 == 3 else "train"
        place = folder / split / str(label)
        place.mkdir(parents=True, exist_ok=True)
        scene = np.roll(scenes[rng.integers(16)], rng.integers(0, 300, 2), (0, 1))
        pixels_HWC = (scene + rng.uniform(0.2, 1) * marks[label]).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels_HWC).save(place / f"{i:04}.jpg", quality=90)


def _mark(rng: np.random.Generator) -> np.ndarray:
    coarse = Image.fromarray(rng.integers(0, 256, (8, 10, 3), np.uint8))
    return 0.8 * (np.asarray(coarse.resize((WIDTH, HEIGHT), Image.Resampling.NEAREST)) - 128.0)


if __name__ == "__main__":
    main(run)
