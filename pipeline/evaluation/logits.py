"""A head's logits on the test split, image by image.

    run folder + CACHE/test.h5 → Predictions

Maps are read in batches, so memory does not grow with the cache. The trunk is not loaded.
"""

import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from cache import CacheError, FeatureCache, Paths, StaleCacheError, split_path
from cache.identity import differences, with_flags
from pipeline.datasets.holdout import Rows, select_classes
from pipeline.device import pick_device
from pipeline.errors import RunError
from pipeline.evaluation.scored import Predictions
from pipeline.extraction.identity import FLAGS
from pipeline.maps.contents import content_keys
from pipeline.maps.likeness import comparable
from pipeline.maps.stored import decoded, to_tensor
from pipeline.progress import over
from pipeline.runs.find_cache import TEST, TRAIN, find_cache
from pipeline.runs.folder import LoadedHead, load_head
from pipeline.runs.layout import read_config
from pipeline.runs.local_cache import local_folder
from pipeline.wording import shown, slug, some


class Subject(NamedTuple):
    """A trained head and the test images it is evaluated on, in the order of the cache's rows."""

    folder: Path
    loaded: LoadedHead
    labels_sha256: str  # of all images in the training cache, when the head was trained
    training: FeatureCache | None  # if it is still there
    is_own: bool  # whether `test` lies beside that, or where the run's cache was
    test: FeatureCache
    rows: Rows  # (N,)
    labels: NDArray[np.integer]  # as in `Predictions`

    @property
    def paths(self) -> Paths:
        """N, of the images."""
        return self.test.paths.take(self.rows)

    @property
    def contents(self) -> NDArray[np.void]:
        """(N,) of 16 bytes, equal where images are the same."""
        return content_keys(self.test, self.rows)

    @property
    def cache(self) -> dict[str, str]:
        """The cache that is scored on, for the files of an evaluation."""
        path = os.path.realpath(self.test.path)
        return {"path": path, "key": self.test.key, "images": self.test.images_digest}

    @property
    def out(self) -> Path:
        """Where an evaluation goes: RUN/eval on the run's own cache, else RUN/eval-NAME-DIGEST, so that no
        other cache's is replaced.
        """
        if self.is_own:
            return self.folder / "eval"
        digest = hashlib.sha256(f"{self.test.key}{self.test.images_digest}".encode()).hexdigest()
        return self.folder / f"eval-{slug(self.test.path.resolve().parent.name)}-{digest[:8]}"

    def batches(self, size: int) -> Iterator[Tensor]:
        """float32 maps (B, V, C, H, W) on the head's device, of its V views; B is at most `size`, less where
        a head holds several crops of each image. Raises: CacheError when a block of the cache is damaged.
        """
        size = self.loaded.head.share_of(size)
        for start in over(range(0, len(self.rows), size), "scoring", "batches"):
            yield maps_for(self.loaded, self.test, self.rows[start : start + size])


def score_run(folder: Path, *, device: str = "auto") -> Predictions:
    """Score the test images of a head's own cache. Raises: what `open_run` and `score_images` raise."""
    return score_images(open_run(folder, device=device))


def score_images(subject: Subject, batch: int = 500) -> Predictions:
    """Score a head's test images, `batch` in a forward pass. Raises: RunError when its head diverged."""
    loaded, folder = subject.loaded, subject.folder
    logits, done = np.empty((len(subject.rows), len(loaded.classes)), np.float32), 0
    for maps in subject.batches(batch):
        logits[done : done + len(maps)] = loaded.logits(maps).float().cpu().numpy()
        done += len(maps)
    diverged = np.flatnonzero(~np.isfinite(logits).all(1))
    if len(diverged):
        raise RunError(
            f"{folder}: the logits of test image {diverged[0]} are not finite: the head diverged; "
            "train it again with a smaller --lr and another --out"
        )
    classes = np.array(loaded.classes)
    return Predictions(logits, subject.labels, subject.paths, classes, subject.contents)


