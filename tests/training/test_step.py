"""The step that a GPU replays, with a recorder that works on any device.

Like a CUDA graph, the recorder notes which operators run on which tensors. A replay runs these again, on the
memory of then, and no other code: what isn't in that memory, it can't see.
"""

from collections.abc import Callable
from contextlib import nullcontext
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.toy import write_cache
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from cache import FeatureCache
from pipeline.config import TrainConfig
from pipeline.heads.base import HeadSpec
from pipeline.heads.fullnet import FullNet
from pipeline.maps.batches import Batch, MapsInMemory, MapsOnDisk
from pipeline.maps.normaliser import Normaliser
from pipeline.maps.parts import Part
from pipeline.maps.source import Source
from pipeline.training import optimizer
from pipeline.training.optimizer import StackedSGD
from pipeline.training.step import LIVE_STEPS, RecordedStep, make_step, why_live

CPU = torch.device("cpu")


class Recording(TorchDispatchMode):
    """The operators of a call, with the tensors that they took and gave."""

    def __init__(self) -> None:
        super().__init__()
        self.operators: list[tuple[Any, Any, Any, list[Any]]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.operators.append((func, args, kwargs or {}, tree_leaves(result)))
        return result

    @torch.no_grad()
    def replay(self) -> None:
        for func, args, kwargs, results in self.operators:
            for new, old in zip(tree_leaves(func(*args, **kwargs)), results, strict=True):
                if isinstance(old, Tensor) and new.data_ptr() != old.data_ptr():
                    old.copy_(new)


class Recorder:
    """Stands in for `record_on_gpu`, and counts."""

    def __init__(self) -> None:
        self.recorded = self.replayed = 0

    def __call__(self, call: Callable[[], Tensor]) -> Callable[[], Tensor]:
        self.recorded += 1
        start = deepcopy(self.tensors)
        with Recording() as recording:
            result = call()
        for tensor, before in zip(self.tensors, start, strict=True):  # recording must not train
            tensor.data.copy_(before.data)

        def replay() -> Tensor:
            self.replayed += 1
            recording.replay()
            return result

        return replay

    def attach(self, head: FullNet, optimizer: StackedSGD) -> None:
        self.tensors = [*head.parameters(), *optimizer.momenta.values()]


@pytest.fixture
def heads(monkeypatch: pytest.MonkeyPatch) -> tuple[FullNet, FullNet]:
    """Two equal ones. Clipping looks at numbers on a CPU, which a recording can't, so nothing is clipped."""
    monkeypatch.setattr(optimizer, "CLIP", 1e9)
    one = FullNet(HeadSpec(TrainConfig(hidden=(4,)), (4, 5, 5), 3, (0, 1)))
    return one, deepcopy(one)


def sgd(head: FullNet) -> StackedSGD:
    return StackedSGD(dict(head.named_parameters()), [0.1, 0.3], [1e-3, 0.0])


def recorded(head: FullNet, memory: Batch, left_out: Tensor | None = None) -> tuple[RecordedStep, Recorder]:
    recorder, update = Recorder(), sgd(head)
    recorder.attach(head, update)
    return RecordedStep(make_step(head, update, memory, left_out), memory, recorder, nullcontext), recorder


@pytest.mark.parametrize("where", ["prepared", "stored", "on disk", "folds"])
def test_replayed_epochs_end_as_live_ones(tmp_path: Path, heads: tuple[FullNet, FullNet], where: str) -> None:
    """43 images in batches of 8: the five full ones are replayed after the live steps, the last never is. In
    folds, each head leaves another one out."""
    cache = FeatureCache(write_cache(tmp_path, images=43) / "train.h5")
    one, other = heads
    source = Source(cache, one.views, one.prepare, Normaliser(4), torch.float32, CPU, verify=True)
    folds = np.random.default_rng(0).integers(2, size=43) if where == "folds" else None
    part, left_out = Part(np.arange(43), cache.labels, folds), None if folds is None else torch.arange(2)
    maps = (
        MapsOnDisk(source, part, 1, 1)
        if where == "on disk"
        else MapsInMemory(source, part, 1, "", where != "stored")
    )
    memory = maps.new_batch(8)
    reference = make_step(one, sgd(one), memory, left_out)
    step, recorder = recorded(other, memory, left_out)
    for epoch in range(3):
        for number, batch in enumerate(maps.shuffled(memory, np.random.default_rng(epoch))):
            factor = 1 / (1 + number + epoch)
            expected = reference(batch, factor)
            torch.testing.assert_close(step(batch, factor), expected)
    assert (recorder.recorded, recorder.replayed) == (1, 3 * 5 - LIVE_STEPS)
    for name, parameter in one.named_parameters():
        torch.testing.assert_close(other.get_parameter(name), parameter, rtol=1e-6, atol=1e-6)


def test_a_batch_in_other_memory_is_done_live(heads: tuple[FullNet, FullNet]) -> None:
    one, other = heads
    draw = torch.Generator().manual_seed(0)
    batches = [
        Batch(torch.randn(n, 5, 36, generator=draw), torch.randint(3, (n,), generator=draw))
        for n in (8, 8, 8, 8, 8, 3, 8)
    ]
    step, recorder = recorded(other, batches[0])
    reference = make_step(one, sgd(one), batches[0])
    for batch in [*[batches[0]] * (LIVE_STEPS + 1), *batches]:
        torch.testing.assert_close(step(batch, 0.5), reference(batch, 0.5))
    assert recorder.replayed == 2


@pytest.mark.parametrize(("dropout", "recordable"), [(0.0, True), (0.2, False)])
def test_steps_that_draw_random_numbers_are_not_recorded_and_a_gpu_says_so(
    dropout: float, recordable: bool
) -> None:
    head = FullNet(HeadSpec(TrainConfig(dropout=dropout), (2, 5, 5), 3, (0,)))
    assert head.recordable == recordable
    assert why_live(head, torch.device("cuda")).startswith(
        "" if recordable else "dropout draws random numbers"
    )
    assert bool(why_live(head, torch.device("cuda"))) != recordable
    assert not why_live(head, CPU)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_s_replayed_steps_end_as_a_cpu_s() -> None:
    torch.set_float32_matmul_precision("highest")  # training on a GPU leaves it at TF32
    one = FullNet(HeadSpec(TrainConfig(hidden=(4,)), (4, 5, 5), 3, (0, 1)))
    other = deepcopy(one).cuda()
    here = Batch(torch.empty(8, 5, 36), torch.empty(8, dtype=torch.int64))
    there = Batch(here.inputs.cuda(), here.labels.cuda())
    replayed, reference = make_step(other, sgd(other), there), make_step(one, sgd(one), here)
    assert isinstance(replayed, RecordedStep)
    for i in range(8):
        here.inputs.normal_()
        here.labels.random_(3)
        for part, same in zip(there[:2], here[:2], strict=True):
            part.copy_(same)  # pyright: ignore[reportOptionalMemberAccess]
        found, expected = (step(batch, 1 / (i + 1)) for step, batch in ((replayed, there), (reference, here)))
        torch.testing.assert_close(found.cpu(), expected, rtol=1e-4, atol=1e-5)
