"""Training FullNet-512 without the engine, as head_epoch.py compares it: the same steps, the ten crops as one
would write them.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import h5py
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms.functional import ten_crop

from cache import FeatureCache
from pipeline.config import TrainConfig
from pipeline.heads.base import HeadSpec
from pipeline.heads.fullnet import FullNet
from pipeline.training.optimizer import CLIP
from pipeline.training.schedule import schedule

MAP, CLASSES, BATCH, LR, DECAY = (256, 5, 5), 10, 512, 0.02, 5e-4


class Side:
    """A way of training: `epoch(number)` gives the mean loss of the epoch. All sides take the same steps."""

    def __init__(self, cache: FeatureCache, repeats: int) -> None:
        self.cache, self.repeats = cache, repeats
        self.labels = torch.tensor(cache.labels)
        self.net = network(0, 512)
        self.optimizer = nesterov(self.net)
        self.step = 0

    def epoch(self, number: int) -> float:
        order, total = np.random.default_rng((0, number)).permutation(len(self.labels)), 0.0
        for inputs, labels in self.batches(order):
            loss = F.cross_entropy(self.scores(inputs), labels)
            self.optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(self.net.parameters(), CLIP)
            steps = self.repeats * -(-len(self.labels) // BATCH)
            for group in self.optimizer.param_groups:
                group["lr"] = LR * schedule(self.step, steps)
            self.optimizer.step()
            self.step += 1
            total += loss.item() * len(labels)
        return total / len(self.labels)

    def batches(self, order: np.ndarray) -> Iterable[tuple[Tensor, Tensor]]:
        raise NotImplementedError

    def scores(self, inputs: Tensor) -> Tensor:
        """A batch's maps or crops → (B, CLASSES)."""
        raise NotImplementedError


class Textbook(Side):
    """As torchvision documents it: TenCrop is a transform of the dataset, each crop takes a forward pass."""

    def __init__(self, cache: FeatureCache, repeats: int, path: Path) -> None:
        """`path`: the HDF5 file that rows are read from, with the same maps as the cache."""
        super().__init__(cache, repeats)
        self.path = path

    def batches(self, order: np.ndarray) -> Iterable[tuple[Tensor, Tensor]]:
        with h5py.File(self.path) as file:
            yield from DataLoader(H5Rows(file, self.labels), batch_size=BATCH, sampler=order.tolist())

    def scores(self, inputs: Tensor) -> Tensor:
        return torch.stack([self.net(crop.flatten(1)) for crop in inputs.unbind(1)]).mean(0)


class H5Rows(Dataset[tuple[Tensor, Tensor]]):
    def __init__(self, file: h5py.File, labels: Tensor) -> None:
        self.file, self.labels = file, labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, row: int) -> tuple[Tensor, Tensor]:
        features = self.file["features"]
        assert isinstance(features, h5py.Dataset)
        crops = ten_crop(torch.from_numpy(features[row, 0]).float(), [3, 3])
        return torch.stack(crops), self.labels[row]  # (10, 256, 3, 3)


class Stacked(Side):
    """As one would write it with care, without the folding."""

    def __init__(self, cache: FeatureCache, repeats: int) -> None:
        super().__init__(cache, repeats)
        self.maps = torch.from_numpy(cache.take(np.arange(len(cache)))).float()

    def batches(self, order: np.ndarray) -> Iterable[tuple[Tensor, Tensor]]:
        for chosen in torch.from_numpy(order).split(BATCH):
            yield self.maps[chosen], self.labels[chosen]

    def scores(self, inputs: Tensor) -> Tensor:
        crops = torch.stack(ten_crop(inputs, [3, 3]), 1)  # (B, 10, C, 3, 3)
        return self.net(crops.flatten(2)).mean(1)


def network(seed: int, hidden: int) -> nn.Sequential:
    """A crop (·, 2304) → scores (·, CLASSES), with the first weights of the engine's head of this seed."""
    head, layers = FullNet(spec([seed], hidden)), (nn.Linear(2304, hidden), nn.Linear(hidden, CLASSES))
    weights = [head.plain_first_weight()[0].flatten(1), head.output_weight[0].T]
    with torch.no_grad():
        for layer, weight in zip(layers, weights, strict=True):
            layer.weight.copy_(weight)
            layer.bias.zero_()
    return nn.Sequential(layers[0], nn.ReLU(), layers[1])


def nesterov(net: nn.Module) -> torch.optim.Optimizer:
    """Torch's fused SGD; biases don't decay."""
    groups = [
        {"params": [p for p in net.parameters() if p.ndim > 1], "weight_decay": DECAY},
        {"params": [p for p in net.parameters() if p.ndim == 1], "weight_decay": 0.0},
    ]
    return torch.optim.SGD(groups, lr=LR, momentum=0.9, nesterov=True, fused=True)


def spec(seeds: Sequence[int], hidden: int) -> HeadSpec:
    return HeadSpec(TrainConfig(hidden=(hidden,)), MAP, CLASSES, seeds)
