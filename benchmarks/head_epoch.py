"""One epoch of head training, from the cache to updated weights: FullNet-512 on ten crops, batch 512.

    python -m benchmarks.head_epoch [--quick]

    textbook   a DataLoader over h5py rows that crops and mirrors each, ten forward passes in a loop
    chunked    the same on a file in the chunks that h5py chooses, as it does for a dataset that has to grow
    stacked    best plain PyTorch: maps in RAM as float32, ten crops stacked, one matrix product
    ours       the training engine; what it prepares once is charged with a twentieth, for 20 epochs
    products   the folded matrix products alone, at the rate that torch.mm on 2048×2048 keeps up for an epoch

Every side starts from the same weights, sees the same images in the same order and takes the same steps;
their losses are compared. Sides take turns, and the best of some epochs counts, so that a busy machine
favours none. The chunked side is slow: it has one epoch, in which it takes turns with ours alone.
"""

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.alone import main, row
from benchmarks.head_rivals import BATCH, CLASSES, DECAY, LR, MAP, Side, Stacked, Textbook, spec
from benchmarks.read_cache import copy_chunked
from cache import CacheHeader, CacheWriter, FeatureCache
from pipeline.heads.fullnet import FullNet
from pipeline.maps.batches import MapsInMemory
from pipeline.maps.normaliser import Normaliser
from pipeline.maps.parts import Part
from pipeline.maps.source import Source
from pipeline.training.optimizer import StackedSGD
from pipeline.training.trainer import Plan, Trainer

EPOCHS, HEADS = 20, 32
CPU = torch.device("cpu")


def run(quick: bool) -> list[dict[str, Any]]:
    """Rows of name, ours, theirs, ratio, target, unit."""
    images, repeats, heads = (2048, 2, 8) if quick else (8192, 4, HEADS)
    with tempfile.TemporaryDirectory() as folder:
        cache = make_cache(Path(folder) / "train.h5", images)
        chunked = copy_chunked(cache, Path(folder) / "chunked.h5")
        source, maps = prepare(cache)
        ours, textbook = Engine(source, maps, repeats), Textbook(cache, repeats, cache.path)
        best, gemm = race({"textbook": textbook, "stacked": Stacked(cache, repeats), "ours": ours}, repeats)
        slow, _ = race({"chunked": Textbook(cache, 1, chunked), "ours": Engine(source, maps, 1)}, 1)
        preparing = min(clocked(lambda: prepare(cache)) for _ in range(2))
        together, singly = stacked_and_single(source, maps, heads)
    epoch = best["ours"] + preparing / EPOCHS
    rate = 4 * images * 5 * 2304 * 512 / best["ours"]  # a product forward, one for the gradient; 2 per weight
    name = "FullNet-512 ten-crop epoch"
    return [
        row(
            f"{name} against ten forwards and a DataLoader over h5py rows",
            epoch,
            best["textbook"],
            12.0,
            "s per epoch",
        ),
        row(
            f"{name} against the same over rows of a chunked file",
            slow["ours"] + preparing / EPOCHS,
            slow["chunked"],
            12.0,
            "s per epoch",
        ),
        row(
            f"{name} against one product over stacked crops in RAM",
            epoch,
            best["stacked"],
            2.2,
            "s per epoch",
        ),
        {
            "name": f"{name}, share of the float32 GEMM rate",
            "ours": rate / 1e9,
            "theirs": gemm / 1e9,
            "ratio": rate / gemm,
            "target": 0.75,
            "unit": "GFLOP/s",
        },
        row(
            f"{heads} heads (hidden 64) in one pass against {heads} runs",
            together,
            singly,
            1.7,
            "s per epoch",
        ),
    ]


