"""Gradients of recurrent attention against torch's own and against differences, and their memory."""

import gc

import pytest
import torch
from support.attending import LABELS, channels_first, stack, weights_of
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.heads.gradients import drop_gradient
from pipeline.heads.recurrent_attention import RecurrentAttention
from pipeline.heads.trace import Trace


def by_torch(
    head: RecurrentAttention, m: int, maps: Tensor, leaves: dict[str, Tensor]
) -> tuple[Tensor, Tensor]:
    """Regions (B, S, 4) and step scores (B, S, K) of whole maps, by grid_sample and LSTMCell."""
    width, (p, q) = len(leaves["look_bias"]), head.points
    cell = nn.LSTMCell(width, width).double()
    split = {"weight_ih": leaves["lstm_weight"][:width].t(), "weight_hh": leaves["lstm_weight"][width:].t()}
    split |= {"bias_ih": leaves["lstm_bias"], "bias_hh": torch.zeros(4 * width, dtype=torch.float64)}
    state = torch.zeros(2, len(maps), width, dtype=torch.float64).unbind()
    theta = torch.tensor([1, 1, 0, 0], dtype=torch.float64).expand(len(maps), 4)
    thetas, scores = [], []
    for k in range(head.steps + 1):
        zero = torch.zeros_like(theta[:, 0])
        matrix = torch.stack([theta[:, 0], zero, theta[:, 2], zero, theta[:, 1], theta[:, 3]], 1).view(
            -1, 2, 3
        )
        grid = F.affine_grid(matrix, [len(maps), maps.shape[1], p, q], align_corners=True)
        region = F.grid_sample(maps, grid, "bilinear", "zeros", align_corners=True)
        x = (region.flatten(1) @ leaves["look_weight"] + leaves["look_bias"]).relu()
        state = torch.func.functional_call(cell, split, (x, state))
        z = (state[0] @ leaves["state_weight"] + leaves["state_bias"]).relu()
        if k:
            scores.append(z @ leaves["score_weight"] + leaves["score_bias"])
        if k < head.steps:
            starts = leaves["place_bias"].view(-1, 4)
            theta = z @ leaves["place_weight"] + starts[k % len(starts)]
            thetas.append(theta)
    return torch.stack(thetas, 1), torch.stack(scores, 1)


@pytest.mark.parametrize("start", ["anchors", "whole"])
def test_scores_and_all_gradients_are_those_of_grid_sample_and_lstm_cell(start: str) -> None:
    head = stack((3, 7, 6), crops="full", region_start=start)
    maps = torch.randn(3, 1, 3, 7, 6, dtype=torch.float64)
    found = head.attention(head.prepare(maps))
    (found.logits.square().sum() + found.theta.cos().sum()).backward()
    for m in range(2):
        leaves = {name: w.clone().requires_grad_() for name, w in weights_of(head, m).items()}
        theta, scores = by_torch(head, m, maps[:, 0], leaves)
        torch.testing.assert_close(found.theta[m, :, 0], theta, rtol=0, atol=1e-10)
        torch.testing.assert_close(found.step_logits[m, :, 0], scores, rtol=0, atol=1e-10)
        (scores.amax(1).square().sum() + theta.cos().sum()).backward()
        gradients = {name: p.grad for name, p in head.named_parameters()}
        for name, leaf in leaves.items():
            ours = gradients[name]
            assert ours is not None
            assert leaf.grad is not None
            mine = ours[m]
            if name == "look_weight":
                mine = channels_first(mine, head)
            torch.testing.assert_close(mine, leaf.grad, rtol=1e-8, atol=1e-9)


def test_gradients_through_regions_lstm_and_constraints_are_those_of_differences() -> None:
    head = stack((2, 4, 5), crops="ten", hidden=(3,), steps=3)
    inputs = head.prepare(torch.randn(3, 1, 2, 4, 5, dtype=torch.float64))
    names = [name for name, _ in head.named_parameters()]

    def losses(*values: Tensor) -> Tensor:
        parameters = dict(zip(names, values, strict=True))
        return torch.func.functional_call(
            _Losses(head), {f"head.{n}": p for n, p in parameters.items()}, inputs
        )

    parameters = tuple(p.detach().clone().requires_grad_() for p in head.parameters())
    assert torch.autograd.gradcheck(losses, parameters, fast_mode=True)


def test_gradients_in_float32_are_those_of_float64() -> None:
    head = stack((3, 5, 4), crops="ten", steps=3)
    inputs = head.prepare(torch.randn(3, 1, 3, 5, 4, dtype=torch.float64))
    losses = head.losses(inputs, LABELS)
    expected = torch.autograd.grad(losses.sum(), list(head.parameters()))
    head.float()
    found = torch.autograd.grad(head.losses(inputs.float(), LABELS).sum(), list(head.parameters()))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-4, atol=1e-5)


class _Losses(nn.Module):
    def __init__(self, head: RecurrentAttention) -> None:
        super().__init__()
        self.head = head

    def forward(self, inputs: Tensor) -> Tensor:
        return self.head.losses(inputs, LABELS)


def test_a_dropped_gradients_memory_is_written_again_and_none_that_is_in_use() -> None:
    head = stack((2, 5, 4), crops="ten")
    one, other = (head.prepare(torch.randn(3, 1, 2, 5, 4, dtype=torch.float64)) for _ in range(2))
    weight = head.look_weight

    def gradient(*batches: Tensor) -> Tensor:
        torch.stack([head.losses(inputs, LABELS).sum() for inputs in batches]).sum().backward()
        assert weight.grad is not None
        return weight.grad

    first = gradient(one).clone()
    both = gradient(other).clone()  # added to what was there
    place = gradient(one).data_ptr()
    drop_gradient(weight)
    second = gradient(other)
    assert second.data_ptr() == place
    torch.testing.assert_close(both, first + second, rtol=0, atol=1e-12)
    drop_gradient(weight)
    torch.testing.assert_close(gradient(one, other), both, rtol=0, atol=1e-12)  # two in one backward pass
    drop_gradient(weight)
    (kept,), (_,) = (torch.autograd.grad(head.losses(x, LABELS).sum(), weight) for x in (one, other))
    torch.testing.assert_close(kept, first, rtol=0, atol=1e-12)
    head.float()  # other numbers, other memory
    torch.testing.assert_close(gradient(one.float()), first.float(), rtol=1e-4, atol=1e-5)


def test_a_pass_can_go_back_again_until_the_next_one_takes_its_memory() -> None:
    head = stack((2, 5, 4), crops="ten")
    inputs = head.prepare(torch.randn(3, 1, 2, 5, 4, dtype=torch.float64))
    loss = head.losses(inputs, LABELS).sum()
    once, again = (torch.autograd.grad(loss, head.look_weight, retain_graph=True)[0].clone() for _ in "ab")
    assert torch.equal(once, again)
    head.losses(inputs + 1, LABELS).sum().backward()
    with pytest.raises(RuntimeError, match="a second backward pass"):
        loss.backward()


@pytest.mark.parametrize("goes_back", [True, False])
def test_a_pass_leaves_nothing_for_the_garbage_collector(goes_back: bool) -> None:
    gc.collect()  # what other tests left
    head = stack((2, 5, 4), crops="full")
    loss = head.losses(head.prepare(torch.randn(3, 1, 2, 5, 4, dtype=torch.float64)), LABELS).sum()
    if goes_back:
        loss.backward()
    del loss
    assert not [each for each in gc.get_objects() if type(each) is Trace]
