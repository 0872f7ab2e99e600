"""One training step: losses, gradients, update. On a GPU it is recorded once as a CUDA graph and replayed.

A step of a small head is dozens of kernels that each take less time than it takes to launch them; a replay
launches all of them at once. Nothing in a step waits for the GPU.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from pipeline.heads.base import Head
from pipeline.training.optimizer import Optimizer

Step = Callable[[Tensor, Tensor, float], Tensor]
"""(inputs (B, ...), labels (B,), share of the learning rate) → (M,) losses, good until the next step."""
WARM_UP = 3
"""Steps before the recording, in which libraries set themselves up."""


def make_step(head: Head, optimizer: Optimizer, device: torch.device) -> Step:
    """The fastest step that the device and the head allow."""

    ones = torch.ones(len(head.seeds), device=device)

    def step(inputs: Tensor, labels: Tensor, factor: float | Tensor) -> Tensor:
        losses = head.losses(inputs, labels)
        losses.backward(ones.to(losses.dtype))  # the gradient of their sum
        optimizer.step(factor)
        return losses.detach()

    if device.type == "cuda" and head.recordable:
        return RecordedStep(step, device, record_on_gpu, on_side_stream)
    return step


class RecordedStep:
    """Replays `step` on batches of the size of the first; others, as the last of an epoch, are done live.

    Batches that come in the same memory each time are read there, others are copied to where they are read.
    """

    def __init__(
        self,
        step: Callable[[Tensor, Tensor, Tensor], Tensor],
        device: torch.device,
        record: Callable[[Callable[[], Tensor]], Callable[[], Tensor]],
        warming_up: Callable[[], Any],
    ) -> None:
        self._step, self._record, self._warming_up = step, record, warming_up
        self._read: list[Tensor] = []
        self._stays = [True, True]
        self._factor = torch.zeros((), device=device)
        self._warm, self._replay = 0, None

    def __call__(self, inputs: Tensor, labels: Tensor, factor: float) -> Tensor:
        self._factor.fill_(factor)
        batch = [inputs, labels]
        if not self._read:
            self._read = batch
        if inputs.shape != self._read[0].shape:
            return self._step(inputs, labels, self._factor)
        stays = [new.data_ptr() == old.data_ptr() for new, old in zip(batch, self._read, strict=True)]
        if self._warm < WARM_UP:
            self._warm += 1
            self._stays = [before and now for before, now in zip(self._stays, stays, strict=True)]
            with self._warming_up():
                return self._step(inputs, labels, self._factor)
        if self._replay is None:
            self._read = [x if s else torch.empty_like(x) for x, s in zip(batch, self._stays, strict=True)]
        for new, old in zip(batch, self._read, strict=True):
            if new.data_ptr() != old.data_ptr():
                old.copy_(new)
        if self._replay is None:
            self._replay = self._record(self._on_what_is_read)
        return self._replay()

    def _on_what_is_read(self) -> Tensor:
        inputs, labels = self._read
        return self._step(inputs, labels, self._factor)


def record_on_gpu(call: Callable[[], Tensor]) -> Callable[[], Tensor]:
    """Record what `call` launches, without doing it. The result always lies in the same memory."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = call()

    def replay() -> Tensor:
        graph.replay()
        return result

    return replay


@contextmanager
def on_side_stream() -> Iterator[None]:
    """As CUDA graphs ask for it of the steps before the recording."""
    stream, main = torch.cuda.Stream(), torch.cuda.current_stream()
    stream.wait_stream(main)
    with torch.cuda.stream(stream):
        yield
    main.wait_stream(stream)
