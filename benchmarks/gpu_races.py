"""Heads on a GPU against plain PyTorch on the same GPU, compiled in torch.compile's best mode.

    python -m benchmarks.gpu_races [--quick]

    fullnet     20 epochs of FullNet-512 on ten crops of 50,000 maps, from the prepared maps to the last loss
    sweep       32 heads (hidden 64) in one pass against 32 runs one after the other, the rival's and ours
    attention   an epoch of recurrent attention on maps of vgg16 at 448 px, full map and ten crops

The rivals are in gpu_rivals.py and have compiled before the clock starts; ours records its step while it runs
(attention: before). Both start from the same weights and see the same images in the same order, and their
losses have to agree.
Without a GPU, no lines; but --quick then runs on the CPU, to see that all of it does.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.nn import functional as F

from benchmarks.alone import main, row
from benchmarks.attention import MAP, WIDTH
from benchmarks.attention_in_the_loop import make_cache as make_attention_cache
from benchmarks.attention_in_the_loop import open_head
from benchmarks.attention_rivals import CLASSES, DECAY, LR, Plain, adamw
from benchmarks.gpu_rivals import MODES, TRACED, AttentionNet, Script, TenCropNet, fastest, timed
from benchmarks.head_epoch import BATCH, EPOCHS, HEADS, make_cache, make_trainer, prepare
from benchmarks.head_rivals import nesterov
from benchmarks.on_gpu import DTYPES
from cache import FeatureCache
from pipeline.device import set_up
from pipeline.maps.batches import MapsInMemory
from pipeline.maps.parts import Part
from pipeline.training.optimizer import StackedAdam
from pipeline.training.trainer import Plan, Trainer

ATTENTION_BATCH = 32
FIRST, LAST = 5e-3, 5e-2  # by how much the losses of an epoch may differ


class Ground(NamedTuple):
    """Where and how both sides compute."""

    device: torch.device
    dtype: torch.dtype
    name: str  # of the precision
    modes: tuple[str, ...]  # of torch.compile


def run(quick: bool) -> list[dict[str, Any]]:
    """Rows of name, ours, theirs, ratio, target, unit."""
    on_gpu = torch.cuda.is_available()
    if not (on_gpu or quick):
        return []
    device, modes = torch.device("cuda" if on_gpu else "cpu"), MODES if on_gpu else (TRACED,)
    set_up(device, tf32=True)
    epochs, heads, width = (2, 3, 16) if quick else (EPOCHS, HEADS, WIDTH)
    draw, rows = torch.Generator().manual_seed(0), []
    with tempfile.TemporaryDirectory() as folder:
        cache = make_cache(Path(folder) / "train.h5", 1100 if quick else 50_000)
        maps = torch.randn(70 if quick else 2000, *MAP, generator=draw).half()
        attended = make_attention_cache(Path(folder) / "attention.h5", maps)
        for name, dtype in DTYPES.items() if on_gpu else [("float32", torch.float32)]:
            ground = Ground(device, dtype, name, modes)
            rows += fullnet(ground, cache, epochs, heads)
            rows += [attention(ground, attended, crops, width) for crops in ("full", "ten")]
    return rows


def fullnet(ground: Ground, cache: FeatureCache, epochs: int, heads: int) -> list[dict[str, Any]]:
    device, dtype, name, modes = ground
    source, prepared = prepare(cache, device, dtype)
    maps = torch.from_numpy(cache.take(np.arange(len(cache)))).to(device, dtype)
    labels = torch.tensor(cache.labels, device=device)

    def train(seeds: Sequence[int], hidden: int, epochs: int) -> list[list[float]]:
        """Our loss of each head in each epoch."""
        trainer = make_trainer(source, prepared, seeds, hidden, epochs)
        return [[line["train_loss"] for line in trainer.epoch(epoch)] for epoch in range(epochs)]

    def race(seeds: range, hidden: int) -> tuple[float, float, str]:
        """Our seconds and theirs, and the mode of the latter."""
        nets = [TenCropNet(seed, hidden).to(device) for seed in seeds]
        mode, script = fastest(lambda mode: Script(nets[0], nesterov, maps, labels, BATCH, mode), modes)
        starts = [{key: part.clone() for key, part in net.state_dict().items()} for net in nets]
        theirs, expected = timed(lambda: [script.train(start, epochs) for start in starts], device)
        train(seeds, hidden, 1)  # libraries set themselves up
        ours, found = timed(lambda: train(seeds, hidden, epochs), device)
        agree(found, np.transpose(expected))
        return ours, theirs, mode

    one, other, mode = race(range(1), 512)
    named = f"{epochs} epochs of FullNet-512 on {len(cache):,} maps, {name}, against plain PyTorch ({mode})"
    rows = [row(named, one, other, 8.0 if dtype == torch.float32 else 10.0, "s")]
    one, other, mode = race(range(heads), 64)
    named = f"{heads} heads (hidden 64) in one pass, {name}, against {heads} runs"
    singly, _ = timed(lambda: [train([seed], 64, epochs) for seed in range(heads)], device)
    return [
        *rows,
        row(f"{named} in plain PyTorch ({mode})", one, other, 150.0, "s"),
        row(f"{named} of the engine", one, singly, 16.0, "s"),
    ]


def attention(ground: Ground, cache: FeatureCache, crops: str, width: int) -> dict[str, Any]:
    device, dtype, name, modes = ground
    head, source = open_head(cache, crops, width, device, dtype, region_start="whole")
    net = AttentionNet(Plain(head), crops, head.crops[0].box.height).to(device)
    maps = MapsInMemory(source, Part(np.arange(len(cache)), cache.labels), 1, "maps")
    stored = source.normaliser(source.take(np.arange(len(cache))).to(device))[:, 0].to(dtype)
    labels = F.one_hot(torch.tensor(cache.labels, device=device), CLASSES).float()
    mode, script = fastest(lambda mode: Script(net, adamw, stored, labels, ATTENTION_BATCH, mode), modes)
    start = {key: part.clone() for key, part in net.state_dict().items()}
    optimizer = StackedAdam(dict(head.named_parameters()), [LR], [DECAY])
    trainer = Trainer(head, optimizer, maps, None, Plan(2, ATTENTION_BATCH, len(cache), 0))
    turns = [timed(lambda: trainer.epoch(epoch), device) for epoch in range(2)]  # noqa: B023
    agree([[lines[0]["train_loss"]] for _, lines in turns], np.transpose([script.train(start, 2)]))
    theirs, _ = timed(lambda: script.train(start, 1), device)
    named = f"epoch of recurrent attention (width {width}, --crops {crops}) on {len(cache):,} maps, {name}"
    return row(f"{named}, against plain PyTorch ({mode})", turns[1][0], theirs, 3.0, "s")


def agree(found: Any, expected: Any) -> None:
    """Losses of epochs and heads: close in the first epoch, apart by rounding alone in the last."""
    for epoch, near in ((0, FIRST), (-1, LAST)):
        assert np.allclose(found[epoch], expected[epoch], rtol=near), (
            f"something else was learned: {found}, {expected}"
        )


if __name__ == "__main__":
    main(run)
