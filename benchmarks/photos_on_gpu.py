"""Photos to a published cache on a GPU, against a DataLoader and the eager network in float16.

    python -m benchmarks.photos_on_gpu [--quick]

    ours     extract_features.py's stage, from the list of files to the checked and published cache
    theirs   ImageFolder, a DataLoader with 16 workers and pinned memory, the network as written, channels
             last, np.save of the maps

60,000 photos of 500×375 pixels (64 scenes, each file with a comment of its own) through torchvision's
resnet50 of random weights. Both make their network and their workers anew. Their maps have to agree within
1 % of the largest number on average; those of two photos differ by 3 %. Without a GPU, no lines; but --quick
then runs on the CPU, with fewer photos and resnet18, to see that all of it does.
"""

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader
from torchvision import transforms as T
from torchvision.datasets import ImageFolder

from benchmarks.alone import main, row
from benchmarks.decoding import HEIGHT, WIDTH, make_photo
from cache import FeatureCache
from pipeline.config import ExtractConfig
from pipeline.extraction.stage import extract
from pipeline.extraction.work import trunk_of

SCENES, CLASSES, WORKERS, BATCH = 64, 10, 16, 256
AGREE = 0.01


def run(quick: bool) -> list[dict[str, Any]]:
    """Rows of name, ours, theirs, ratio, target, unit."""
    on_gpu = torch.cuda.is_available()
    if not (on_gpu or quick):
        return []
    photos, network = (200, "resnet18") if quick else (60_000, "resnet50")
    device, precision = ("cuda", "float16") if on_gpu else ("cpu", "float32")
    workers = WORKERS if on_gpu else 2
    ours, theirs = list[float](), list[float]()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_photos(folder / "photos", photos)
        for turn in range(1 if quick else 2):
            config = ExtractConfig(
                dataset=f"folder:{folder / 'photos'}", trunk=f"torchvision:{network}", weights="none",
                cache=str(folder / f"cache{turn}"), device=device, precision=precision,
            )  # fmt: skip
            started = time.perf_counter()
            maps = by_hand(config, folder / "maps.npy", workers)
            theirs.append(time.perf_counter() - started)
            started = time.perf_counter()
            cache = FeatureCache(extract(config) / "train.h5")
            ours.append(time.perf_counter() - started)
            check(cache, maps)
    what = f"{photos:,} photos of {WIDTH}×{HEIGHT} through {network} in {precision} on {device} to a cache"
    return [row(f"{what}, against a DataLoader with {workers} workers", min(ours), min(theirs), 2.0, "s")]


def by_hand(config: ExtractConfig, file: Path, workers: int) -> np.ndarray:
    """The maps (N, C, H, W) of the training images, as one would make them without this project."""
    trunk, dtype = trunk_of(config), getattr(torch, config.precision)
    transform, device = trunk.transform, torch.device(config.device)
    network = trunk.module.to(device=device, dtype=dtype)
    network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    side, method = transform.image_px, T.InterpolationMode(transform.interpolation)
    square = T.Resize(round(side / transform.crop_share), method), T.CenterCrop(side)
    as_input = T.Compose([*square, T.ToTensor(), T.Normalize(transform.mean, transform.std)])
    data = ImageFolder(f"{config.dataset.removeprefix('folder:')}/train", as_input)
    maps: list[torch.Tensor] = []
    with torch.inference_mode():
        for images, _ in DataLoader(data, BATCH, num_workers=workers, pin_memory=device.type == "cuda"):
            images = images.to(device, dtype, memory_format=torch.channels_last, non_blocking=True)
            maps.append(network(images).half().cpu())
    made = torch.cat(maps).numpy()
    np.save(file, made)
    return made


def check(cache: FeatureCache, maps: np.ndarray) -> None:
    """Both hold maps of the same photos in the same order."""
    rows = np.linspace(0, len(cache) - 1, 100).astype(int)
    ours, theirs = cache.take(rows).astype(np.float32), maps[rows].astype(np.float32)
    assert ours.shape == theirs.shape, f"maps of {ours.shape} against {theirs.shape}"
    differs = np.abs(ours - theirs).mean() / np.abs(theirs).max()
    assert differs < AGREE, f"the maps differ by {differs:.2g} of the largest number"


def make_photos(folder: Path, photos: int) -> None:
    """FOLDER/{train,test}/CLASS/*.jpg, one of each class to test."""
    scenes = [make_photo(seed) for seed in range(SCENES)]
    for split, count in (("train", photos), ("test", CLASSES)):
        for label in range(CLASSES):
            (folder / split / str(label)).mkdir(parents=True)
        for i in range(count):
            scene, text = scenes[i % SCENES], f"{split} {i}".encode()
            comment = b"\xff\xfe" + (len(text) + 2).to_bytes(2, "big") + text
            path = folder / split / str(i % CLASSES) / f"{i:06}.jpg"
            path.write_bytes(scene[:2] + comment + scene[2:])


if __name__ == "__main__":
    main(run)
