"""How test images are treated matters: plain, flipped at random, or cropped and flipped like training ones.

The whole network that pretraining made is scored under each policy, several draws of the random ones.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.config import EvaluateConfig, PretrainConfig
from pipeline.config.pretrain import ImagePolicy
from pipeline.datasets.base import open_dataset
from pipeline.datasets.holdout import select_classes
from pipeline.device import pick_device
from pipeline.errors import RunError
from pipeline.files import read_json, write_json
from pipeline.images import augment
from pipeline.pretraining.network import Network, load_images
from pipeline.trunks import TRUNKS
from pipeline.trunks.weights import load_weights


def score_trunk(config: EvaluateConfig, run: Path) -> Path:
    """Score the network of a pretraining run on its dataset's test split; writes RUN/eval/metrics.json.

    `top1` there is that of the first policy, in per cent; `policies` holds mean, sample deviation and draws.

    Raises: RunError when the run is incomplete, DataError.
    """
    fields = read_json(run / "config.json")
    trained = PretrainConfig.from_json({k: v for k, v in fields.items() if k != "stage"})
    split = open_dataset(trained.dataset, test_fraction=trained.test_fraction)["test"]
    classes = trained.classes or split.classes
    rows, labels = select_classes(split.labels, split.classes, classes)
    network = load_network(run, trained, len(classes)).to(pick_device(config.device))
    images = load_images(split.take(rows.tolist()), network.transform, config.workers)
    policies: dict[str, dict[str, Any]] = {}
    for policy in config.test_images:
        count = 1 if policy == "plain" else config.draws
        top1 = [_top1(network, images, labels, policy, config, draw) for draw in range(count)]
        deviation = float(np.std(top1, ddof=1)) if count > 1 else 0.0
        policies[policy] = {"top1": float(np.mean(top1)), "deviation": deviation, "draws": top1}
        print(f"test images {policy:9}  top-1 {np.mean(top1):.2f} ± {deviation:.2f} % ({count} draws)")
    metrics = {"top1": policies[config.test_images[0]]["top1"], "images": len(labels), "policies": policies}
    path = run / "eval" / "metrics.json"
    path.parent.mkdir(exist_ok=True)
    write_json(path, metrics)
    return path


def load_network(run: Path, trained: PretrainConfig, classes: int) -> Network:
    """The whole network of a finished pretraining run. Raises: RunError, WeightsError."""
    trunk = TRUNKS[trained.trunk].load_untrained()
    network = Network(trunk, classes, trained.hidden, trained.mirror_maps)
    if not (run / "trunk.safetensors").is_file():
        raise RunError(f"{run}: the pretraining isn't finished; the same command goes on with it")
    load_weights(network.classifier, run / "classifier.safetensors")
    load_weights(network.trunk, run / "trunk.safetensors")
    return network.eval()


def _top1(
    network: Network,
    images: torch.Tensor,
    labels: np.ndarray,
    policy: ImagePolicy,
    config: EvaluateConfig,
    draw: int,
) -> float:
    draws = augment.draw(len(labels), policy, np.random.default_rng((config.seed, draw)))
    logits = network.scores(images, config.batch, lambda batch, rows: augment.apply(batch, draws[rows]))
    return 100 * float((logits.argmax(1).numpy() == labels).mean())
