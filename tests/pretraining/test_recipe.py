"""Pretraining's recipe: each ingredient does to the weights what it says, against loops over formulas."""

import copy
import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from support.pretraining import dark_and_light, settings
from torch import Tensor, nn

from pipeline.config import EvaluateConfig
from pipeline.datasets.base import open_dataset
from pipeline.datasets.holdout import holdout
from pipeline.errors import RunError
from pipeline.evaluation.stage import evaluate
from pipeline.images.transform import Transform
from pipeline.pretraining.loop import PretrainingLoop
from pipeline.pretraining.network import Network
from pipeline.pretraining.score import load_network, read_settings
from pipeline.pretraining.stage import pretrain
from pipeline.trunks.alexnet_cifar import TRANSFORM
from pipeline.trunks.base import Trunk, normalise
from pipeline.trunks.whitening import Whitening

GREY = Transform(image_px=16, mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3))
SEED, EPOCHS, BATCH, LR, DECAY = 3, 2, 8, 0.05, 0.1
CUTOUT_PX, CLASSES = 4, 3


def small_network(rotations: int = 1) -> Network:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 5, 3, stride=2), nn.BatchNorm2d(5), nn.GELU())
    network = Network(Trunk("small", 1, module, GREY, ""), CLASSES, hidden=6, rotations=rotations)
    for parameter in network.parameters():  # away from zero, so that a decay of biases would show
        parameter.data += 0.1
    return network


def small_images() -> tuple[Tensor, Tensor]:
    rng = np.random.default_rng(1)
    images = torch.from_numpy(rng.integers(0, 256, (26, 3, 16, 16), np.uint8))
    return images, torch.from_numpy(rng.integers(0, CLASSES, 26))


def cropped(image: np.ndarray, top: int, left: int, flip: int, y: int, x: int) -> np.ndarray:
    """One image, padded by an eighth of its side, cropped, mirrored, and a square of it blanked."""
    pad, side = 2, CUTOUT_PX // 2
    padded = np.pad(image, ((0, 0), (pad, pad), (pad, pad)), mode="reflect")
    out = padded[:, top : top + 16, left : left + 16].copy()
    out = out[:, :, ::-1].copy() if flip else out
    grey = np.array([255 * mean for mean in GREY.mean]).astype(np.uint8)
    out[:, max(y - side, 0) : y + side, max(x - side, 0) : x + side] = grey[:, None, None]
    return out


