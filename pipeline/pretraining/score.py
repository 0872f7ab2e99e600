"""Score the whole network of a pretraining run: how test images are treated matters.

They are left plain, flipped at random, or cropped and flipped like training images, with several draws of
each random policy.
"""

from pathlib import Path
from typing import Any

import numpy as np

from pipeline.config import EvaluateConfig, PretrainConfig
from pipeline.datasets.base import ImageSplit
from pipeline.device import pick_device
from pipeline.errors import RunError
from pipeline.files import write_json
from pipeline.images import augment
from pipeline.pretraining.network import Network, image_digests, images_digest, load_images, open_split
from pipeline.progress import over
from pipeline.runs.claim import FACTS
from pipeline.runs.layout import TRUNK, read_config
from pipeline.trunks import TRUNKS
from pipeline.trunks.weights import load_weights


def score_trunk(config: EvaluateConfig, run: Path) -> Path:
    """Score the network of a pretraining run on its dataset's test split; write RUN/eval/metrics.json.

    `top1` there is that of the first policy, in per cent; `policies` holds mean, sample deviation and draws.

    Raises: RunError when the run is incomplete, or test images were among those it was given and
    --allow-trained-on isn't; DataError.
    """
    trained = read_settings(run)
    split, labels, classes, _ = open_split(trained, "test")
    seen = trained_on(run, trained, split, config)
    network = load_network(run, trained, len(classes)).to(pick_device(config.device))
    images = load_images(split, network.transform, config.decoders)
    policies: dict[str, dict[str, Any]] = {}
    for policy in config.test_images:
        top1 = []
        for draw in over(range(1 if policy == "plain" else config.draws), f"scoring {policy}", "draws"):
            draws = augment.draw(len(labels), policy, np.random.default_rng((config.seed, draw)))
            found = network.predict(images, config.batch, lambda b, rows, d=draws: augment.apply(b, d[rows]))
            top1.append(100 * float((found == labels).mean()))
        mean, deviation = float(np.mean(top1)), float(np.std(top1, ddof=1)) if len(top1) > 1 else 0.0
        policies[policy] = {"top1": mean, "deviation": deviation, "draws": top1}
        print(f"test images {policy:9}  top-1 {mean:.2f} ± {deviation:.2f} % ({len(top1)} draws)")
    metrics = {"top1": policies[config.test_images[0]]["top1"], "images": len(labels), "policies": policies}
    metrics["trained_on"] = seen
    path = run / "eval" / "metrics.json"
    write_json(path, metrics)
    print(path)
    return path


def trained_on(run: Path, trained: PretrainConfig, test: ImageSplit, config: EvaluateConfig) -> int | None:
    """How many test images were among those that the network was given, known by their files' digests; None
    where the dataset has other images by now, of which a line is printed.

    Raises: RunError when there are some and that isn't allowed; DataError.
    """
    training = image_digests(open_split(trained, "train")[0], config.decoders)
    if images_digest(training) != read_config(run, "pretrain").get("dataset_images"):
        print(f"not checked whether {run} was trained on test images: {trained.dataset} has other images now")
        return None
    asked = image_digests(test, config.decoders)
    seen = np.isin(asked.view("V16")[:, 0], training.view("V16")[:, 0])
    if count := int(seen.sum()):
        problem = (
            f"{count:,} of {len(seen):,} test images are among those that {run} was trained or validated on, "
            f"{test.paths[int(seen.argmax())]} is the first"
        )
        if not config.allow_trained_on:
            advice = "take them out of one split, or add --allow-trained-on to score them all the same"
            raise RunError(f"{trained.dataset}: {problem}; {advice}")
        print(problem)
    return int(seen.sum())


def read_settings(run: Path) -> PretrainConfig:
    """The settings of a finished pretraining run. Raises: RunError."""
    found = read_config(run, "pretrain")
    if not (run / TRUNK).is_file():
        raise RunError(f"{run}: the pretraining isn't finished; run the same pretrain_trunk.py command again")
    return PretrainConfig.from_json({k: v for k, v in found.items() if k not in {"stage", *FACTS}})


def load_network(run: Path, trained: PretrainConfig, classes: int) -> Network:
    """The whole network of a finished pretraining run. Raises: WeightsError."""
    trunk = TRUNKS[trained.trunk].load_untrained(trained.widths, trained.stage_layers)
    network = Network(trunk, classes, trained.hidden, trained.mirror_maps, trained.rotations)
    load_weights(network.classifier, run / "classifier.safetensors")
    load_weights(network.trunk, run / TRUNK)
    return network.eval()
