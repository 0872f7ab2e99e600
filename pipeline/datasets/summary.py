"""What was found in a split, in a few lines: images of each class, and what may have been misunderstood."""

from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np

from cache import Labels
from pipeline.datasets.base import ImageSplit
from pipeline.datasets.files import alike
from pipeline.wording import shown, some

LISTED = 20
"""Classes up to which all are listed."""
SOME = 5
"""Classes that are listed at either end, if there are more."""


def lines(split: ImageSplit) -> list[str]:
    """Lines to print: files that aren't used, how others were understood, images of each class."""
    own, classes = len(split) - split.val_rows, split.classes
    found = [f"not used: {unused}" for unused in split.ignored]
    found += [*split.remarks, *_twins(classes)] if split.split == "train" else split.remarks
    found.append(f"{split.split}: {_counts(split.labels[:own], classes)}")
    if split.val_rows:
        found.append(f"validation images of its own: {_counts(split.labels[own:], classes)}")
    return found


def _counts(labels: Labels, classes: Sequence[str]) -> str:
    """The number of images in all, of each class or of the smallest and the largest, and without a label."""
    multi_label = labels.ndim == 2
    counts = (labels == 1).sum(0) if multi_label else np.bincount(labels, minlength=len(classes))
    said = f"{len(labels):,} images of {len(classes):,} classes: "
    order = np.argsort(counts, kind="stable")

    def listed(rows: Iterable[int]) -> str:
        return ", ".join(f"{shown(classes[int(row)])} {counts[row]:,}" for row in rows)

    if len(classes) <= LISTED:
        said += listed(range(len(classes)))
    else:
        some_images = order[counts[order] > 0]
        said += f"fewest {listed(some_images[:SOME])}; most {listed(some_images[: -SOME - 1 : -1])}"
        if len(empty := order[counts[order] == 0]):
            said += f"; none of {some((shown(classes[int(row)]) for row in empty), SOME)}"
    if multi_label:
        without, unknown = int((~(labels == 1).any(1)).sum()), int((labels < 0).sum())
        said += f"; {without:,} without a label" if without else ""
        said += f"; {unknown:,} labels not counted" if unknown else ""
    return said


def _twins(classes: Sequence[str]) -> list[str]:
    """A line about names that a person would take for one."""
    groups = defaultdict[str, list[str]](list)
    for name in classes:
        groups[alike(name)].append(repr(name))
    twins = [" and ".join(names) for names in groups.values() if len(names) > 1]
    said = f"classes whose names differ only in case, spaces or Unicode's forms: {some(twins)}"
    return [f"{said}; if one is meant, give it one name"] if twins else []
