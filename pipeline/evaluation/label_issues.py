"""Images whose label is probably wrong, ranked, as a table that can be corrected and given back.

    run folder with out_of_fold.npy + CACHE/train → RUN/label_issues.csv
    run folder + CACHE/test                       → RUN/label_issues_test.csv

A head that learned from an image says of its label what it was told, so training images are judged by the
heads of the folds that left them out. Test images are judged by the run's own head, which hasn't seen them.
"""

import csv
import hashlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cache import CacheError, Paths
from pipeline.config import EvaluateConfig
from pipeline.datasets.corrections import escaped, joined
from pipeline.errors import RunError
from pipeline.evaluation.logits import open_run, rows_of, score_images
from pipeline.evaluation.trained_on import trained_on
from pipeline.files import replacing
from pipeline.metrics.label_quality import LabelQuality, label_quality
from pipeline.metrics.thresholds import sigmoid
from pipeline.runs.claim import finished
from pipeline.runs.find_cache import find_cache
from pipeline.runs.layout import CONFIG, read_config
from pipeline.runs.local_cache import local_folder
from pipeline.runs.out_of_fold import read_out_of_fold
from pipeline.runs.table import table
from pipeline.wording import shown, some

SHOWN = 5
"""Images, and pairs of classes, that are printed."""
ONE = "image", "label", "suggested", "issue", "score", "p_label", "p_suggested", "given", "split"
SEVERAL = "image", "label", "suggested", "issue", "score", "add", "remove", "given", "split"
"""The columns of the table, of images with one label and with several."""


class Suspects(NamedTuple):
    """Images of a split, in the order of its rows, and what is to be thought of their labels.

    N images, K classes.
    """

    split: str
    paths: Paths  # N
    classes: tuple[str, ...]  # (K,)
    labels: NDArray[np.integer]  # (N,) positions in `classes`; (N, K): 1, 0, or -1 not counted
    probabilities: NDArray[np.float64]  # (N, K)
    quality: LabelQuality
    file: Path
    """Where the table of these belongs."""

    @property
    def order(self) -> NDArray[np.intp]:
        """(N,) all images: those with an issue first, of each kind the most doubtful first."""
        return self.quality.order


def suspects(folder: Path, config: EvaluateConfig) -> Suspects:
    """Judge the labels of a run's training images, or, with --issues-split test, of its test images.

    Raises: RunError when the run has no scores out of fold, or was trained on test images; CacheError when
    its cache isn't found or has other labels by now; StaleCacheError, WeightsError, as `open_run`.
    """
    if config.issues_split == "test":
        subject = open_run(folder, config.cache, config.device, config.stage)
        trained_on(subject, config.allow_trained_on)
        found = score_images(subject, config.batch)
        name = "test" if subject.is_own else subject.out.name.removeprefix("eval-")
        file = folder / f"label_issues_{name}.csv"
        return _judged("test", found.paths, tuple(found.classes.tolist()), found.labels, found.logits, file)
    classes = _classes(folder)
    found = read_out_of_fold(folder, len(classes))
    search = find_cache(folder, local_folder(folder, config.cache, config.stage))
    if (training := search.training) is None:
        raise CacheError(
            f"{folder}: its training cache isn't found; name its folder with --cache; looked at "
            f"{', '.join(search.looked)}"
        )
    known = hashlib.sha256(training.labels.data).hexdigest()
    rows, labels = rows_of(training, classes)
    places = np.searchsorted(rows, found.rows).clip(max=len(rows) - 1)
    if read_config(folder, "train").get("labels_sha256") != known or (rows[places] != found.rows).any():
        raise CacheError(
            f"{training.path}: has other labels than those that {folder} was trained on; train again with "
            "--folds 5 and another --out"
        )
    paths, file = training.paths.take(found.rows), folder / "label_issues.csv"
    return _judged("train", paths, classes, labels[places], found.logits, file)


