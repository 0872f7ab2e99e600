"""From small JPEGs to a test score as one would write it by hand: `benchmarks.first_answer` times it.

    python benchmarks/plain_answer.py IMAGES FEATURES logistic|fullnet

The trunk is the one that comes with this project, as written. Two worker processes decode. logistic: maps
are averaged, kept by np.save, and given to scikit-learn, once at its default penalty and once more at ten of
them, of which a tenth of the training images chooses. fullnet: maps stay in RAM, and FullNet-512 learns from
ten crops of them, stacked for one product. The last line is JSON: seconds of each part, by the clock and of
all cores, and scores in per cent.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader
from torchvision import transforms as T
from torchvision.datasets import ImageFolder
from torchvision.transforms.functional import ten_crop

sys.path.insert(0, str(Path(__file__).parents[1]))
from pipeline.trunks.alexnet_cifar import load

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.2616)
STRENGTHS = (3e-1, 1e-1, 3e-2, 1e-2, 3e-3, 1e-3, 3e-4, 1e-4, 1e-5, 1e-6)
EPOCHS, BATCH, HIDDEN, LR, DECAY = 20, 512, 512, 0.1, 5e-4


@torch.inference_mode()
def maps_of(folder: str, trunk: nn.Module, pooled: bool) -> tuple[Tensor, Tensor]:
    """Maps (N, 256, 5, 5), or their averages (N, 256), and labels."""
    data = ImageFolder(folder, T.Compose([T.ToTensor(), T.Normalize(MEAN, STD)]))
    maps, labels = [], []
    for images, label in DataLoader(data, batch_size=64, num_workers=2):
        made = trunk(images)
        maps.append(made.mean((2, 3)) if pooled else made)
        labels.append(label)
    return torch.cat(maps), torch.cat(labels)


def single_probe(folder: Path) -> float:
    """Top-1 of scikit-learn's logistic regression as it is."""
    train, labels, test, expected = (np.load(folder / f"{name}.npy") for name in NAMES)
    return 100 * LogisticRegression(max_iter=1000).fit(train, labels).score(test, expected)


def chosen_probe(folder: Path) -> float:
    """Top-1 at the penalty that does best on a tenth of the training images."""
    train, labels, test, expected = (np.load(folder / f"{name}.npy") for name in NAMES)
    scaler = StandardScaler().fit(train)
    train, test = scaler.transform(train), scaler.transform(test)
    train, val, labels, answers = train_test_split(train, labels, test_size=0.1, stratify=labels)
    best, top1 = 0.0, 0.0
    model = LogisticRegression(max_iter=1000, warm_start=True)
    for strength in STRENGTHS:
        model.C = 1 / (strength * len(labels))
        if (found := model.fit(train, labels).score(val, answers)) > best:
            best, top1 = found, 100 * model.score(test, expected)
    return top1


def fullnet(train: Tensor, labels: Tensor, test: Tensor, expected: Tensor) -> float:
    """Top-1 after the last epoch."""
    mean, deviation = train.mean((0, 2, 3), keepdim=True), train.std((0, 2, 3), keepdim=True)
    train, test = (train - mean) / deviation, (test - mean) / deviation
    net = nn.Sequential(nn.Linear(2304, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, int(labels.max()) + 1))
    optimizer = torch.optim.SGD(net.parameters(), LR, 0.9, weight_decay=DECAY, nesterov=True, fused=True)
    steps = EPOCHS * -(-len(labels) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LR, steps)

    def scores(maps: Tensor) -> Tensor:
        return net(torch.stack(ten_crop(maps, [3, 3]), 1).flatten(2)).mean(1)

    for _ in range(EPOCHS):
        for rows in torch.randperm(len(labels)).split(BATCH):
            loss = F.cross_entropy(scores(train[rows]), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    with torch.inference_mode():
        found = torch.cat([scores(part).argmax(1) for part in test.split(BATCH)])
    return 100 * float((found == expected).float().mean())


NAMES = ("train", "train-labels", "test", "test-labels")

if __name__ == "__main__":
    images, features, head = sys.argv[1:]
    seconds, cores, scores, before = {}, {}, {}, (time.perf_counter(), time.process_time())

    def lap(name: str) -> None:
        global before
        now = time.perf_counter(), time.process_time()
        seconds[name], cores[name] = now[0] - before[0], now[1] - before[1]
        before = now

    torch.manual_seed(0)
    np.random.seed(0)
    trunk = load().module
    parts = [
        part
        for split in ("train", "test")
        for part in maps_of(f"{images}/{split}", trunk, head == "logistic")
    ]
    if head == "logistic":
        for name, part in zip(NAMES, parts, strict=True):
            np.save(f"{features}/{name}.npy", part.numpy())
    lap("extract")
    if head == "logistic":
        for name, probe in (("single", single_probe), ("chosen", chosen_probe)):
            scores[name] = probe(Path(features))
            lap(name)
    else:
        scores[head] = fullnet(*parts)
        lap(head)
    print(json.dumps({"seconds": seconds, "cores": cores, "scores": scores}))