def train_by_formulas(network: Network, images: Tensor, labels: Tensor, rows: np.ndarray) -> list[float]:
    """Nesterov SGD (momentum 0.9), smoothed labels and a triangular rate; gives each epoch's mean loss."""
    steps_per_epoch = -(-len(rows) // BATCH)
    steps = EPOCHS * steps_per_epoch
    velocity = {name: torch.zeros_like(p) for name, p in network.named_parameters()}
    losses = []
    network.train()
    for epoch in range(EPOCHS):
        rng, total = np.random.default_rng((SEED, epoch)), 0.0
        order = rng.permutation(rows)
        for i in range(steps_per_epoch):
            batch = order[i * BATCH : (i + 1) * BATCH]
            draws = rng.integers(0, (9, 9, 2), size=(len(batch), 3)) // (2, 2, 1)
            places = rng.integers(0, (16, 16), size=(len(batch), 2))
            seen = [
                cropped(images[row].numpy(), *draw, *place)
                for row, draw, place in zip(batch, draws.tolist(), places.tolist(), strict=True)
            ]
            scores = network(torch.from_numpy(np.stack(seen))).log_softmax(1)
            wanted = torch.full_like(scores, 0.1 / CLASSES)
            wanted[range(len(batch)), labels[batch]] += 0.9
            loss = -(wanted * scores).sum(1).mean()
            network.zero_grad()
            loss.backward()
            step, climb = epoch * steps_per_epoch + i, round(0.2 * steps)
            rate = LR * np.interp(step, [-1, climb - 1, climb, steps], [0, 1, 1, 0])
            for name, parameter in network.named_parameters():
                assert parameter.grad is not None
                push = parameter.grad + (DECAY * parameter.data if parameter.ndim > 1 else 0)
                velocity[name] = 0.9 * velocity[name] + push
                parameter.data -= rate * (push + 0.9 * velocity[name])
            total += loss.item() * len(batch)
        losses.append(total / len(rows))
    return losses


def recipe(**other: Any) -> Any:
    fields = {"seed": SEED, "epochs": EPOCHS, "batch": BATCH, "lr": LR, "weight_decay": DECAY}
    return settings(Path(), Path(), **fields, cutout_px=CUTOUT_PX, **other)


def test_two_epochs_equal_the_recipe_written_as_formulas() -> None:
    images, labels = small_images()
    rows, network = np.arange(24), small_network()
    expected = copy.deepcopy(network)
    losses = train_by_formulas(expected, images, labels, rows)
    loop = PretrainingLoop(network, recipe(), images, labels, rows)
    assert [loop.epoch(epoch)["loss"] for epoch in range(EPOCHS)] == pytest.approx(losses, rel=1e-4)
    for (name, found), wanted in zip(network.named_parameters(), expected.parameters(), strict=True):
        assert torch.allclose(found, wanted, rtol=1e-3, atol=1e-5), name


@pytest.mark.parametrize(
    "other",
    [
        {"label_smoothing": 0.0},
        {"train_images": "flip"},
        {"train_images": "plain"},
        {"cutmix": 0.5},
        {"rotate": 0.5},
        {"mirror_maps": True},
    ],
)
def test_a_setting_of_the_recipe_changes_what_is_learned(other: dict[str, Any]) -> None:
    images, labels = small_images()

    def weights(**changed: Any) -> Tensor:
        network = small_network(rotations=4 if changed.get("rotate") else 1)
        network.mirror_maps = bool(changed.get("mirror_maps"))
        loop = PretrainingLoop(network, recipe(**changed), images, labels, np.arange(24))
        loop.epoch(0)
        return torch.cat([p.flatten() for p in network.trunk.parameters()])

    assert (weights() - weights(**other)).abs().max() > 1e-4


def test_the_first_layer_decorrelates_patches_and_brings_them_to_unit_variance() -> None:
    """Against principal directions from numpy's singular values, with 5e-4 added to each variance."""
    rng = np.random.default_rng(0)
    rough = rng.normal(size=(200, 3, 9, 9))
    smooth = (rough[..., 1:, 1:] + rough[..., :-1, 1:] + rough[..., 1:, :-1] + rough[..., :-1, :-1]) / 40
    layer = Whitening()
    layer.fit(torch.from_numpy(smooth).float())
    with torch.no_grad():
        out = layer(torch.from_numpy(smooth).float()).transpose(0, 1).reshape(24, -1).double().numpy()
    windows = np.lib.stride_tricks.sliding_window_view(smooth, (2, 2), axis=(2, 3))
    patches = windows.transpose(0, 2, 3, 1, 4, 5).reshape(-1, 12)
    variances = np.linalg.svd(patches - patches.mean(0), compute_uv=False) ** 2 / (len(patches) - 1)
    assert variances.min() < 1e-3, "small enough for what is added to matter"
    expected = np.diag(np.sort(variances / (variances + 5e-4)))
    assert np.allclose(np.cov(out[:12]), expected, atol=1e-3)
    assert np.allclose(out[12:], -out[:12], atol=1e-5)


def test_images_that_are_held_out_leave_no_trace_in_the_trunk(tmp_path: Path) -> None:
    """Neither in its weights nor in the first layer, which is computed from images."""
    images = dark_and_light(tmp_path / "images")
    kept = pretrain(settings(images, tmp_path / "kept", epochs=1, val_fraction=0.25))
    split = open_dataset(f"folder:{images}")["train"]
    _, held_out = holdout(split.labels, 0.25, 0)
    assert len(held_out) == 12
    for row in held_out:
        path = images / "train" / split.paths[row].removeprefix("train/")
        Image.new("RGB", (32, 32), (255, 0, 0)).save(path)
    other = pretrain(settings(images, tmp_path / "other", epochs=1, val_fraction=0.25))
    assert other.read_bytes() == kept.read_bytes()


def test_a_trunk_of_another_seed_holds_out_the_same_images(tmp_path: Path) -> None:
    """Or heads with defaults would choose by images that the trunk was trained on."""
    images = dark_and_light(tmp_path / "images")
    run = pretrain(settings(images, tmp_path / "run", epochs=1, val_fraction=0.25, seed=5)).parent
    labels = open_dataset(f"folder:{images}")["train"].labels
    for data_seed in (0, 3):
        mask = np.zeros(len(labels), bool)
        mask[holdout(labels, 0.25, data_seed)[1]] = True
        same = json.loads((run / "config.json").read_text())["held_out"] == sha256(mask.tobytes()).hexdigest()
        assert same == (data_seed == 0)
    with pytest.raises(RunError, match=r"made with --data-seed 0, not 3; give another --out"):
        pretrain(settings(images, run, epochs=1, val_fraction=0.25, seed=5, data_seed=3))


def test_the_saved_first_layer_whitens_the_training_images(tmp_path: Path) -> None:
    images = dark_and_light(tmp_path / "images")
    run = pretrain(settings(images, tmp_path / "run", epochs=1, val_fraction=0)).parent
    first = next(load_network(run, read_settings(run), classes=2).trunk.children())
    found = [np.asarray(Image.open(path)) for path in sorted((images / "train").rglob("*.png"))]
    pixels = torch.from_numpy(np.stack(found)).permute(0, 3, 1, 2)
    inputs = normalise(pixels, TRANSFORM)
    with torch.no_grad():
        out = first(inputs).transpose(0, 1).reshape(24, -1)
    assert torch.allclose(torch.cov(out[:12]), torch.eye(12), atol=0.02)


def test_each_draw_of_a_random_policy_is_another(tmp_path: Path) -> None:
    """On noise, right or wrong depends on the place of the crop."""
    rng, images = np.random.default_rng(0), tmp_path / "images"
    for split, count in (("train", 30), ("test", 30)):
        for name in "ab":
            (images / split / name).mkdir(parents=True)
            for i in range(count):
                Image.fromarray(rng.integers(0, 256, (32, 32, 3), np.uint8)).save(
                    images / split / name / f"{i}.png"
                )
    run = pretrain(settings(images, tmp_path / "run", epochs=8)).parent
    evaluate(EvaluateConfig(run=(str(run),), draws=4, decoders=1))
    policies = json.loads((run / "eval/metrics.json").read_text())["policies"]
    for policy in ("flip", "crop-flip"):
        assert len(set(policies[policy]["draws"])) > 1, policies