def _classes(folder: Path) -> tuple[str, ...]:
    """What a finished run's classes are called; its head isn't loaded. Raises: RunError."""
    names = read_config(folder, "train").get("class_names")
    if not finished(folder):
        raise RunError(f"{folder}: the run isn't finished; continue it with train_head.py --resume")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise RunError(f"{folder / CONFIG}: expected the names of classes; train again with another --out")
    return tuple(names)


def _judged(
    split: str,
    paths: Paths,
    classes: tuple[str, ...],
    labels: NDArray[np.integer],
    logits: NDArray[np.float32],
    file: Path,
) -> Suspects:
    if len(classes) < 2 and labels.ndim == 1:
        raise RunError(f"{file.parent}: knows one class alone, so no label can be wrong")
    exact = logits.astype(np.float64)
    if labels.ndim == 2:
        probabilities = sigmoid(exact)
    else:
        shares = np.exp(exact - exact.max(1, keepdims=True))
        probabilities = shares / shares.sum(1, keepdims=True)
    quality = label_quality(probabilities, labels)
    return Suspects(split, paths, classes, labels, probabilities, quality, file)


def write_suspects(found: Suspects) -> Path:
    """Write the table, a line for each image. UTF-8 begins with its mark, without which some spreadsheets
    read other characters. Raises: OSError naming the file."""
    with replacing(found.file) as part, part.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(ONE if found.labels.ndim == 1 else SEVERAL)
        writer.writerows(map(list, _lines(found)))
    return found.file


def _lines(found: Suspects) -> Iterator[tuple[Any, ...]]:
    quality, several = found.quality, found.labels.ndim == 2
    for row in found.order.tolist():
        given = escaped(_text(found, found.labels[row]))
        suggested = escaped(_text(found, quality.suggested[row]))
        first = escaped(found.paths[row]), given, suggested, "yes" if quality.is_issue[row] else "no"
        if several:
            turned = quality.suggested[row] - found.labels[row]
            facts = [escaped(_text(found, turned == sign)) for sign in (1, -1)]
        else:
            columns = found.labels[row], quality.suggested[row]
            facts = [f"{found.probabilities[row, k]:.4f}" for k in columns]
        yield *first, f"{quality.score[row]:.4f}", *facts, given, found.split


def _text(found: Suspects, label: Any) -> str:
    if np.ndim(label) == 0:
        return found.classes[label]
    return joined([found.classes[k] for k in np.flatnonzero(label == 1)], found.classes)


def in_words(found: Suspects) -> str:
    """How many labels are doubtful, between which classes, and the first images."""
    quality, images = found.quality, len(found.labels)
    issues = found.order[: quality.is_issue.sum()]
    by = "heads that didn't learn from them" if found.split == "train" else "the run's head"
    said = f"{found.split}: {len(issues):,} of {images:,} images have a label that is probably wrong, by {by}"
    if not len(issues):
        return said
    pairs = Counter(pair for row in issues.tolist() for pair in _pairs(found, row))
    most = (f"{names} {count:,}" for names, count in pairs.most_common(SHOWN))
    rows = [
        [
            shown(found.paths[row]),
            *(shown(_text(found, which[row])) for which in (found.labels, quality.suggested)),
            f"{quality.score[row]:.3f}",
        ]
        for row in issues[:SHOWN].tolist()
    ]
    listed = table(["image", "label", "suggested", "score"], rows)
    return f"{said}\nmost often: {some(most)}\n{listed}"


def _pairs(found: Suspects, row: int) -> Iterator[str]:
    """What is to become of an image's label, in words."""
    label, suggested = found.labels[row], found.quality.suggested[row]
    if found.labels.ndim == 1:
        yield f"{shown(found.classes[label])} → {shown(found.classes[suggested])}"
        return
    for k in np.flatnonzero(label != suggested):
        yield f"{'without' if label[k] == 1 else 'with'} {shown(found.classes[k])}"
