"""One training step: losses, gradients, update. On a GPU it is recorded once as a CUDA graph and replayed.

A step of a small head is dozens of kernels that each take less time than it takes to launch them; a replay
launches all of them at once. Nothing in a step waits for the GPU.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import torch
from torch import Tensor

from pipeline.heads.base import Head
from pipeline.maps.batches import Batch
from pipeline.training.optimizer import Optimizer

Step = Callable[[Batch, float | Tensor], Tensor]
"""(batch, share of the learning rate) → (M,) losses, good until the next step."""
LIVE_STEPS = 3
"""Steps before the recording, in which libraries set themselves up."""


def make_step(head: Head, optimizer: Optimizer, memory: Batch, left_out: Tensor | None = None) -> Step:
    """The fastest step that the device and the head allow.

    Args:
        memory: where full batches will be.
        left_out: (M,) the fold that each head doesn't learn from.
    """
    ones = torch.ones(len(head.seeds), device=memory.labels.device)

    def step(batch: Batch, factor: float | Tensor) -> Tensor:
        losses = head.losses(batch.inputs, batch.labels, own_images(batch, left_out))
        losses.backward(ones.to(losses.dtype))  # the gradient of their sum
        optimizer.step(factor)
        return losses.detach()

    if ones.device.type == "cuda" and head.recordable:
        return RecordedStep(step, memory, record_on_gpu, on_side_stream)
    return step


def why_live(head: Head, device: torch.device) -> str:
    """Why steps on this device are not recorded, though it could record some; else empty."""
    if device.type != "cuda" or head.recordable:
        return ""
    return "dropout draws random numbers, so steps are launched kernel by kernel instead of replayed: slower"


def own_images(batch: Batch, left_out: Tensor | None) -> Tensor | None:
    """(M, B) whether a head learns from an image; None: all from all."""
    if left_out is None or batch.folds is None:
        return None
    return batch.folds != left_out[:, None]


class RecordedStep:
    """Replays `step` on the batch it was made for; any other, such as the last of an epoch, is done live."""

    def __init__(
        self,
        step: Step,
        memory: Batch,
        record: Callable[[Callable[[], Tensor]], Callable[[], Tensor]],
        aside: Callable[[], AbstractContextManager[None]],
    ) -> None:
        """`record` makes the replay of a call; `aside` surrounds the live steps before it."""
        self._step, self._memory, self._record, self._aside = step, memory, record, aside
        self._factor = torch.zeros((), device=memory.labels.device)
        self._live: int = LIVE_STEPS
        self._replay: Callable[[], Tensor] | None = None

    def __call__(self, batch: Batch, factor: float | Tensor) -> Tensor:
        self._factor.fill_(factor)
        if batch is not self._memory:
            return self._step(batch, self._factor)
        if self._live:
            self._live -= 1
            with self._aside():
                return self._step(batch, self._factor)
        if self._replay is None:
            self._replay = self._record(lambda: self._step(self._memory, self._factor))
        return self._replay()


def record_on_gpu(call: Callable[[], Tensor]) -> Callable[[], Tensor]:
    """Record what `call` launches, without doing it. The result is in the same memory after each replay."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = call()

    def replay() -> Tensor:
        graph.replay()
        return result

    return replay


@contextmanager
def on_side_stream() -> Iterator[None]:
    """The stream that CUDA graphs ask for in steps before the recording."""
    stream, main = torch.cuda.Stream(), torch.cuda.current_stream()
    stream.wait_stream(main)
    with torch.cuda.stream(stream):
        yield
    main.wait_stream(stream)
