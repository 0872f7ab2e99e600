"""Cross-validation in one pass against a run for each fold and one on all images.

    python -m benchmarks.folds [--quick]

Both sides read the cache, train the same heads on the same batches and score each fold by the head that left
it out. A run for a fold drops the fold's images from its batches, so it computes less than its share of the
one pass: what is gained is the reading, and that few large products take the place of many small ones. The
weights of all heads have to agree in the end.
"""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.alone import main, row
from benchmarks.head_epoch import BATCH, CPU, DECAY, LR, MAP, clocked, make_cache, spec
from cache import FeatureCache
from pipeline.datasets.holdout import draw_folds
from pipeline.heads.base import Head
from pipeline.heads.fullnet import FullNet
from pipeline.heads.linear import Linear
from pipeline.maps.batches import MapsInMemory
from pipeline.maps.normaliser import Normaliser
from pipeline.maps.parts import Part
from pipeline.maps.source import Source
from pipeline.training.optimizer import StackedSGD
from pipeline.training.schedule import schedule
from pipeline.training.trainer import Plan, Trainer

FOLDS = 5
HEADS: dict[str, tuple[type[Head], int]] = {
    "linear": (Linear, 1),
    "FullNet-64 on ten crops": (FullNet, 64),
    "FullNet-512 on ten crops": (FullNet, 512),
}


def run(quick: bool) -> list[dict[str, Any]]:
    """Rows of name, ours, theirs, ratio, target, unit."""
    images, epochs = (512, 2) if quick else (2000, 5)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        cache = make_cache(Path(folder) / "train.h5", images)
        for name, (kind, hidden) in HEADS.items():
            ours, theirs = [], []
            for _ in range(1 if quick else 2):
                found: list[dict[str, Tensor]] = []
                ours.append(clocked(lambda: found.append(in_one_pass(cache, kind, hidden, epochs))))  # noqa: B023
                theirs.append(clocked(lambda: found.append(one_by_one(cache, kind, hidden, epochs))))  # noqa: B023
                for weights in found[0]:
                    torch.testing.assert_close(found[0][weights], found[1][weights], rtol=1e-3, atol=1e-4)
            what = f"{name}, {FOLDS} folds and a head on all in one pass against {FOLDS + 1} runs"
            rows.append(row(what, min(ours), min(theirs), 1.2, f"s for {epochs} epochs"))
    return rows


def opened(cache: FeatureCache, head: Head) -> MapsInMemory:
    """The maps as a run reads them."""
    source = Source(cache, head.views, head.prepare, Normaliser(MAP[0]), torch.float32, CPU, verify=True)
    folds = draw_folds(cache.labels, FOLDS, 0)
    part = Part(np.arange(len(cache)), cache.labels, folds)
    source.fit_normaliser(part.rows)
    return MapsInMemory(source, part, 1, "maps")


def in_one_pass(cache: FeatureCache, kind: type[Head], hidden: int, epochs: int) -> dict[str, Tensor]:
    """The weights of every fold's head and that of all images, (FOLDS + 1, ...)."""
    seeds = [0] * (FOLDS + 1)
    head = kind(spec(seeds, hidden))
    maps, optimizer = opened(cache, head), sgd(head)
    trainer = Trainer(head, optimizer, maps, maps, Plan(epochs, BATCH, len(cache), 0), FOLDS)
    for epoch in range(epochs):
        trainer.epoch(epoch)
    return {name: p.detach() for name, p in head.named_parameters()}


def one_by_one(cache: FeatureCache, kind: type[Head], hidden: int, epochs: int) -> dict[str, Tensor]:
    """The same by a run for each of them, which looks at its own images alone."""
    heads = [kind(spec([0], hidden)) for _ in range(FOLDS + 1)]
    for left_out, head in enumerate(heads):
        maps, optimizer = opened(cache, head), sgd(head)
        memory, steps = maps.new_batch(BATCH), epochs * -(-len(cache) // BATCH)
        step = 0
        for epoch in range(epochs):
            head.train()
            for batch in maps.shuffled(memory, np.random.default_rng((0, epoch))):
                assert batch.folds is not None
                own = batch.folds != left_out
                head.losses(batch.inputs[own], batch.labels[own]).sum().backward()
                optimizer.step(schedule(step, steps))
                step += 1
            head.eval()
            with torch.no_grad():
                for batch in maps.in_order(BATCH):
                    assert batch.folds is not None
                    mine = batch.inputs[batch.folds == left_out]
                    if len(mine):
                        head(mine)
    return {
        name: torch.cat([dict(head.named_parameters())[name].detach() for head in heads])
        for name, _ in heads[0].named_parameters()
    }


def sgd(head: Head) -> StackedSGD:
    heads = len(head.seeds)
    return StackedSGD(dict(head.named_parameters()), [LR] * heads, [DECAY] * heads)


if __name__ == "__main__":
    main(run)
