"""Tensors on disk, as safetensors: whole files or none, and nothing that a file says is executed."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from pipeline.errors import WeightsError
from pipeline.files import replacing

DAMAGE = (
    OSError,
    SafetensorError,
    RuntimeError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    MemoryError,
)
"""What safetensors raises on damaged files."""


def grouped(**groups: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """One dict out of several: `group.name` → tensor."""
    return {f"{group}.{name}": t for group, tensors in groups.items() for name, t in tensors.items()}


def write_tensors(path: Path, tensors: Mapping[str, Tensor], facts: Any = None) -> None:
    """`facts` are JSON types. The file appears under its name when it is complete. Raises: WeightsError."""
    plain = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
    try:
        with replacing(path) as part:
            save_file(plain, part, {"facts": json.dumps(facts)})
    except (OSError, SafetensorError) as error:
        raise WeightsError(
            f"{path}: can't be written: {error}; mend that and run it again, train_head.py with --resume"
        ) from error


def read_tensors(path: Path) -> tuple[dict[str, Tensor], Any]:
    """(tensors, facts). Raises: WeightsError when the file is missing or damaged."""
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return tensors, json.loads((file.metadata() or {}).get("facts", "null"))
    except DAMAGE as error:
        raise WeightsError(f"{path}: can't be read: {error}; train the head again") from error


@torch.no_grad()
def copy_tensors(path: Path, found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    """Copy what was found in `path` into the tensors wanted.

    Raises: WeightsError naming the first tensor that is missing, too many, or of another shape.
    """
    for name in sorted(wanted.keys() | found.keys()):
        expected, there = (shape_text(t[name].shape) if name in t else "none" for t in (wanted, found))
        if expected != there:
            raise WeightsError(f"{path}: {name}: expected {expected}, found {there}; train the head again")
    for name, tensor in wanted.items():
        tensor.copy_(found[name])


def shape_text(shape: Iterable[int]) -> str:
    """256×5×5."""
    return "×".join(map(str, shape)) or "a number"