def open_run(
    folder: Path, cache: str | None = None, device: str = "auto", stage: str | None = None
) -> Subject:
    """A run's head, and the test images of its classes. Where images have several labels, all of them: that
    an image has none of the classes is an answer too. `stage`: a folder for copies of the cache.

    Raises: RunError when there is no finished run or the cache lacks its classes; StaleCacheError naming what
    was made otherwise than the training maps; CacheError, ConfigError, WeightsError.
    """
    loaded = load_head(folder, pick_device(device))
    described = read_config(folder, "train")
    trained_on = identity_in(described, folder)
    cache = local_folder(folder, cache, stage)
    found = find_cache(folder, cache)
    if not cache and found.folder is None:
        raise CacheError(
            f"{folder}: its cache, key {loaded.cache_key[:12]}, isn't found; name its folder with --cache; "
            f"looked at {', '.join(found.looked)}"
        )
    path = split_path(cache or str(found.folder), TEST)
    if not path.exists() and not path.with_name("test.h5.part").exists():
        raise CacheError(
            f"{path}: no such file; extract_features.py --cache {path.parent} makes it, with the --dataset, "
            "--trunk, --views and --dtype that made train.h5; if it lies elsewhere, --cache names its folder"
        )
    if found.training and found.folder and found.training.path != (now := split_path(found.folder, TRAIN)):
        print(
            f"{folder}: trained on the {len(found.training):,} images of {found.training.path}, before that "
            f"grew to the {len(FeatureCache(now)):,} of {now.name}"
        )
    test = FeatureCache(path)
    refuse_other_maps(test, trained_on, folder)
    labels_sha256 = str(described.get("labels_sha256"))
    is_own = found.folder is not None and found.folder.resolve() == path.parent.resolve()
    is_own = is_own and (found.training is not None or not cache)
    rows, labels = rows_of(test, loaded.classes)
    return Subject(folder, loaded, labels_sha256, found.training, is_own, test, rows, labels)


def identity_in(described: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The identity of the maps that a run's config.json says it was trained on. Raises: RunError."""
    trained_on = described.get("cache_identity")
    if not isinstance(trained_on, dict):
        raise RunError(f"{folder}: config.json doesn't say what the head was trained on; train it again")
    return trained_on


def maps_for(loaded: LoadedHead, cache: FeatureCache, rows: Rows) -> Tensor:
    """float32 maps (B, V, C, H, W) of some rows, on the head's device, of its V views.

    Raises: CacheError when a block of the cache is damaged.
    """
    cache.verify(rows)
    maps = to_tensor(cache.take(rows, slice(loaded.head.views)), cache.dtype)
    return decoded(maps.to(next(loaded.head.parameters()).device), cache.scales).float()


def refuse_other_maps(cache: FeatureCache, trained_on: dict[str, Any], folder: Path) -> None:
    """Raises: StaleCacheError naming what in a cache was made otherwise than the maps of a run."""
    made = {**cache.identity, "dtype": cache.dtype}
    if fields := differences(comparable(trained_on), comparable(made)):
        raise StaleCacheError(
            f"{cache.path}: made otherwise than the maps that {folder} was trained on: "
            f"{'; '.join(with_flags(fields, FLAGS))}; give a --cache that extract_features.py made like them"
        )


def rows_of(cache: FeatureCache, classes: tuple[str, ...]) -> tuple[Rows, NDArray[np.integer]]:
    """The rows of these classes, ascending, and their labels as positions in `classes`; in a multi-label
    cache every row, and the labels' columns in the order of `classes`. Raises: RunError.
    """
    if missing := [name for name in classes if name not in cache.classes]:
        which = f"class{'es' if len(missing) > 1 else ''} {some(map(repr, missing))}"
        raise RunError(f"{cache.path}: lacks the {which} that the head knows; give another --cache")
    if cache.labels.ndim == 2:
        columns = [cache.classes.index(name) for name in classes]
        return np.arange(len(cache.labels)), cache.labels[:, columns]
    rows, labels = select_classes(cache.labels, cache.classes, classes)
    if not len(rows):
        raise RunError(f"{cache.path}: no image of the head's classes {some(map(shown, classes))}")
    return rows, labels
