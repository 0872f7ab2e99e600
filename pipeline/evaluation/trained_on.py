"""Test images that a head has seen in training: known by the digests of their files, whatever their names."""

import hashlib

import numpy as np

from cache import FeatureCache
from pipeline.datasets.holdout import Rows, select_classes
from pipeline.errors import RunError
from pipeline.evaluation.contents import content_keys
from pipeline.evaluation.logits import Subject
from pipeline.maps.parts import own_rows, split

ADVICE = "score other images, or add --allow-trained-on to score them all the same"


def trained_on(subject: Subject, allowed: bool) -> int | None:
    """How many of the test images were among those that the head was given, to train or to validate on; None
    where the training cache isn't there any more, of which a line is printed.

    Raises: RunError when there are some, or the whole split is the one for training, and that isn't allowed.
    """
    test, loaded, folder = subject.test, subject.loaded, subject.folder
    own = (test.key, test.images_digest) == (loaded.cache_key, loaded.cache_images)
    if not allowed and (own or test.identity.get("split") == "train"):
        raise RunError(f"{test.path}: expected a test split, found the split for training; {ADVICE}")
    if subject.training is None:
        print(
            f"not checked whether {folder} was trained on test images: its training cache isn't found; "
            "--cache can name its folder"
        )
        return None
    seen = np.isin(subject.contents, content_keys(subject.training, rows_given(subject, subject.training)))
    if count := int(seen.sum()):
        path = subject.paths[int(seen.argmax())]
        problem = (
            f"{count:,} of {len(seen):,} test images are among those that {folder} was trained or validated "
            f"on, {path} is the first"
        )
        if not allowed:
            raise RunError(f"{test.path}: {problem}; {ADVICE}")
        print(problem)
    return count


def rows_given(subject: Subject, training: FeatureCache) -> Rows:
    """The rows of its cache that a head was given: of the classes it knows, as many as --per-class drew. All
    rows where the cache has other labels by now, for then nobody knows which were drawn.
    """
    config, labels = subject.loaded.config, training.labels
    if subject.labels_sha256 != hashlib.sha256(labels.data).hexdigest():
        return np.arange(len(labels))
    if not config.per_class:
        return select_classes(labels, training.classes, config.classes)[0]
    parts = split(
        labels,
        training.classes,
        classes=config.classes,
        per_class=config.per_class,
        val_fraction=config.val_fraction,
        data_seed=config.data_seed,
        own=own_rows(training.identity),
    )
    return np.concatenate([part.rows for part in parts])
