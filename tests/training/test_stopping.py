"""The stages stopped at random moments and run again: nothing lost but a block or an epoch, nothing wrong."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.tally import Tally
from support.toy import write_cache

SUPPORT = Path(__file__).parents[1] / "support"
pytestmark = pytest.mark.fault


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """1,300 small pictures of two classes: two blocks to train on, and one to test on."""
    root, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for split, count in (("train", 600), ("test", 50)):
        for name in "ab":
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 256, (8, 8, 3), np.uint8)
                Image.fromarray(pixels).save(root / split / name / f"{i:04}.bmp")
    return root


def succeed(program: str, *words: str) -> dict[str, float]:
    """Run a program of this folder; what it prints. One thread is faster than several for things so small."""
    done = subprocess.run(
        [sys.executable, str(SUPPORT / program), *words],
        env=os.environ
        | {"PYTHONPATH": os.pathsep.join(map(str, SUPPORT.parents[:2])), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=3600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def stop_often(stop: str, times: int, folder: Path, dataset: str, weights: Path, tally: Tally) -> None:
    """14 pixels are the fewest that the trunk takes."""
    flags = ["--dataset", dataset, "--weights", str(weights), "--image-px", "14", "--decoders", "1"]
    with tally(f"{stop} at a random moment of extract_features.py", times):
        assert succeed("stopping.py", stop, str(times), str(folder), *flags)["stops"] == times


@pytest.mark.faults
def test_a_few_kills_with_digits(weights: Path, tmp_path: Path, tally: Tally) -> None:
    stop_often("SIGKILL", 5, tmp_path, "digits", weights, tally)


@pytest.mark.faults
@pytest.mark.parametrize(("stop", "times"), [("SIGKILL", 200), ("SIGINT", 25), ("SIGTERM", 25)])
def test_many_stops_of_a_folder_of_images(
    stop: str, times: int, images: Path, weights: Path, tmp_path: Path, tally: Tally
) -> None:
    stop_often(stop, times, tmp_path, f"folder:{images}", weights, tally)


@pytest.mark.parametrize("times", [2, pytest.param(50, marks=pytest.mark.faults)])
def test_training_killed_ends_as_if_it_had_not_been(times: int, tmp_path: Path, tally: Tally) -> None:
    cache = write_cache(tmp_path / "cache", noise=6.0)
    flags = ["--hidden", "6", "--epochs", "40", "--batch", "16", "--precision", "float64", "--device", "cpu"]
    flags += ["--dropout", "0.3", "--lr", "0.3", "--val-fraction", "0.3", "--cache", str(cache)]
    with tally("SIGKILL at a random moment of train_head.py", times):
        found = succeed("stopping_training.py", str(times), str(tmp_path / "runs"), *flags)
        assert found["kills"] == times
