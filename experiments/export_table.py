"""The table of docs/export.md: how near exported models are to evaluate.py, and why not nearer.

    python -m experiments.export_table                      the trunks of the table
    python -m experiments.export_table alexnet-cifar ...    some of them

Cuts 120 crops of 200×200 pixels out of scikit-learn's two photographs, every fifth of them to test on; stores
maps in float16; trains FullNet-64 on ten crops with two seeds; and runs every file on all test crops at once.
"""

import contextlib
import io
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_sample_images
from torch import Tensor, nn

from cache import FeatureCache, split_path
from pipeline.config import EvaluateConfig, ExtractConfig, TrainConfig
from pipeline.datasets.base import open_dataset
from pipeline.evaluation.stage import evaluate
from pipeline.export.formats import FORMATS
from pipeline.export.model import exportable
from pipeline.extraction.stage import extract
from pipeline.training.stage import train
from pipeline.trunks import trunk_of_identity

TRUNKS: dict[str, tuple[int | None, str | None]] = {
    "efficientnet-lite0": (160, None),
    "alexnet-cifar": (None, None),
    "torchvision:resnet18": (96, "none"),
    "timm:convnext_atto": (160, "none"),
    "timm:vit_tiny_patch16_224@blocks.5": (None, "none"),
}
"""Each with the side of its images and its weights."""
SEEDS = (0, 1)
HEADER = "| trunk | " + " | ".join(f"{f.runtime}: numbers | logits" for f in FORMATS.values()) + " |"


class Nearness(NamedTuple):
    """What a format's files of a trunk differ by."""

    numbers: float
    """Share of the maps' numbers that are stored as another one."""
    logits: list[float]
    """Largest difference of each seed's logits, as a fraction of the largest."""


def main(specs: Sequence[str]) -> int:
    """Print a row for each trunk. Returns the exit code."""
    print(HEADER, "|---" * (1 + 2 * len(FORMATS)) + "|", sep="\n", flush=True)
    with tempfile.TemporaryDirectory() as name:
        make_photos(Path(name) / "photos")
        for spec in specs or TRUNKS:
            with contextlib.redirect_stdout(io.StringIO()):
                found = nearness(spec, *TRUNKS[spec], Path(name))
            told = (f"{100 * n.numbers:.2f} % | {min(n.logits):.1e}, {max(n.logits):.1e}" for n in found)
            print(f"| `{spec}` | {' | '.join(told)} |", flush=True)
    return 0


def make_photos(folder: Path) -> None:
    """A folder per split and photograph."""
    rng = np.random.default_rng(0)
    for label, photo in zip("ab", load_sample_images().images, strict=True):
        for i in range(60):
            path = folder / ("train" if i % 5 else "test") / label / f"{i:02}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            row, column = rng.integers(0, photo.shape[0] - 200), rng.integers(0, photo.shape[1] - 200)
            Image.fromarray(photo[row : row + 200, column : column + 200]).save(path)


def nearness(spec: str, image_px: int | None, weights: str | None, at: Path) -> list[Nearness]:
    """How near each format's files come, with maps of a trunk."""
    photos, folder = f"folder:{at / 'photos'}", at / str(len(list(at.iterdir())))
    made: dict[str, str] = {"dataset": photos, "trunk": spec, "cache": str(folder / "cache"), "device": "cpu"}
    extract(ExtractConfig(**made, image_px=image_px, weights=weights))  # pyright: ignore[reportArgumentType]
    cache = FeatureCache(split_path(folder / "cache", "test"))
    read = open_dataset(photos)["test"].images.read
    transform = trunk_of_identity(cache.identity, weights).transform
    images = torch.from_numpy(np.stack([transform.apply(read(row).pixels) for row in range(len(cache))]))
    runs = [_trained(folder, seed) for seed in SEEDS]
    stored = torch.from_numpy(cache.take(np.arange(len(cache)), None)).flatten(1).float()
    return [_of_format(suffix, runs, images, stored, weights) for suffix in FORMATS]


def _trained(folder: Path, seed: int) -> Path:
    run = folder / f"run-{seed}"
    train(
        TrainConfig(
            cache=str(folder / "cache"), out=str(run), hidden=(64,), epochs=4, seed=(seed,), device="cpu"
        )
    )
    evaluate(EvaluateConfig(run=(str(run),), device="cpu"))
    return run


def _of_format(
    suffix: str, runs: list[Path], images: Tensor, stored: Tensor, weights: str | None
) -> Nearness:
    logits: list[float] = []
    for run in runs:
        expected = torch.from_numpy(np.load(run / "eval" / "predictions.npz")["logits"])
        found = _outputs(suffix, run, images, weights)
        logits.append(float((found - expected).abs().max() / expected.abs().max()))
    maps = _outputs(suffix, runs[0], images, weights, maps=True)
    return Nearness(float((maps != stored).float().mean()), logits)


def _outputs(suffix: str, run: Path, images: Tensor, weights: str | None, maps: bool = False) -> Tensor:
    """The logits that a run's file gives, or, instead of them, the maps as the head gets them."""
    made, path = exportable(run, weights, None), run / f"model{suffix}"
    if maps:
        made.model.head = nn.Flatten()
        made.model.map_mean.zero_()
        made.model.map_scale.fill_(1)
    FORMATS[suffix].write(made, path)
    return FORMATS[suffix].load(path)(images)[1]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
