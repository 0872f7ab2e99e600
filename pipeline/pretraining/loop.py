"""The training loop of a whole network, one epoch at a time, and its checkpoint."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from pipeline.config import PretrainConfig
from pipeline.datasets.holdout import Rows
from pipeline.device import has_fast_bfloat16
from pipeline.errors import RunError
from pipeline.files import replacing
from pipeline.images import augment
from pipeline.pretraining.network import Network
from pipeline.training.schedule import schedule
from pipeline.trunks.weights import DAMAGE, load_pickled

WARM_UP = 0.2
"""Share of the steps in which the learning rate climbs."""


class PretrainingLoop:
    """Nesterov SGD with a warm-up and a linear decay of the learning rate."""

    def __init__(self, network: Network, config: PretrainConfig, steps_per_epoch: int) -> None:
        self.network, self.config, self.device = network, config, network.device
        learned = [p for p in network.parameters() if p.requires_grad]
        groups = [
            {"params": [p for p in learned if p.ndim > 1], "weight_decay": config.weight_decay},
            {"params": [p for p in learned if p.ndim == 1], "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.SGD(groups, lr=config.lr, momentum=0.9, nesterov=True)
        steps = config.epochs * steps_per_epoch
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, lambda step: schedule(step, steps, WARM_UP)
        )
        self._stateful = (network, self.optimizer, self.schedule)
        self.grey = [255 * mean for mean in network.transform.mean]
        fast = config.precision == "auto" and has_fast_bfloat16(self.device)
        self.bfloat16 = fast or config.precision == "bfloat16"

    def epoch(self, epoch: int, images: Tensor, labels: Tensor, rows: Rows) -> dict[str, float]:
        """Pass once over `rows` of images (N, 3, S, S); gives the mean loss and the seconds taken."""
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
            targets = labels[batch].to(self.device)
            loss = F.cross_entropy(logits.float(), targets, label_smoothing=self.config.label_smoothing)
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
        """Write all that `resume` needs to continue with `epoch`. Raises: RunError."""
        states = [part.state_dict() for part in self._stateful]
        with writing(path) as part:
            torch.save({"epoch": epoch, "states": states}, part)

    def resume(self, path: Path) -> int:
        """Go back to a checkpoint, if there is one; gives the epoch to continue with. Raises: RunError."""
        if not path.is_file():
            return 0
        try:
            found = load_pickled(path, self.device)
            for part, state in zip(self._stateful, found["states"], strict=True):
                part.load_state_dict(state)
            epoch = int(found["epoch"])
        except DAMAGE as error:
            raise RunError(f"{path}: no checkpoint of this run; delete it to start again") from error
        print(f"resuming after epoch {epoch - 1}")
        return epoch


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """Like `replacing`, for the writers of torch and safetensors: a full disk is a RunError."""
    try:
        with replacing(path) as part:
            yield part
    except (OSError, RuntimeError, SafetensorError) as error:
        reason = str(error).splitlines()[0][:200]
        raise RunError(f"{path}: can't be written ({reason}); fix that, then run the same command") from error
