"""What evaluate.py kept of a run in RUN/eval/predictions.npz, read with suspicion: no pickles, nothing that
is larger than the file, no array of another shape or kind than evaluate.py writes.
"""

import io
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cache import Paths
from pipeline.errors import RunError
from pipeline.evaluation.scored import Predictions
from pipeline.files import read_bytes
from pipeline.report.collect import own
from pipeline.runs.ledger import Entry

PREDICTIONS = "eval/predictions.npz"
LARGEST = 1 << 32
"""Bytes of a file of predictions that are read: a million images of 1,000 classes."""


def read_kept(folder: Path) -> Predictions:
    """The predictions of a run's own evaluation. Raises: RunError when they are missing or damaged."""
    path = own(folder, PREDICTIONS)
    try:
        found = _predictions(read_bytes(path, LARGEST))
    except (ValueError, KeyError, EOFError, MemoryError, zipfile.BadZipFile, OverflowError) as error:
        raise RunError(f"{path}: can't be read ({error}); evaluate.py makes it again") from error
    return found


def _predictions(data: bytes) -> Predictions:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        files = archive.infolist()
        if any(file.compress_type != zipfile.ZIP_STORED for file in files):
            raise ValueError("expected arrays that are not compressed")
        if sum(file.file_size for file in files) > len(data):
            raise ValueError("expected arrays no larger than the file")
    with np.load(io.BytesIO(data), allow_pickle=False) as file:
        logits, labels, classes = (file[name] for name in ("logits", "labels", "classes"))
        digests = np.ascontiguousarray(file["image_digests"])
        paths = Paths.stored(file["paths"].tobytes())
    images, count = logits.shape
    if logits.dtype != np.float32 or not images or not np.isfinite(logits).all():
        raise ValueError("expected finite float32 logits")
    if classes.shape != (count,) or classes.dtype.kind != "U" or len(paths) != images:
        raise ValueError(f"expected {count} classes and {images} paths")
    if digests.shape != (images, 16) or digests.dtype != np.uint8:
        raise ValueError(f"expected {images} digests of images")
    _check_labels(labels, images, count)
    return Predictions(logits, labels, paths, classes, digests.view("V16")[:, 0])


def _check_labels(labels: NDArray[np.integer], images: int, count: int) -> None:
    ends = (-1, 1) if labels.ndim == 2 else (0, count - 1)
    if labels.shape not in ((images,), (images, count)) or labels.dtype.kind != "i":
        raise ValueError(f"expected labels of {images} images")
    if labels.min() < ends[0] or labels.max() > ends[1]:
        raise ValueError(f"expected labels from {ends[0]} to {ends[1]}")


def has_kept(entry: Entry) -> bool:
    """Whether a run was evaluated on its own test split."""
    return entry.state == "finished" and (entry.folder / PREDICTIONS).is_file()
