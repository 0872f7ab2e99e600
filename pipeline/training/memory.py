"""How much memory maps may take, and whether that is enough."""

import contextlib
from collections.abc import Iterator

import torch

from pipeline.config import TrainConfig
from pipeline.device import free_bytes
from pipeline.errors import ConfigError, RunError, out_of_memory
from pipeline.heads import HEADS
from pipeline.maps.source import Source

MB = 1 << 20


def free_for_maps(source: Source, batch: int, budget_mb: int | None) -> dict[str, int]:
    """Bytes for maps by type of device, "cpu" for RAM, beside the batches that are made of them: of the
    budget, or of half of what is free, but as much as reading from disk takes at least."""
    working, least = source.working_bytes(batch), source.streaming_bytes(batch)
    devices = {source.device.type: source.device, "cpu": torch.device("cpu")}
    return {
        name: max(least, (budget_mb * MB if budget_mb else free_bytes(device) // 2) - working)
        for name, device in devices.items()
    }


def least_mb(source: Source, batch: int) -> int:
    """The smallest budget: batches are read from disk in it."""
    return -(-(source.working_bytes(batch) + source.streaming_bytes(batch)) // MB)


def check_budget(source: Source, batch: int, budget_mb: int | None) -> None:
    """Raises: ConfigError with the least budget that will do, when this one is too small."""
    if budget_mb and budget_mb < (least := least_mb(source, batch)):
        raise ConfigError(
            f"--memory-budget-mb: expected at least {least:,} for batches of {batch}, found {budget_mb}; "
            f"give {least}, or a smaller --batch and another --out"
        )


@contextlib.contextmanager
def advice(source: Source, batch: int, config: TrainConfig) -> Iterator[None]:
    """Say what takes less memory when there isn't enough. Raises: RunError."""
    given_mb = config.memory_budget_mb or free_bytes(source.device) // 2 // MB
    try:
        yield
    except (MemoryError, RuntimeError, OSError) as error:
        if not out_of_memory(error):
            raise
        info, least = HEADS[config.head], least_mb(source, batch)
        todo = "take linear, which takes maps batch by batch"
        if not info.fitted:
            smaller = ["smaller --hidden-shapes"] if "hidden" in info.reads else []
            smaller += ["fewer --folds"] if (config.folds or 0) > 2 else []
            smaller = [*smaller, "fewer heads at once", "a smaller --batch"]
            todo = f"give {', '.join(smaller[:-1])} or {smaller[-1]}, and another --out"
            todo = f"add --memory-budget-mb {least} --resume; or {todo}" if given_mb > least else todo
        raise RunError(f"out of memory; {todo}") from error


def memory_for_all(source: Source, maps: int, folded: bool) -> int:
    """Bytes for a head that takes all maps at once: their inputs, and as much again; in folds once more, for
    those of them that it learns from in turn."""
    return (3 if folded else 2) * source.input_bytes(maps) + source.working_bytes(0)


def check_all_fit(config: TrainConfig, source: Source, maps: int) -> None:
    """Raises: ConfigError when what a head takes that takes all maps at once doesn't fit into the memory."""
    name, budget_mb = config.head, config.memory_budget_mb
    needed_mb = -(-memory_for_all(source, maps, bool(config.folds)) // MB)
    needs = f"{name} takes all maps at once, {needed_mb:,} MB for {maps:,} of them, found"
    instead = "take linear, which takes them batch by batch"
    if budget_mb and needed_mb > budget_mb:
        raise ConfigError(f"--memory-budget-mb: {needs} {budget_mb}; raise it or {instead}")
    if not budget_mb and needed_mb > (free_mb := free_bytes(source.device) // MB):
        raise ConfigError(f"--head: {needs} {free_mb:,} MB free; {instead}")
