"""What a trunk costs: its parameters, and how many images it takes a second."""

import time
from typing import NamedTuple

import torch

from pipeline.trunks.base import Trunk
from pipeline.trunks.prepare import PreparedTrunk

RUNS = 3
"""Batches that are timed, of which the fastest counts: others wait for what else the machine does."""


class Cost(NamedTuple):
    """Of a trunk up to one layer."""

    parameters: int
    images_per_second: float
    """Of the forward pass alone, prepared as extraction does it; decoding may take longer."""


def cost_of(trunk: Trunk, device: torch.device) -> Cost:
    """Time batches of noise; on a CPU on one core, and count all of them, for each has a batch of its own."""
    prepared, threads = PreparedTrunk(trunk, device), torch.get_num_threads()
    side, count = trunk.transform.image_px, prepared.best_batch
    images, seconds = torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8), []
    torch.set_num_threads(1)
    try:
        for _ in range(1 + RUNS):
            start = time.perf_counter()
            prepared(images).sum().item()  # which waits for a GPU
            seconds.append(time.perf_counter() - start)
    finally:
        torch.set_num_threads(threads)
    parameters = sum(parameter.numel() for parameter in trunk.module.parameters())
    at_once = threads if device.type == "cpu" else 1
    return Cost(parameters, at_once * count / min(seconds[1:]))
