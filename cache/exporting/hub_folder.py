"""A cache → a folder of the `datasets` library, as `save_to_disk` writes it: features, label and path."""

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from cache.errors import CacheError
from cache.loading import Batch
from cache.reader import FeatureCache


def export(cache: FeatureCache, out: Path, watch: object = None) -> None:
    """Write the first view of each row as float32 lists: `features` of D numbers, or C×H×W; `label`, or
    `labels` (those that are present) and `not_counted`; `path`. The library shows how far it is.

    Raises: CacheError when the library is missing; OSError.
    """
    try:
        from datasets import Array3D, ClassLabel, Dataset, Features, List, Value, disable_progress_bars
        from datasets.exceptions import DatasetGenerationError
    except ModuleNotFoundError as error:
        raise CacheError(
            f'--format datasets: needs the package {error.name}; pip install "ten-crop-cache[datasets]"'
        ) from error
    if not sys.stderr.isatty():
        disable_progress_bars()
    cache.verify(np.arange(len(cache)))  # before the library is at work, which wraps errors
    c, h, w = cache.shape[2:]
    kind = ClassLabel(names=list(cache.classes))
    labels = {"labels": List(kind), "not_counted": List(kind)} if cache.multi_label else {"label": kind}
    maps = List(Value("float32"), length=c) if h == w == 1 else Array3D(shape=(c, h, w), dtype="float32")
    features = Features({"features": maps, **labels, "path": Value("string")})
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f"{out.name}.part-") as folder:
        given: Any = {"features": features, "cache_dir": folder, "gen_kwargs": {"cache": cache}}
        try:
            made: Any = Dataset.from_generator(_rows, **given)
        except DatasetGenerationError as error:
            raise error.__cause__ or error from error
        made.save_to_disk(Path(folder) / "saved")
        (Path(folder) / "saved").rename(out)


def _rows(cache: FeatureCache) -> Iterator[dict[str, Any]]:
    for start in range(0, len(cache), cache.block_rows):
        rows = np.arange(start, min(start + cache.block_rows, len(cache)))
        for (maps, label), path in zip(
            Batch(cache, rows), cache.paths[start : start + len(rows)], strict=True
        ):
            maps = maps.astype(np.float32, copy=False)
            row = {"features": maps.reshape(-1) if maps.shape[1:] == (1, 1) else maps, "path": path}
            if cache.multi_label:
                present, unknown = np.flatnonzero(label == 1).tolist(), np.flatnonzero(label < 0).tolist()
                yield row | {"labels": present, "not_counted": unknown}
            else:
                yield row | {"label": label}
