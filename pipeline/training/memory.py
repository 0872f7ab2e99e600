"""How much memory maps may take, and whether that is enough."""

import torch

from pipeline.device import free_bytes
from pipeline.errors import ConfigError
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


def check_budget(source: Source, batch: int, budget_mb: int | None) -> None:
    """Raises: ConfigError with the least budget that will do, when this one is too small."""
    least_mb = -(-(source.working_bytes(batch) + source.streaming_bytes(batch)) // MB)
    if budget_mb and budget_mb < least_mb:
        raise ConfigError(
            f"--memory-budget-mb: expected at least {least_mb:,} for batches of {batch}, found {budget_mb}; "
            f"give {least_mb}, or a smaller --batch and another --out"
        )


def check_all_fit(name: str, source: Source, maps: int, budget_mb: int | None) -> None:
    """Raises: ConfigError when inputs, and as much again for the head, don't fit into the memory."""
    needed_mb = -(-(2 * source.input_bytes(maps) + source.working_bytes(0)) // MB)
    needs = f"{name} takes all maps at once, {needed_mb:,} MB for {maps:,} of them, found"
    instead = "take linear, which takes them batch by batch"
    if budget_mb and needed_mb > budget_mb:
        raise ConfigError(f"--memory-budget-mb: {needs} {budget_mb}; raise it or {instead}")
    if not budget_mb and needed_mb > (free_mb := free_bytes(source.device) // MB):
        raise ConfigError(f"--head: {needs} {free_mb:,} MB free; {instead}")
