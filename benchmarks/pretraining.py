"""An epoch of pretraining, against the loop that one writes with torchvision's transforms.

    python -m benchmarks.pretraining [--quick]

    ours     `PretrainingLoop`: images lie on the device as uint8 and are cropped, mirrored and cut out there
    theirs   a Dataset of Pillow images in RAM, torchvision's transforms, a DataLoader with two workers

Both train the same network from the same weights, in the same precision, by Nesterov SGD at the same rates:
of the shape of the shipped one in batches of 64 on a CPU, one of 128-384-256 channels and three layers a
stage in batches of 512 on a GPU. Without augmentation they see the same pixels in the same order, and their
losses have to agree. With it, epochs take turns and the shortest of each counts, not the first, in which
workers start. Images are noise, of which nothing is learned.
"""

import contextlib
import copy
import dataclasses
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, Sampler
from torchvision import transforms

from benchmarks.alone import main, row
from pipeline.config import PretrainConfig
from pipeline.device import pick_device
from pipeline.pretraining.loop import WARM_UP, PretrainingLoop
from pipeline.pretraining.network import Network
from pipeline.pretraining.step import pick_precision
from pipeline.training.schedule import schedule
from pipeline.trunks import TRUNKS

CLASSES, WORKERS = 10, 2
TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 2e-2, torch.float16: 1e-2}
LARGE = PretrainConfig(widths=(128, 384, 256), stage_layers=3, batch=512, weight_decay=5e-4)


def run(quick: bool) -> list[dict[str, Any]]:
    """Rows of name, ours, theirs, ratio, target, unit (seconds an epoch)."""
    device = pick_device("auto")
    on_gpu = device.type != "cpu"
    count, turns = (512, 1) if quick else (50_000 if on_gpu else 2048, 5 if on_gpu else 3)
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (count, 32, 32, 3), dtype=torch.uint8, generator=generator)
    labels = torch.randint(CLASSES, (count,), generator=generator)
    recipe = dataclasses.replace(LARGE if on_gpu else PretrainConfig(), epochs=turns + 1)
    same = dataclasses.replace(recipe, train_images="plain", cutout_px=0)
    ours, theirs = both(images, labels, same, device)
    found, expected = ours(0), theirs(0)
    limit = TOLERANCE[pick_precision(same.precision, device)]
    assert abs(found - expected) < limit * expected, f"learned something else: {found}, {expected}"
    ours, theirs = both(images, labels, recipe, device)
    seconds = {ours: list[float](), theirs: list[float]()}
    for epoch in range(turns + 1):
        for side, times in seconds.items():
            started = time.perf_counter()
            side(epoch)
            times.append(time.perf_counter() - started)
    best, best_of_theirs = (min(times[1:]) for times in seconds.values())
    name = f"an epoch of pretraining on {count:,} images, {device.type}, against torchvision's transforms"
    return [row(name, best, best_of_theirs, 4.0 if on_gpu else 1.0, "s")]


def both(
    images: Tensor, labels: Tensor, config: PretrainConfig, device: torch.device
) -> tuple[Callable[[int], float], Callable[[int], float]]:
    """Both sides on images (N, S, S, 3): epoch → its mean loss."""
    torch.manual_seed(0)
    trunk = TRUNKS[config.trunk].load_untrained(config.widths, config.stage_layers)
    network = Network(trunk, CLASSES, config.hidden).to(device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    rival = Rival(copy.deepcopy(network), images, labels, config, device)
    rows = np.arange(len(labels))
    loop = PretrainingLoop(network, config, images.permute(0, 3, 1, 2), labels, rows)
    return lambda epoch: loop.epoch(epoch)["loss"], rival.epoch


class Pictures(Dataset[tuple[Tensor, int]]):
    """As torchvision's CIFAR10 gives them."""

    def __init__(self, images: Tensor, labels: Tensor, transform: Callable[[Image.Image], Tensor]) -> None:
        self.images, self.labels, self.transform = images.numpy(), labels.tolist(), transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.images[row])), self.labels[row]


class Order(Sampler[int]):
    """The rows in the order of an epoch, which is that of our side."""

    def __init__(self, count: int, seed: int) -> None:
        self.count, self.seed, self.epoch = count, seed, 0

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[int]:
        order = np.random.default_rng((self.seed, self.epoch)).permutation(np.arange(self.count))
        return iter(order.tolist())


class Rival:
    """Plain PyTorch."""

    def __init__(
        self, network: Network, images: Tensor, labels: Tensor, config: PretrainConfig, device: torch.device
    ) -> None:
        self.model, self.config, self.device = (
            nn.Sequential(network.trunk, network.classifier),
            config,
            device,
        )
        self.order, self.dtype = Order(len(labels), config.seed), pick_precision(config.precision, device)
        steps: list[Any] = []
        if config.train_images == "crop-flip":
            steps += [transforms.RandomCrop(32, padding=4, padding_mode="reflect")]
            steps += [transforms.RandomHorizontalFlip()]
        steps += [transforms.ToTensor(), transforms.Normalize(network.transform.mean, network.transform.std)]
        if config.cutout_px:
            share = (config.cutout_px / 32) ** 2
            steps += [transforms.RandomErasing(p=1.0, scale=(share, share), ratio=(1.0, 1.0))]
        self.loader = DataLoader(
            Pictures(images, labels, transforms.Compose(steps)),
            batch_size=config.batch,
            sampler=self.order,
            num_workers=WORKERS,
            persistent_workers=True,
            pin_memory=device.type == "cuda",
        )
        learned = [p for p in self.model.parameters() if p.requires_grad]
        groups = [
            {"params": [p for p in learned if p.ndim > 1], "weight_decay": config.decay},
            {"params": [p for p in learned if p.ndim == 1], "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.SGD(groups, lr=config.peak_lr, momentum=0.9, nesterov=True)
        whole = config.epochs * len(self.loader)
        self.rates = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, lambda step: schedule(min(step, whole - 1), whole, WARM_UP)
        )

    def epoch(self, epoch: int) -> float:
        """Train for an epoch; gives the mean loss."""
        self.order.epoch = epoch
        self.model.train()
        total = torch.zeros((), device=self.device)
        scaler = torch.GradScaler(self.device.type, enabled=self.dtype == torch.float16)
        for inputs, labels in self.loader:
            images = inputs.to(self.device, memory_format=torch.channels_last, non_blocking=True)
            half = self.dtype != torch.float32
            with torch.autocast(self.device.type, self.dtype) if half else contextlib.nullcontext():
                logits = self.model(images)
            wanted = labels.to(self.device, non_blocking=True)
            loss = F.cross_entropy(logits.float(), wanted, label_smoothing=self.config.label_smoothing)
            scaler.scale(loss).backward()
            scaler.step(self.optimizer)
            scaler.update()
            self.optimizer.zero_grad()
            self.rates.step()
            total += loss.detach() * len(labels)
        return total.item() / len(self.order)


if __name__ == "__main__":
    main(run)
