"""Muon changes convolutions by singular values alone, whichever way they lie in memory, and is resumed."""

from pathlib import Path

import numpy as np
import pytest
import torch
from support.pretraining import dark_and_light, die_after, settings
from torch import Tensor, nn

from pipeline.config import PretrainConfig
from pipeline.pretraining.optimizers import Optimizers
from pipeline.pretraining.stage import pretrain

LR, DECAY, STEPS = 0.05, 0.2, 3
LAYOUTS = {"rows": torch.contiguous_format, "channels last": torch.channels_last}


def muon(**other: object) -> PretrainConfig:
    return settings(Path(), Path(), optimizer="muon", lr=LR, weight_decay=DECAY, **other)


def gradients() -> list[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    shapes = {"conv": (6, 4, 3, 3), "last": (3, 5), "bias": (6,)}
    return [{n: torch.randn(shape, generator=generator) for n, shape in shapes.items()} for _ in range(STEPS)]


def learned(layout: torch.memory_format) -> dict[str, nn.Parameter]:
    start = {n: torch.linspace(-1, 1, g.numel()).view(g.shape) for n, g in gradients()[0].items()}
    start["conv"] = start["conv"].contiguous(memory_format=layout)
    return {name: nn.Parameter(value) for name, value in start.items()}


def train(weights: dict[str, nn.Parameter], config: PretrainConfig) -> None:
    optimizers = Optimizers(weights, config, fused=False)
    for step, of_step in enumerate(gradients()):
        for name, gradient in of_step.items():
            weights[name].grad = gradient.clone()
        optimizers.step(torch.GradScaler("cpu", enabled=False), rate=1 - 0.2 * step)
        assert all(weight.grad is None for weight in weights.values())


def by_singular_values() -> dict[str, np.ndarray]:
    """The same in float64: five times a quintic of each singular value of the gradients' mean."""
    weights = {n: p.detach().double().numpy() for n, p in learned(torch.contiguous_format).items()}
    means = {name: np.zeros_like(w) for name, w in weights.items()}
    for step, of_step in enumerate(gradients()):
        rate = LR * (1 - 0.2 * step)
        for name, tensor in of_step.items():
            gradient = tensor.double().numpy()
            if name != "conv":
                means[name] = 0.9 * means[name] + gradient
                weights[name] -= 8 * rate * (gradient + 0.9 * means[name])
                continue
            means[name] += 0.1 * (gradient - means[name])
            ahead = gradient + 0.9 * (means[name] - gradient)
            left, values, right = np.linalg.svd(ahead.reshape(6, 36), full_matrices=False)
            values /= np.linalg.norm(values)
            for _ in range(5):
                values = 3.4445 * values - 4.775 * values**3 + 2.0315 * values**5
            change = (left * values @ right).reshape(ahead.shape)
            weights[name] = (1 - rate * DECAY) * weights[name] - rate * change
    return weights


@pytest.mark.parametrize("layout", LAYOUTS)
def test_convolutions_change_by_a_quintic_of_their_singular_values_and_the_rest_by_sgd(layout: str) -> None:
    """torch's Muon multiplies in bfloat16, whose rounding is 0.4 %."""
    weights, expected = learned(LAYOUTS[layout]), by_singular_values()
    start = {name: weight.detach().clone() for name, weight in weights.items()}
    train(weights, muon())
    for name, tolerance in (("conv", 0.02), ("last", 1e-5), ("bias", 1e-5)):
        moved = expected[name] - start[name].numpy()
        off = weights[name].detach().numpy() - expected[name]
        assert np.linalg.norm(off) < tolerance * np.linalg.norm(moved), name


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_weights_that_are_used_are_those_that_muon_changes(layout: str) -> None:
    """A matrix is the convolution's own memory, not a copy of it."""
    convolution = nn.Conv2d(4, 6, 3).to(memory_format=LAYOUTS[layout])  # pyright: ignore[reportCallIssue]
    optimizers = Optimizers(dict(convolution.named_parameters()), muon(), fused=False)
    before = convolution.weight.detach().clone()
    convolution(torch.ones(1, 4, 5, 5)).square().sum().backward()
    optimizers.step(torch.GradScaler("cpu", enabled=False), rate=1.0)
    assert (convolution.weight - before).abs().max() > 1e-3
    assert optimizers.momentum["weight"].abs().max() > 0


def test_a_run_with_muon_that_was_killed_ends_with_the_bytes_of_a_whole_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = dark_and_light(tmp_path / "images")
    die_after(2, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        pretrain(settings(images, tmp_path / "resumed", optimizer="muon"))
    monkeypatch.undo()
    resumed = pretrain(settings(images, tmp_path / "resumed", optimizer="muon"))
    whole = pretrain(settings(images, tmp_path / "whole", optimizer="muon"))
    assert resumed.read_bytes() == whole.read_bytes()
    plain = pretrain(settings(images, tmp_path / "plain", weight_decay=0.025))
    assert plain.read_bytes() != resumed.read_bytes()


def test_rates_and_decays_have_defaults_for_each_optimizer() -> None:
    bare = {"lr": None, "weight_decay": None, "batch": 128}
    sgd, muon = (settings(Path(), Path(), optimizer=name, **bare) for name in ("sgd", "muon"))
    assert (sgd.peak_lr, sgd.decay) == (0.1, 1.5e-3)
    assert (muon.peak_lr, muon.decay) == (0.05, 0.025)
    assert muon.__class__(optimizer="muon", lr=0.3, weight_decay=0.0).decay == 0.0
