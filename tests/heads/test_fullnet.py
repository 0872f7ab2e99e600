"""FullNet against a forward pass per crop, in float64."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support import reference
from torch import Tensor

from pipeline.config import TrainConfig
from pipeline.heads.base import HeadSpec
from pipeline.heads.folding import fold, unfold
from pipeline.heads.fullnet import FullNet
from pipeline.heads.losses import classification_loss

EXACT = {"rtol": 0, "atol": 1e-10}


def stack(config: TrainConfig, shape: tuple[int, int, int], classes: int, seeds: tuple[int, ...]) -> FullNet:
    head = FullNet(HeadSpec(config, shape, classes, seeds)).double()
    with torch.no_grad():
        for name, parameter in head.named_parameters():
            if "bias" in name or "output" in name:
                parameter.normal_(std=0.1)
    return head


def plain_layers(head: FullNet, m: int) -> list[tuple[Tensor, Tensor]]:
    """Head m's layers as leaves (out, in), the first in the layout of an unfolded crop."""
    get = head.get_parameter
    weights = [head.plain_first_weight()[m].flatten(1)]
    weights += [get(f"weight{i}")[m].t() for i in range(1, head.depth)] + [head.output_weight[m].t()]
    biases = [get(f"bias{i}")[m] for i in range(head.depth)] + [head.output_bias[m]]
    pairs = zip(weights, biases, strict=True)
    return [(w.detach().clone().requires_grad_(), b.detach().clone().requires_grad_()) for w, b in pairs]


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(["center", "five", "ten", "ten-image", "full"]),
    st.integers(1, 6),
    st.integers(1, 6),
    st.integers(1, 5),
    st.sampled_from([(4,), (5, 3), (3, 4, 2)]),
    st.integers(1, 3),
)
def test_scores_and_gradients_equal_one_forward_pass_per_crop(
    kind: str, height: int, width: int, crop_cells: int, hidden: tuple[int, ...], heads: int
) -> None:
    crop_cells = min(crop_cells, height, width)
    config = TrainConfig(crops=kind, crop_cells=crop_cells, hidden=hidden)  # pyright: ignore[reportArgumentType]
    head = stack(config, (2, height, width), 3, tuple(range(heads)))
    maps = torch.randn(4, 2, 2, height, width, dtype=torch.float64)
    labels = torch.tensor([0, 2, 1, 2])
    scores = head(head.prepare(maps))
    classification_loss(scores, labels, "cross-entropy").mean(1).sum().backward()
    for m in range(heads):
        layers = plain_layers(head, m)
        expected = reference.fullnet(reference.crops(kind, maps, crop_cells), layers)
        torch.testing.assert_close(scores[m], expected, **EXACT)
        torch.nn.functional.cross_entropy(expected, labels).backward()
        _check_gradients(head, m, layers)


def _check_gradients(head: FullNet, m: int, layers: list[tuple[Tensor, Tensor]]) -> None:
    def grad(name: str) -> Tensor:
        found = head.get_parameter(name).grad
        assert found is not None
        return found[m]

    first = unfold(grad("weight0"), *head.crop_shape).flatten(1)
    ours = [first, *(grad(f"weight{i}").t() for i in range(1, head.depth)), grad("output_weight").t()]
    biases = [*(grad(f"bias{i}") for i in range(head.depth)), grad("output_bias")]
    for weight, bias, (layer_weight, layer_bias) in zip(ours, biases, layers, strict=True):
        assert layer_weight.grad is not None
        torch.testing.assert_close(weight, layer_weight.grad, **EXACT)
        torch.testing.assert_close(bias, layer_bias.grad, **EXACT)


@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 7))
def test_folding_keeps_lengths_and_can_be_undone(channels: int, height: int, width: int) -> None:
    crops = torch.randn(3, channels, height, width, dtype=torch.float64)
    folded = fold(crops, crops.new_empty(3, channels * height * width))
    torch.testing.assert_close(folded.norm(dim=1), crops.flatten(1).norm(dim=1), **EXACT)
    torch.testing.assert_close(unfold(folded, channels, height, width), crops, **EXACT)


def test_ten_crops_fold_to_five_boxes() -> None:
    head = stack(TrainConfig(crops="ten"), (2, 5, 5), 3, (0,))
    assert head.prepare(torch.zeros(4, 1, 2, 5, 5)).shape == (4, 5, 18)
    assert len(head.folding.pairs) == 5
    assert not head.folding.singles


def test_each_head_of_a_stack_starts_as_it_would_alone() -> None:
    config = TrainConfig(hidden=(4, 3))
    together = FullNet(HeadSpec(config, (2, 5, 5), 3, (7, 8)))
    for m, seed in enumerate((7, 8)):
        alone = FullNet(HeadSpec(config, (2, 5, 5), 3, (seed,)))
        for name, parameter in alone.named_parameters():
            assert torch.equal(together.get_parameter(name)[m : m + 1], parameter), name


@pytest.mark.parametrize("hidden", [(64,), (64, 64)])
def test_dropout_drops_its_share_keeps_the_mean_and_follows_seed_and_epoch(hidden: tuple[int, ...]) -> None:
    config = TrainConfig(hidden=hidden, dropout=0.5)
    head = FullNet(HeadSpec(config, (2, 5, 5), 3, (1, 2)))
    ones = torch.ones(2, 400, 64)
    head.start_epoch(3)
    dropped = head.dropout(ones, 0.5)
    assert set(dropped.unique().tolist()) == {0.0, 2.0}
    assert abs(dropped.mean().item() - 1) < 0.02
    assert not torch.equal(dropped[0], dropped[1])
    head.start_epoch(3)
    assert torch.equal(head.dropout(ones, 0.5), dropped)
    head.start_epoch(4)
    assert not torch.equal(head.dropout(ones, 0.5), dropped)
    head.eval()
    assert torch.equal(head.dropout(ones, 0.5), ones)
