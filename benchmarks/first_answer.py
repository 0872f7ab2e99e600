"""From small image files to a test score: one command against what one would write, a process each.

    python -m benchmarks.first_answer [--quick] [--images FOLDER]

    ours     run.py --trunk alexnet-cifar --head logistic, or --head fullnet (ten crops, 20 epochs)
    theirs   benchmarks/plain_answer.py: ImageFolder, a DataLoader with two workers, the same trunk as
             written, then scikit-learn's LogisticRegression, or the same network on maps in RAM

18,000 JPEGs of 32×32 pixels, 3,000 of them to test: the first of each class in FOLDER/train and FOLDER/test
(such as CIFAR-10's), else made ones of four classes. Ours stores all maps, chooses its penalty and its epoch
on a tenth of the training images, and writes everything that evaluate.py writes. Theirs is counted once with
the default penalty, without a choice, and once with the same choice. Both take turns, and their scores have
to agree within 1.5 points. Beside seconds there is the processor time of the processes, which other work on
the machine disturbs less.
"""

import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.alone import main, row
from benchmarks.images import make_jpegs

ROOT = Path(__file__).parents[1]
TRAIN, TEST = 15_000, 3_000
APART = 1.5
RIVALS = {
    "logistic": {"single": "one penalty, no choice", "chosen": "a choice of ten penalties"},
    "fullnet": {"fullnet": "plain PyTorch on maps in RAM"},
}
TARGETS = {"single": 1.6, "chosen": 1.6, "fullnet": 2.5}


class Taken(NamedTuple):
    """What a process took: seconds on the clock, and of all cores, its own processes included."""

    wall: float
    cores: float


def run(quick: bool, images: Path | None = None) -> list[dict[str, Any]]:
    """Rows of name, ours, theirs, ratio, target, unit."""
    train, test = (600, 200) if quick else (TRAIN, TEST)
    rows = []
    with tempfile.TemporaryDirectory() as name:
        photos = Path(name) / "photos"
        if images:
            take_first(images, photos, {"train": train, "test": test})
        else:
            make_jpegs(photos, train, test, marks=0.25)
        for head, rivals in RIVALS.items():
            ours, theirs = list[Taken](), {rival: list[Taken]() for rival in rivals}
            for turn in range(1 if quick else 2):
                taken, score = by_command(photos, Path(name) / f"{head}-{turn}", head)
                ours.append(taken)
                for rival, (taken, plain) in by_hand(photos, Path(name), head).items():
                    theirs[rival].append(taken)
                    assert quick or abs(score - plain) <= APART, f"top-1 {score} against {plain}"
            for rival, words in rivals.items():
                what = f"{train + test:,} JPEGs to the test score of {head}, against {words}"
                for unit, kind in (("s", "wall"), ("s of a core", "cores")):
                    mine, other = (
                        min(getattr(each, kind) for each in side) for side in (ours, theirs[rival])
                    )
                    rows.append(row(what, mine, other, TARGETS[rival], unit))
    return rows


def by_command(photos: Path, folder: Path, head: str) -> tuple[Taken, float]:
    """What it took, and top-1 in per cent."""
    flags = ["--dataset", f"folder:{photos}", "--trunk", "alexnet-cifar", "--head", head, "--device", "cpu"]
    _, taken = called("run.py", *flags, "--cache", str(folder / "cache"), "--out", str(folder / "run"))
    return taken, json.loads((folder / "run/eval/metrics.json").read_text())["top1"]


def by_hand(photos: Path, folder: Path, head: str) -> dict[str, tuple[Taken, float]]:
    """The same, for each way to get a score from the maps: without the time of the other ways."""
    said, taken = called("benchmarks/plain_answer.py", str(photos), str(folder), head)
    found = json.loads(said.splitlines()[-1])
    ways = found["scores"]
    others = {way: sum(found["seconds"][other] for other in ways if other != way) for way in ways}
    cores = {way: sum(found["cores"][other] for other in ways if other != way) for way in ways}
    return {way: (Taken(taken.wall - others[way], taken.cores - cores[way]), ways[way]) for way in ways}


def called(script: str, *words: str) -> tuple[str, Taken]:
    """What a script of this repository prints, and what it took."""
    started, before = time.perf_counter(), of_children()
    command = [sys.executable, str(ROOT / script), *words]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return said, Taken(time.perf_counter() - started, of_children() - before)


def of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def take_first(images: Path, folder: Path, counts: dict[str, int]) -> None:
    """Copy the first images of each class, so many of each split, to a folder of their own."""
    for split, count in counts.items():
        classes = sorted(place for place in (images / split).iterdir() if place.is_dir())
        for place in classes:
            (made := folder / split / place.name).mkdir(parents=True)
            for file in sorted(place.iterdir())[: count // len(classes)]:
                shutil.copyfile(file, made / file.name)


if __name__ == "__main__":
    given = sys.argv[sys.argv.index("--images") + 1] if "--images" in sys.argv else None
    main(lambda quick: run(quick, Path(given) if given else None))
