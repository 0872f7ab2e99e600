"""A cache → a folder of the `datasets` library, as `save_to_disk` writes it: features, label and path."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cache.errors import CacheError
from cache.reader import FeatureCache


def export(cache: FeatureCache, out: Path, watch: Callable[[float], object] = lambda share: None) -> None:
    """Write the first view of each row as float32 lists: `features` of D numbers, or C×H×W; `label`, or
    `labels` (those that are present) and `not_counted`; `path`.

    Raises: CacheError when the library is missing; OSError.
    """
    try:
        from datasets import Array3D, ClassLabel, Dataset, Features, List, Value, disable_progress_bars
        from datasets.arrow_writer import ArrowWriter
    except ModuleNotFoundError as error:
        raise CacheError(
            f'--format datasets: needs the package {error.name}; pip install "ten-crop-cache[datasets]"'
        ) from error
    disable_progress_bars()
    c, h, w = cache.shape[2:]
    kind = ClassLabel(names=list(cache.classes))
    labels = {"labels": List(kind), "not_counted": List(kind)} if cache.multi_label else {"label": kind}
    maps = List(Value("float32"), length=c) if h == w == 1 else Array3D(shape=(c, h, w), dtype="float32")
    features = Features({"features": maps, **labels, "path": Value("string")})
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f"{out.name}.part-") as folder:
        table = str(Path(folder) / "rows.arrow")
        with ArrowWriter(path=table, features=features) as writer:
            for start in range(0, len(cache), cache.block_rows):
                rows = np.arange(start, min(start + cache.block_rows, len(cache)))
                cache.verify(rows)
                writer.write_batch(_columns(cache, rows))
                watch((rows[-1] + 1) / len(cache))
            writer.finalize()
        made: Any = Dataset.from_file(table)
        made.save_to_disk(Path(folder) / "saved")
        (Path(folder) / "saved").rename(out)


def _columns(cache: FeatureCache, rows: NDArray[np.intp]) -> dict[str, Any]:
    maps, labels = cache[rows]
    flat = maps.reshape(len(rows), -1) if maps.shape[2:] == (1, 1) else maps
    columns: dict[str, Any] = {"features": flat.astype(np.float32, copy=False)}
    if cache.multi_label:
        columns["labels"] = [np.flatnonzero(row == 1).tolist() for row in labels]
        columns["not_counted"] = [np.flatnonzero(row < 0).tolist() for row in labels]
    else:
        columns["label"] = labels
    return columns | {"path": [*cache.paths[rows[0] : rows[-1] + 1]]}
