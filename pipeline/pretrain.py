"""Train a trunk as a whole network on the training split; the classifier on top is thrown away.

    images (uint8, in memory) → crop, flip, cut out → trunk → classifier → cross-entropy

Everything random in an epoch comes from (seed, epoch), so a run that was killed goes on from its last epoch's
checkpoint and ends as if it had not been.
"""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from pipeline import augment
from pipeline.config import PretrainConfig
from pipeline.datasets.base import open_dataset
from pipeline.device import has_fast_bfloat16, pick_device
from pipeline.errors import RunError
from pipeline.fields import flag
from pipeline.network import Network, load_images, normalise
from pipeline.registry import resolve
from pipeline.splits import Rows, holdout, select_classes
from pipeline.tensors import DAMAGE, load_pickled
from pipeline.trunks import UNTRAINED
from pipeline.trunks.base import load_weights
from pipeline.trunks.whitening import Whitening

WARM_UP = 0.2
"""Share of the steps in which the learning rate climbs; it falls to zero in the others."""
IMMATERIAL = ("out", "workers", "device")
"""Settings that a run may be gone on with."""


def pretrain(config: PretrainConfig) -> Path:
    """Train, write OUT/trunk.safetensors and give its path.

    Beside it: config.json, metrics.jsonl (a line per epoch) and classifier.safetensors, with which
    evaluate.py scores the whole network.

    Raises: DataError; RunError when OUT holds a run with other settings.
    """
    out, device = config.out_dir, pick_device(config.device)
    weights = out / "trunk.safetensors"
    claim(out, config)
    if weights.is_file():
        print(f"{weights}: up to date")
        return weights
    split = open_dataset(config.dataset, test_fraction=config.test_fraction)["train"]
    classes = config.classes or split.classes
    rows, labels = select_classes(split.labels, split.classes, classes)
    split = split.take(rows.tolist())
    train_rows, val_rows = holdout(labels, config.val_fraction, config.seed)
    print(
        f"pretrain {config.trunk} on {len(train_rows):,} images of {len(classes)} classes "
        f"({len(val_rows):,} held out), {config.epochs} epochs on {device}"
    )
    torch.manual_seed(config.seed)
    trunk = resolve(UNTRAINED, config.trunk)()
    network = Network(trunk, len(classes), config.hidden)
    images = load_images(split, trunk.transform, config.workers)
    if config.weights:
        load_weights(trunk.module, Path(config.weights))
    sample = np.random.default_rng(config.seed).permutation(train_rows)[:5000]
    for layer in network.modules():
        if isinstance(layer, Whitening) and not config.weights:
            layer.fit(normalise(images[sample], trunk.transform))
    network.to(device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    targets = torch.from_numpy(labels)
    trainer = Trainer(network, config, steps_per_epoch=-(-len(train_rows) // config.batch))
    for epoch in range(trainer.resume(out / "checkpoint.pt"), config.epochs):
        line: dict[str, Any] = {"epoch": epoch, **trainer.epoch(epoch, images, targets, train_rows)}
        if len(val_rows):
            predicted = network.scores(images[val_rows], config.batch).argmax(1)
            line["val_top1"] = 100 * float((predicted.numpy() == labels[val_rows]).mean())
        with open(out / "metrics.jsonl", "a", encoding="utf-8") as log:
            log.write(json.dumps(line) + "\n")
        print("  ".join(f"{name} {value:.4g}" for name, value in line.items()), flush=True)
        trainer.save(out / "checkpoint.pt", epoch + 1)
    save_file(_half_matrices(network.classifier), out / "classifier.safetensors")
    save_file(_half_matrices(network.trunk), out / "trunk.part")
    (out / "trunk.part").replace(weights)
    (out / "checkpoint.pt").unlink()
    print(f"wrote {weights} ({weights.stat().st_size / 1e6:.1f} MB)")
    return weights


class Trainer:
    """Nesterov SGD with a warm-up and a linear decay, one epoch at a time."""

    def __init__(self, network: Network, config: PretrainConfig, steps_per_epoch: int) -> None:
        self.network, self.config = network, config
        learned = [p for p in network.parameters() if p.requires_grad]
        groups = [
            {"params": [p for p in learned if p.ndim > 1], "weight_decay": config.weight_decay},
            {"params": [p for p in learned if p.ndim == 1], "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.SGD(groups, lr=config.lr, momentum=0.9, nesterov=True)
        total = config.epochs * steps_per_epoch
        climb = max(1.0, WARM_UP * total)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, lambda step: min((step + 1) / climb, (total - step) / max(1.0, total - climb))
        )
        self._parts = (network, self.optimizer, self.schedule)
        self.device = network.device
        self.grey = [255 * mean for mean in network.transform.mean]
        self.bfloat16 = config.precision == "bfloat16" or (
            config.precision == "auto" and has_fast_bfloat16(self.device)
        )

    def epoch(self, epoch: int, images: Tensor, labels: Tensor, rows: Rows) -> dict[str, float]:
        """One pass over `rows` of images (N, 3, S, S); gives the mean loss and the seconds taken."""
        started, total = time.perf_counter(), torch.zeros((), device=self.device)
        self.network.train()
        rng = np.random.default_rng((self.config.seed, epoch))
        for batch in tqdm(list(self._batches(rows, rng)), desc=f"epoch {epoch}", unit="step", leave=False):
            draws = augment.draw(len(batch), self.config.train_images, rng)
            inputs = augment.apply(images[batch].to(self.device), draws)
            if self.config.cutout_px:
                inputs = augment.cut_out(inputs, self.config.cutout_px, self.grey, rng)
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16):
                logits = self.network(inputs)
            loss = F.cross_entropy(
                logits.float(), labels[batch].to(self.device), label_smoothing=self.config.label_smoothing
            )
            loss.backward()
            self.optimizer.step()
            self.optimizer.zero_grad()
            self.schedule.step()
            total += loss.detach() * len(batch)
        seconds = time.perf_counter() - started
        return {"loss": total.item() / len(rows), "seconds": round(seconds, 1)}

    def _batches(self, rows: Rows, rng: np.random.Generator) -> Iterator[Rows]:
        order = rng.permutation(rows)
        for start in range(0, len(order), self.config.batch):
            if len(order) - start > 1:  # batch norm has no variance of one image
                yield order[start : start + self.config.batch]

    def save(self, path: Path, epoch: int) -> None:
        """Write all that `resume` needs, atomically."""
        parts = [part.state_dict() for part in self._parts]
        torch.save({"epoch": epoch, "parts": parts}, path.with_suffix(".part"))
        path.with_suffix(".part").replace(path)

    def resume(self, path: Path) -> int:
        """Go back to a checkpoint, if there is one; gives the epoch to go on with. Raises: RunError."""
        if not path.is_file():
            return 0
        try:
            state = load_pickled(path, self.device)
            for part, values in zip(self._parts, state["parts"], strict=True):
                part.load_state_dict(values)
            epoch = int(state["epoch"])
        except DAMAGE as error:
            raise RunError(f"{path}: no checkpoint of this run; delete it to start again") from error
        print(f"resuming after epoch {epoch - 1}")
        return epoch


def claim(out: Path, config: PretrainConfig) -> None:
    """Make the run folder, or check that it is this run's. Raises: RunError naming what differs."""
    out.mkdir(parents=True, exist_ok=True)
    path, wanted = out / "config.json", {"stage": "pretrain", **config.as_json()}
    if path.is_file():
        found = json.loads(path.read_text(encoding="utf-8"))
        differing = [k for k in wanted if k not in IMMATERIAL and found.get(k, wanted[k]) != wanted[k]]
        if differing:
            name = differing[0]
            raise RunError(
                f"{out}: holds a run with {flag(name)} {found.get(name)}, not {wanted[name]}; "
                "give another --out"
            )
    path.write_text(json.dumps(wanted, indent=1) + "\n", encoding="utf-8")


def _half_matrices(module: nn.Module) -> dict[str, Tensor]:
    """Weights for the disk: matrices in float16, biases and statistics in float32, no counters."""
    return {
        name: tensor.detach().cpu().contiguous().to(torch.float16 if tensor.ndim > 1 else torch.float32)
        for name, tensor in module.state_dict().items()
        if tensor.is_floating_point()
    }
