"""The kernels of recurrent attention against plain torch: on a GPU, else in Triton's interpreter."""

from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor

from pipeline import kernels
from pipeline.config import TrainConfig
from pipeline.heads.base import HeadSpec
from pipeline.heads.recurrent_attention import RecurrentAttention

pytest.importorskip("triton")
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize(
    ("crops", "seeds", "dtype"),
    [("ten", (0,), torch.float32), ("full", (0, 1), torch.float32), ("full", (0, 1), torch.bfloat16)],
)
def test_attention_by_kernels_has_the_losses_and_gradients_of_attention_without(
    crops: Any, seeds: tuple[int, ...], dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    torch.set_float32_matmul_precision("highest")  # training on a GPU leaves it at TF32
    config = TrainConfig(head="recurrent-attention", hidden=(7,), crops=crops, steps=2)
    one = RecurrentAttention(HeadSpec(config, (3, 6, 5), 3, seeds))
    with torch.no_grad():
        one.place_weight.normal_(std=0.3)
    other = deepcopy(one).to(DEVICE)
    inputs, labels = (
        one.prepare(torch.randn(len(seeds), 1, 3, 6, 5)).to(dtype),
        torch.randint(3, (len(seeds),)),
    )
    monkeypatch.setattr(kernels, "usable", lambda *tensors: True)
    found = gradients(other, inputs.to(DEVICE), labels.to(DEVICE))
    monkeypatch.setattr(kernels, "usable", lambda *tensors: False)
    expected = gradients(one, inputs, labels)
    rtol, atol = (1e-4, 1e-6) if dtype == torch.float32 else (0.05, 0.01)
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name].cpu(), tensor, rtol=rtol, atol=atol)


def gradients(head: RecurrentAttention, inputs: Tensor, labels: Tensor) -> dict[str, Tensor]:
    losses = head.losses(inputs, labels)
    losses.sum().backward()
    return {"losses": losses.detach()} | {n: p.grad for n, p in head.named_parameters() if p.grad is not None}
