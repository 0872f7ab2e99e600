"""Tensors on disk, as safetensors: whole files or none, and no code of a file is executed."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from pipeline.errors import WeightsError, cant_open
from pipeline.files import replacing

_PYTHON = (OSError, RuntimeError, ValueError, TypeError, LookupError, AttributeError, MemoryError)
DAMAGE = (*_PYTHON, SafetensorError)
"""Raised by safetensors for damaged files."""


def grouped(**groups: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Join dicts of tensors into one with the names `group.name`."""
    return {f"{group}.{name}": t for group, tensors in groups.items() for name, t in tensors.items()}


def write_tensors(path: Path, tensors: Mapping[str, Tensor], facts: Any = None) -> None:
    """Write tensors and facts, which are JSON types, whole or not at all. Raises: WeightsError."""
    plain = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
    try:
        with replacing(path) as part:
            save_file(plain, part, {"facts": json.dumps(facts)})
    except (OSError, SafetensorError) as error:
        raise WeightsError(
            f"{path}: can't be written: {error}; fix that and run it again, train_head.py with --resume"
        ) from error


def read_tensors(path: Path) -> tuple[dict[str, Tensor], Any]:
    """Read (tensors, facts). Raises: WeightsError when the file is missing, damaged or may not be read."""
    try:
        path.open("rb").close()  # for safetensors, a file that may not be read isn't there
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return tensors, json.loads((file.metadata() or {}).get("facts", "null"))
    except PermissionError as error:
        raise WeightsError(cant_open(path, error)) from error
    except DAMAGE as error:
        raise WeightsError(f"{path}: can't be read: {error}; train the head again") from error


@torch.no_grad()
def copy_tensors(path: Path, found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    """Copy the tensors found in `path` into the wanted ones.

    Raises: WeightsError naming the first tensor that is missing, unexpected, or of another shape.
    """
    for name in sorted(wanted.keys() | found.keys()):
        expected, there = (shape_text(t[name].shape) if name in t else "none" for t in (wanted, found))
        if expected != there:
            raise WeightsError(
                f"{path}: {name}: expected {expected}, found {there}: no weights of this version and these "
                "settings; train the head again"
            )
    for name, tensor in wanted.items():
        tensor.copy_(found[name])


def shape_text(shape: Iterable[int]) -> str:
    """A shape in words, like 256×5×5."""
    return "×".join(map(str, shape)) or "a number"
