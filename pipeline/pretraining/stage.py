"""Train a trunk as a whole network on the training split; the classifier on top is thrown away.

    images (uint8, in memory) → crop, flip, cut out, rotate, mix → trunk → classifier → cross-entropy

Everything random in an epoch comes from (seed, epoch), so a run that was killed continues from its last
epoch's checkpoint and ends as if it had not been.
"""

import hashlib
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cache import Labels
from pipeline.config import PretrainConfig
from pipeline.datasets.base import ImageSplit
from pipeline.datasets.holdout import share_drawn
from pipeline.datasets.summary import lines
from pipeline.device import keep_freed_memory, pick_device, set_up
from pipeline.errors import ConfigError, RunError
from pipeline.files import append_line, keep_lines
from pipeline.pretraining.loop import PretrainingLoop
from pipeline.pretraining.network import Network, image_digests, images_digest, load_images, open_split
from pipeline.progress import Progress, say
from pipeline.runs.claim import claim, held
from pipeline.runs.layout import CHECKPOINT, METRICS, TRUNK
from pipeline.runs.tensors import shape_text, write_tensors
from pipeline.trunks import TRUNKS
from pipeline.trunks.base import Trunk, normalise
from pipeline.trunks.weights import load_weights
from pipeline.trunks.whitening import Whitening

IMMATERIAL = ("out", "decoders", "device", "weights")
"""Settings that may change when a run is continued; of --weights, what is in the file may not."""


def pretrain(config: PretrainConfig) -> Path:
    """Train a trunk; write OUT/trunk.safetensors and give its path.

    Beside it: config.json, metrics.jsonl (a line per epoch) and classifier.safetensors, with which
    evaluate.py scores the whole network. All images are read first: a trunk of other images, labels or
    weights to start from is never "up to date".

    Raises: DataError; WeightsError; ConfigError on a multi-label dataset or weights of another shape;
    RunError when OUT holds another run or is being trained into, or the loss is no number any more.
    """
    out = config.out_dir
    pick_device(config.device)  # refused before images are read
    weights = out / TRUNK
    split, labels, classes, is_held = open_split(config, "train")
    torch.manual_seed(config.seed)
    trunk = TRUNKS[config.trunk].load_untrained(config.widths, config.stage_layers)
    network = Network(trunk, len(classes), config.hidden, config.mirror_maps, config.rotations)
    started_from = _start_from(config.weights, config, trunk) if config.weights else None
    # now that the flags are known to be good
    facts = {
        "lr": config.peak_lr,
        "weight_decay": config.decay,
        "val_fraction": share_drawn(config.val_fraction, split.val_rows),
        "dataset_images": images_digest(image_digests(split, config.decoders)),
        "dataset_labels": hashlib.sha256("\0".join(classes).encode() + labels.data).hexdigest(),
        "held_out": hashlib.sha256(is_held.tobytes()).hexdigest(),  # drawn beside the other classes' images
        "weights_sha256": started_from,
    }
    claim(out, {"stage": "pretrain", **config.as_json(), **facts}, IMMATERIAL)
    with held(out):
        if weights.is_file():
            print(f"{weights}: up to date")
        else:
            _train(network, config, split, labels, is_held)
            print(f"wrote {weights} ({weights.stat().st_size / 1e6:.1f} MB)")
    return weights


