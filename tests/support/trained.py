"""What a run of training left behind, to be compared."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file


def lines(run: Path) -> list[dict]:
    """metrics.jsonl without the seconds."""
    found = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "seconds"} for line in found]


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "head.safetensors")


def assert_same(one: Path, other: Path, tolerance: float = 0.0) -> None:
    first, second = weights(one), weights(other)
    assert first.keys() == second.keys()
    for name in first:
        torch.testing.assert_close(first[name], second[name], rtol=0, atol=tolerance)


def board(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "leaderboard.json").read_text())


def stamps(folder: Path) -> dict[Path, int]:
    """When each file of a group was written."""
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
