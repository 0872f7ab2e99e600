"""Which images a head was given: rows of the cache that it was trained on."""

import hashlib

import numpy as np

from cache import FeatureCache
from pipeline.config import TrainConfig
from pipeline.datasets.holdout import Rows, select_classes
from pipeline.maps.parts import Part, own_rows, split


def rows_given(config: TrainConfig, labels_sha256: str, training: FeatureCache) -> Rows:
    """The rows to train or to validate on: of the classes it knows, as many as --per-class drew. All rows
    where the cache has other labels by now, for then nobody knows which were drawn.
    """
    labels = training.labels
    if labels_sha256 != hashlib.sha256(labels.data).hexdigest():
        return np.arange(len(labels))
    if not config.per_class:
        return select_classes(labels, training.classes, config.classes)[0]
    return np.concatenate([part.rows for part in _parts(config, training)])


def rows_learned(config: TrainConfig, labels_sha256: str, training: FeatureCache) -> Rows:
    """Of these the rows that weights were learned from: not the validation part."""
    if config.folds or labels_sha256 != hashlib.sha256(training.labels.data).hexdigest():
        return rows_given(config, labels_sha256, training)
    return _parts(config, training)[0].rows


def _parts(config: TrainConfig, training: FeatureCache) -> tuple[Part, Part]:
    return split(
        training.labels,
        training.classes,
        classes=config.classes,
        per_class=config.per_class,
        val_fraction=0.0 if config.folds else config.val_fraction,  # as training has it
        data_seed=config.data_seed,
        own=own_rows(training.identity),
    )
