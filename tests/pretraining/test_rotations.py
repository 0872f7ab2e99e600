"""Images of rotated classes are learned beside the others, and only the others are scored."""

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from support.pretraining import dark_and_light, settings
from torch import nn

from pipeline.config import EvaluateConfig
from pipeline.datasets.base import open_dataset
from pipeline.evaluation.stage import evaluate
from pipeline.pretraining.score import load_network, read_settings
from pipeline.pretraining.stage import pretrain


def test_a_network_that_learned_rotations_is_scored_on_images_as_they_are(tmp_path: Path) -> None:
    """By hand: the highest of the first logits, of which there are four for each class."""
    images = dark_and_light(tmp_path / "images")
    run = pretrain(settings(images, tmp_path / "run", rotate=0.5, epochs=2)).parent
    network = load_network(run, read_settings(run), classes=2)
    split = open_dataset(f"folder:{images}")["test"]
    found = [np.asarray(Image.open(images / path)).transpose(2, 0, 1) for path in split.paths]
    pixels = torch.from_numpy(np.stack(found))
    with torch.no_grad():
        logits = network(pixels)
    assert logits.shape == (16, 8)
    last = network.classifier[-1]
    assert isinstance(last, nn.Linear)
    last.bias.data[2:] += 100  # rotations win now, if they are asked
    assert np.array_equal(network.predict(pixels, 16), logits[:, :2].argmax(1))
    evaluate(EvaluateConfig(run=(str(run),), draws=1, decoders=1))
    scored = json.loads((run / "eval/metrics.json").read_text())["top1"]
    assert scored == 100 * float((logits[:, :2].argmax(1).numpy() == split.labels).mean())