def _train(
    network: Network, config: PretrainConfig, split: ImageSplit, labels: Labels, is_held: NDArray[np.bool_]
) -> None:
    """Train on the images that aren't held out, and write both parts of the network into the run."""
    train_rows, val_rows = np.flatnonzero(~is_held), np.flatnonzero(is_held)
    device, classes = pick_device(config.device), config.classes or split.classes
    set_up(device, tf32=config.precision != "float32")
    keep_freed_memory()
    print(
        f"pretrain {config.trunk} on {len(train_rows):,} images of {len(classes)} classes "
        f"({len(val_rows):,} held out), {config.epochs} epochs on {device}"
    )
    _say_sizes(network, len(split), config.batch)
    print(*lines(split), sep="\n")
    images = load_images(split, network.transform, config.decoders)
    if not config.weights:
        _whiten(network, images[np.random.default_rng(config.seed).permutation(train_rows)[:5000]])
    network.to(device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    loop = PretrainingLoop(network, config, images, torch.from_numpy(labels), train_rows)
    val_images, val_labels = images[val_rows], labels[val_rows]
    _go_through(
        loop, config, len(train_rows), lambda: _accuracy(network, val_images, val_labels, config.batch)
    )
    write_tensors(config.out_dir / "classifier.safetensors", _half_matrices(network.classifier))
    write_tensors(config.out_dir / TRUNK, _half_matrices(network.trunk))
    (config.out_dir / CHECKPOINT).unlink()


def _say_sizes(network: Network, images: int, batch: int) -> None:
    stored = sum(p.nbytes for p in network.parameters())
    pixels = 3 * network.transform.image_px**2 * images
    print(
        f"{_parameters(network.trunk):,} parameters up to maps of {shape_text(network.map_shape)}, "
        f"{_parameters(network):,} with the classifier; in memory about "
        f"{3 * stored / 1e6:,.0f} MB for them, {pixels / 1e6:,.0f} MB for the images, and batches of "
        f"{batch}; on the disk {stored / 2e6:,.1f} MB, and {2 * stored / 1e6:,.1f} MB while it goes on"
    )


def _whiten(network: Network, images: Tensor) -> None:
    """Fit the layers that whiten images to some of them."""
    for layer in network.modules():
        if isinstance(layer, Whitening):
            layer.fit(normalise(images, network.transform))


def _accuracy(network: Network, images: Tensor, labels: np.ndarray, batch: int) -> dict[str, float]:
    """What a line of the log says of images held out, if there are any."""
    if not len(images):
        return {}
    return {"val_top1": 100 * float((network.predict(images, batch) == labels).mean())}


def _go_through(
    loop: PretrainingLoop, config: PretrainConfig, size: int, score: Callable[[], dict[str, float]]
) -> None:
    """Train from the last checkpoint on, with a line in the log and a checkpoint after each epoch.

    Raises: RunError when the loss is no number any more.
    """
    checkpoint, log = config.out_dir / CHECKPOINT, config.out_dir / METRICS
    first = loop.resume(checkpoint)
    keep_lines(log, first)
    with Progress("pretraining", config.epochs * size, "images", first * size) as progress:
        for epoch in range(first, config.epochs):
            line = {"epoch": epoch + 1, **loop.epoch(epoch, progress.advance), **score()}
            if not math.isfinite(line["loss"]):
                raise RunError(
                    f"{config.out_dir}: expected a finite loss in epoch {epoch + 1}, found {line['loss']}; "
                    f"give an --lr below {config.peak_lr:g} and another --out"
                )
            append_line(log, line)
            say("  ".join(f"{name} {value:.4g}" for name, value in line.items()))
            loop.save(checkpoint, epoch + 1)


def _start_from(weights: str, config: PretrainConfig, trunk: Trunk) -> str:
    """Fill the trunk with weights; gives their digest. Raises: WeightsError; ConfigError on another shape."""
    found = TRUNKS[config.trunk].load(Path(weights)).facts
    if found != trunk.facts:
        usual = {"widths": PretrainConfig.widths, "stage_layers": PretrainConfig.stage_layers, **found}
        widths = " ".join(map(str, usual["widths"]))
        raise ConfigError(
            f"--weights: {weights}: holds a trunk of another shape; "
            f"give --widths {widths} --stage-layers {usual['stage_layers']}"
        )
    return load_weights(trunk.module, Path(weights))


def _parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def _half_matrices(module: nn.Module) -> dict[str, Tensor]:
    """Weights for the disk: matrices in float16, biases and statistics in float32, no counters."""
    return {
        name: tensor.to(torch.float16 if tensor.ndim > 1 else torch.float32)
        for name, tensor in module.state_dict().items()
        if tensor.is_floating_point()
    }
