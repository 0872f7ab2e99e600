"""Tensors that torch saved: a dictionary of them, or the features alone. Nothing else is unpickled."""

import pickle
from pathlib import Path
from typing import Any

from cache.errors import CacheError
from cache.importing.source import CLASSES, FEATURES, LABELS, PATHS, Source, chosen, map_shape, optional


def open_pt(path: Path, features_key: str | None, labels_key: str | None) -> Source:
    """Features and labels in a .pt file, mapped where it can be. Raises: CacheError."""
    try:
        import torch
    except ModuleNotFoundError as error:
        raise CacheError(f"{path}: needs torch to be read; pip install torch") from error
    found = _load(path)
    tensors: dict[str, Any] = found if isinstance(found, dict) else {"features": found}
    keys = [str(key) for key in tensors]
    features = tensors[chosen(keys, FEATURES, features_key, "--features-key", str(path))]
    if not isinstance(features, torch.Tensor) or not features.is_floating_point():
        kind = features.dtype if isinstance(features, torch.Tensor) else type(features).__name__
        raise CacheError(f"{path}: features: expected a tensor of floating-point numbers, found {kind}")
    if features.layout != torch.strided:
        raise CacheError(
            f"{path}: features: expected a dense tensor, found {features.layout}; save to_dense()"
        )
    names = [name for name in LABELS if name in keys]
    labels = (
        tensors[chosen(keys, LABELS, labels_key, "--labels-key", str(path))] if labels_key or names else None
    )
    shape = map_shape(features.shape, str(path))

    def read(rows: range) -> Any:
        piece = features.detach()[rows.start : rows.stop].reshape(-1, *shape[1:])
        return (piece.float() if piece.dtype == torch.bfloat16 else piece).numpy()

    return Source(
        name=str(path),
        files=[path],
        shape=shape,
        dtype=str(features.dtype).removeprefix("torch."),
        labels=labels.detach().numpy() if isinstance(labels, torch.Tensor) else labels,
        classes=optional(tensors, CLASSES),
        paths=optional(tensors, PATHS),
        read=read,
    )


def _load(path: Path) -> Any:
    import torch

    for is_mapped in (True, False):  # what old versions of torch saved can't be mapped
        try:
            return torch.load(path, map_location="cpu", weights_only=True, mmap=is_mapped)
        except (OSError, EOFError, ValueError, RuntimeError, KeyError, pickle.UnpicklingError) as error:
            if not is_mapped or isinstance(error, OSError):
                said = " ".join(str(error).split())[:200]
                raise CacheError(
                    f"{path}: expected tensors saved by torch.save, without objects of other classes: {said}"
                ) from error
    return None