def race(sides: dict[str, "Side | Engine"], repeats: int) -> tuple[dict[str, float], float]:
    """Each side's best seconds per epoch, and the best rate of plain matrix products over as long, FLOP/s."""
    best, gemm = dict.fromkeys(sides, float("inf")), 0.0
    square, product = torch.randn(2, 2048, 2048)
    steps = -(-len(sides["ours"].labels) // BATCH)  # each of them takes about as long as a product of squares
    for epoch in range(repeats):
        losses = {}
        for name, side in sides.items():
            best[name] = min(best[name], clocked(lambda: losses.update({name: side.epoch(epoch)})))  # noqa: B023
            seconds = sum(clocked(lambda: torch.mm(square, square, out=product)) for _ in range(steps))
            gemm = max(gemm, 2 * 2048**3 * steps / seconds)
        for name, loss in losses.items():
            assert abs(loss - losses["ours"]) < 1e-3 * losses["ours"], (
                f"{name} learned something else: {losses}"
            )
    return best, gemm


def clocked(call: Callable[[], Any]) -> float:
    """Seconds that a call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def stacked_and_single(source: Source, maps: MapsInMemory, heads: int) -> tuple[float, float]:
    """Seconds of an epoch of many heads in one pass, and of as many runs of one head, the best of two."""
    together, singly = [], []
    for _ in range(2):
        stack = make_trainer(source, maps, range(heads), 64, 1)
        single = [make_trainer(source, maps, [seed], 64, 1) for seed in range(heads)]
        losses: list[list[dict[str, Any]]] = []
        together.append(clocked(lambda: losses.append(stack.epoch(0))))  # noqa: B023
        singly.append(clocked(lambda: losses.append([trainer.epoch(0)[0] for trainer in single])))  # noqa: B023
        for one, other in zip(*losses, strict=True):
            assert abs(one["train_loss"] - other["train_loss"]) < 1e-3 * other["train_loss"]
    return min(together), min(singly)


class Engine:
    """What train_head.py runs."""

    def __init__(self, source: Source, maps: MapsInMemory, repeats: int) -> None:
        self.trainer, self.labels = make_trainer(source, maps, [0], 512, repeats), maps.labels

    def epoch(self, number: int) -> float:
        return self.trainer.epoch(number)[0]["train_loss"]


def prepare(
    cache: FeatureCache, device: torch.device = CPU, dtype: torch.dtype = torch.float32
) -> tuple[Source, MapsInMemory]:
    head, normaliser = FullNet(spec([0], 1)), Normaliser(MAP[0]).to(device)
    source = Source(cache, head.views, head.prepare, normaliser, dtype, device, verify=True)
    return source, MapsInMemory(source, Part(np.arange(len(cache)), cache.labels), 1, "maps")


def make_trainer(
    source: Source, maps: MapsInMemory, seeds: Sequence[int], hidden: int, epochs: int
) -> Trainer:
    head = FullNet(spec(seeds, hidden)).to(source.device)
    optimizer = StackedSGD(dict(head.named_parameters()), [LR] * len(seeds), [DECAY] * len(seeds))
    return Trainer(head, optimizer, maps, None, Plan(epochs, BATCH, len(source.cache), 0))


def make_cache(path: Path, images: int) -> FeatureCache:
    """Random float16 maps with a weak pattern per class."""
    rng = np.random.default_rng(0)
    labels = rng.integers(CLASSES, size=images)
    patterns = rng.standard_normal((CLASSES, 1, *MAP), np.float32)
    header = CacheHeader(
        shape=(images, 1, *MAP),
        dtype="float16",
        labels=labels,
        paths=[f"{i}.png" for i in range(images)],
        classes=[str(i) for i in range(CLASSES)],
        identity={"views": "plain"},
    )
    with CacheWriter(path, header) as writer:
        for rows in writer.missing:
            maps = rng.standard_normal((len(rows), 1, *MAP), np.float32) + 0.1 * patterns[labels[rows]]
            writer.write(rows, maps, np.zeros((len(rows), 16), np.uint8))
        writer.publish()
    return FeatureCache(path)


if __name__ == "__main__":
    main(run)
