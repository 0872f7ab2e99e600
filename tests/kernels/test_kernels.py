"""The kernels of a GPU against plain torch: on a GPU if there is one, else in Triton's interpreter."""

from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline import kernels
from pipeline.config import TrainConfig
from pipeline.heads.base import HeadSpec
from pipeline.heads.fullnet import FullNet
from pipeline.maps.batches import Batch
from pipeline.training.optimizer import CLIP, MOMENTUM, StackedSGD
from pipeline.training.step import make_step

triton = pytest.importorskip("triton")
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.fixture
def kernels_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "usable", lambda *tensors: True)


def draw(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape).to(DEVICE, dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("boxes", "pairs"), [(5, 5), (6, 4), (1, 0), (5, 0)])
@pytest.mark.parametrize(("images", "columns"), [(7, 300), (1, 3)])
def test_the_sum_over_crops_and_its_gradients_equal_torch_s(
    boxes: int, pairs: int, images: int, columns: int, dtype: torch.dtype
) -> None:
    from pipeline.kernels.crops import spread_gradient, sum_crops

    torch.manual_seed(0)
    p, q, bias = *(draw(images * boxes, columns, dtype=dtype) for _ in "pq"), draw(columns)
    x, y, b = (t.detach().float().requires_grad_() for t in (p, q, bias))
    crops = (x + b + y * (pairs > 0)).relu()
    if pairs:
        crops = (
            crops + (x + b - y).relu() * (torch.arange(boxes, device=DEVICE) < pairs).repeat(images)[:, None]
        )
    expected = crops.unflatten(0, (images, boxes)).sum(1)
    found = sum_crops(p, q if pairs else None, bias, boxes, pairs)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)

    grad = draw(images, columns)
    expected.backward(grad)
    to_bias = spread_gradient(p, q if pairs else None, bias, grad, boxes, pairs)
    assert x.grad is not None
    assert b.grad is not None
    torch.testing.assert_close(to_bias, b.grad, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(p, x.grad.to(dtype))
    if pairs:
        assert y.grad is not None
        torch.testing.assert_close(q, y.grad.to(dtype))


@pytest.mark.parametrize(
    ("heads", "images", "classes", "tile"),
    [(3, 7, 10, 8192), (2, 300, 10, 64), (1, 9, 1000, 8192), (1, 1, 2, 1)],
)
def test_the_mean_cross_entropy_and_its_gradient_equal_torch_s(
    heads: int, images: int, classes: int, tile: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.kernels import cross_entropy

    monkeypatch.setattr(cross_entropy, "TILE", tile)
    torch.manual_seed(0)
    logits, labels = 200 * draw(heads, images, classes), torch.randint(classes, (images,), device=DEVICE)
    ours, theirs = (logits.clone().requires_grad_() for _ in range(2))
    found = cross_entropy.MeanCrossEntropy.apply(ours, labels)
    expected = F.cross_entropy(theirs.transpose(1, 2), labels.expand(heads, -1), reduction="none").mean(1)
    torch.testing.assert_close(found, expected)
    weights = draw(heads)
    for losses in (found, expected):
        losses.backward(weights)
    torch.testing.assert_close(ours.grad, theirs.grad)


def test_a_logit_that_is_nan_makes_the_loss_of_its_head_nan_and_of_no_other() -> None:
    from pipeline.kernels.cross_entropy import MeanCrossEntropy

    logits = draw(2, 5, 3)
    logits[1, 2, 0] = torch.nan
    losses = MeanCrossEntropy.apply(logits, torch.zeros(5, dtype=torch.int64, device=DEVICE))
    assert losses.isfinite().tolist() == [True, False]


@pytest.mark.parametrize("most_parts", [512, 2])
@pytest.mark.parametrize("length", [1e-4, 1.0])  # shorter and longer than what is clipped
def test_clipped_sgd_ends_as_torch_s_for_each_head_alone(
    length: float, most_parts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.kernels import sgd

    monkeypatch.setattr(sgd, "MOST_PARTS", most_parts)
    torch.manual_seed(0)
    lr, decay = [0.1, 0.1, 0.3], [1e-3, 0.0, 1e-2]
    start = [draw(3, 90, 70), draw(3, 70), draw(3, 70, 10)]
    ours, momenta = [w.clone() for w in start], [torch.zeros_like(w) for w in start]
    theirs = [[nn.Parameter(w[m].clone()) for w in start] for m in range(3)]
    optimizers = [
        torch.optim.SGD(
            [{"params": [p], "weight_decay": d * (p.ndim > 1)} for p in head],
            lr=rate,
            momentum=MOMENTUM,
            nesterov=True,
        )
        for head, rate, d in zip(theirs, lr, decay, strict=True)
    ]
    for step in range(4):
        grads, factor = [length * torch.randn_like(w) for w in start], 1 / (step + 1)
        for m, optimizer in enumerate(optimizers):
            for p, grad in zip(theirs[m], grads, strict=True):
                p.grad = grad[m].clone()
            nn.utils.clip_grad_norm_(theirs[m], CLIP)
            for group in optimizer.param_groups:
                group["lr"] = lr[m] * factor
            optimizer.step()
        rates, decays = torch.tensor(lr, device=DEVICE), torch.tensor(decay, device=DEVICE)
        sgd.clip_and_step(
            ours,
            grads,
            momenta,
            rates,
            [decays * (w.ndim > 2) for w in ours],
            torch.tensor(factor, device=DEVICE),
            CLIP,
            MOMENTUM,
        )
    for found, *expected in zip(ours, *theirs, strict=True):
        torch.testing.assert_close(found, torch.stack([p.detach() for p in expected]), rtol=1e-4, atol=1e-5)


@pytest.mark.no_cover
@pytest.mark.parametrize(
    ("crops", "dtype"),
    [
        *((crops, torch.float32) for crops in ("ten", "ten-image", "five", "center", "full")),
        ("ten", torch.bfloat16),
    ],
)
@pytest.mark.usefixtures("kernels_everywhere")
def test_heads_trained_by_kernels_end_as_heads_trained_without(
    crops: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    torch.set_float32_matmul_precision("highest")  # training on a GPU leaves it at TF32
    config = TrainConfig(crops=crops, hidden=(6,))  # pyright: ignore[reportArgumentType]
    one = FullNet(HeadSpec(config, (2, 4, 4), 3, (0, 1)))
    other = deepcopy(one).to(DEVICE)
    rates = [0.1, 0.3], [1e-3, 0.0]
    maps = [one.prepare(torch.randn(n, 2, 2, 4, 4)).to(dtype) for n in (8, 8, 8, 8, 3, 8)]
    batches = [Batch(x, torch.randint(3, (len(x),))) for x in maps]
    memory = Batch(*(part.to(DEVICE, copy=True) for part in batches[0] if part is not None))
    by_kernels = make_step(other, StackedSGD(dict(other.named_parameters()), *rates), memory)
    rtol, atol = (1e-4, 1e-5) if dtype == torch.float32 else (2e-2, 2e-3)
    found = []
    for batch in batches:
        part = memory.first(len(batch.labels))
        for here, there in zip(part, batch, strict=True):
            if here is not None and there is not None:
                here.copy_(there)
        found.append(by_kernels(part, 0.5).cpu())
    monkeypatch.setattr(kernels, "usable", lambda *tensors: False)
    plain = make_step(one, StackedSGD(dict(one.named_parameters()), *rates), batches[0])
    expected = [plain(batch, 0.5) for batch in batches]
    torch.testing.assert_close(found, expected, rtol=rtol, atol=atol)
    for name, parameter in one.named_parameters():
        torch.testing.assert_close(other.get_parameter(name).cpu(), parameter, rtol=rtol, atol=atol)


def test_numbers_of_64_bits_and_tensors_in_ram_are_not_for_the_kernels() -> None:
    assert not kernels.usable(torch.zeros(1))
    assert not kernels.usable(torch.zeros(1, device=DEVICE, dtype=torch.float64))
    assert kernels.usable(torch.zeros(1, device=DEVICE)) == (DEVICE.type == "cuda")


@pytest.mark.parametrize(
    ("installed", "capability", "said"),
    [
        (True, (9, 0), "Failed to find C compiler"),
        (True, (6, 1), "compute capability is 6.1, and 7.0 the least"),
        (False, (9, 0), "not installed"),
    ],
)
def test_where_triton_cannot_be_used_heads_train_by_torch_and_one_line_says_so(
    installed: bool,
    capability: tuple[int, int],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail() -> None:
        raise RuntimeError("Failed to find C compiler\nset CC")

    kernels.triton_works.cache_clear()
    monkeypatch.setattr(kernels, "_compile_one", fail)
    monkeypatch.setattr(kernels, "find_spec", lambda name: name if installed else None)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    assert [kernels.triton_works() for _ in range(2)] == [False, False]
    kernels.triton_works.cache_clear()
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
