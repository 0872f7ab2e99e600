"""Predict the classes of photos, or of a cache's images.

photos → decode → trunk → head → table on the screen, and --out, row by row
CACHE/test.h5 ─────────────┘
"""

import hashlib
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cache import FeatureCache, Paths
from pipeline.config import PredictConfig
from pipeline.datasets.base import ImageSplit
from pipeline.datasets.unlabelled import photos
from pipeline.errors import DataError
from pipeline.evaluation.logits import identity_in, refuse_other_maps
from pipeline.images.pillow import hush
from pipeline.images.pool import Decoders
from pipeline.prediction.growing import GrowingFile
from pipeline.prediction.predictor import Predictor
from pipeline.prediction.scorer import Piece, score_photos, score_rows
from pipeline.prediction.screen import Screen
from pipeline.prediction.table import ROWS
from pipeline.progress import speed
from pipeline.runs.find_cache import TEST
from pipeline.runs.folder import HEAD
from pipeline.runs.local_cache import local_split
from pipeline.runs.thresholds import UNCHOSEN
from pipeline.wording import flag, one_of, shown

TOP_K = 3
"""Classes that are shown where --top-k isn't given."""
MAPS = 500
"""Maps in a forward pass of a cache's."""


class Source(NamedTuple):
    """Images to predict on, in order."""

    paths: Paths
    digest: str
    """Of the images, as far as it takes no reading."""
    pieces: Callable[[int], Generator[Piece]]
    """Their logits from a row on."""


def predict(config: PredictConfig) -> Path | None:
    """Print predictions and write them to --out; gives that file, or None.

    Images that can't be decoded are named on the standard error, and have a row with the reason.

    Raises: ConfigError, RunError, CacheError, StaleCacheError, WeightsError; DataError when there is no image
        at all, or none that can be decoded.
    """
    refuse_unread(config)
    out = Path(config.out) if config.out else None
    split = photos(config.images) if config.images else None
    with ExitStack() as stack:
        # First of all, so that processes start while the trunk and the device do.
        decoders = stack.enter_context(Decoders([split] if split else [], config.decoders))
        run = Predictor(Path(config.run), config.device, config.weights, config.trunk)
        if config.threshold is not None:
            if not run.multi_label:
                raise config.refused(
                    "threshold", f"has no effect: {run.folder} has one class per image; leave it out"
                )
            run.thresholds, run.unchosen = np.full(len(run.classes), config.threshold), 0
        source = of_photos(run, split, decoders, config.batch) if split else of_cache(run, config)
        file = stack.enter_context(grown(config, out, run, source)) if out else None
        if file and file.is_finished:
            print(f"{out}: up to date, {file.done:,} images")
            return out
        announce(run, split, source, file)
        run_through(config, run, source, file)
    if out:
        print(out)
    return out


def refuse_unread(config: PredictConfig) -> None:
    """Raises: ConfigError when there is nothing to predict on, or a setting has no effect."""
    if not (config.images or config.cache):
        raise config.refused(
            "images", "expected photos, a folder of them or a pattern, found none; name them"
        )
    unread = ("images", "weights", "trunk", "decoders") if config.cache else ()
    for name in unread:
        if getattr(config, name):
            raise config.refused(name, f"has no effect beside {flag('cache')}; leave one of them out")
    if config.stage and not config.cache:
        raise config.refused("stage", f"has no effect without {flag('cache')}; leave it out")
    if config.out and Path(config.out).suffix not in ROWS:
        raise config.refused("out", one_of((f"FILE{suffix}" for suffix in ROWS), config.out))


def of_photos(run: Predictor, split: ImageSplit, decoders: Decoders, batch: int | None) -> Source:
    """Photos, by way of the trunk."""
    hush()
    digest = hashlib.sha256(split.paths.data + split.sizes.astype("<i8").tobytes()).hexdigest()
    return Source(
        split.paths, digest, lambda start: score_photos(run.scorer, split, decoders, start=start, batch=batch)
    )


def of_cache(run: Predictor, config: PredictConfig) -> Source:
    """A cache's images. Raises: CacheError; StaleCacheError when its maps were made unlike the run's."""
    cache = FeatureCache(local_split(str(config.cache), config.stage, TEST))
    refuse_other_maps(cache, identity_in(run.described, run.folder), run.folder)
    batch = config.batch or MAPS
    return Source(
        cache.paths,
        f"{cache.key} {cache.images_digest}",
        lambda start: score_rows(run.head, cache, start=start, batch=batch),
    )


def grown(config: PredictConfig, out: Path, run: Predictor, source: Source) -> GrowingFile:
    """The file of all predictions."""
    with open(run.folder / HEAD, "rb") as head:
        digest = hashlib.file_digest(head, "sha256").hexdigest()
    about: dict[str, Any] = {"run": digest, "images": source.digest, flag("top_k"): config.top_k}
    if run.thresholds is not None:
        about["thresholds"] = run.thresholds.tolist()
    return GrowingFile(out, about, len(source.paths))


def announce(run: Predictor, split: ImageSplit | None, source: Source, file: GrowingFile | None) -> None:
    """Print what will be done."""
    for line in split.ignored if split else ():
        print(f"not used in {line}")
    if run.unchosen:
        print(
            f"{run.unchosen} of {len(run.classes)} classes had no validation images to choose a threshold "
            f"by: {UNCHOSEN} is taken for them; {flag('threshold')} gives another for all"
        )
    there = f", {file.done:,} of them done" if file and file.done else ""
    print(f"{len(source.paths):,} images, {len(run.classes):,} classes, {run.folder} on {run.device}{there}")


def run_through(config: PredictConfig, run: Predictor, source: Source, file: GrowingFile | None) -> None:
    """Score what is missing, show it and write it. Raises: DataError when no image can be decoded."""
    rows = ROWS[file.path.suffix](run.classes, run.multi_label, config.top_k) if file else None
    screen, start = Screen(config.show, config.top_k or TOP_K), file.done if file else 0
    if file and rows and not start:
        file.add(rows.header, 0)
    with closing(source.pieces(start)) as pieces:
        started = time.perf_counter()  # the trunk is there
        for piece in pieces:
            paths = list(source.paths.take(piece.rows))
            bad = {row - piece.rows.start: reason for row, reason in piece.bad.items()}
            found = run.predicted(piece.logits)
            screen.add(paths, found, bad)
            if file and rows:
                file.add(rows.rows(paths, found, bad), len(paths), len(bad))
    screen.end(run.multi_label)
    seconds = time.perf_counter() - started
    if not screen.images and screen.bad == len(source.paths):
        path = shown(source.paths[0])
        raise DataError(f"{path}: expected images that can be decoded, found none; look at those named above")
    if len(source.paths) > 1:
        print(
            f"{screen.summary()}; {seconds:.1f} s, {speed((len(source.paths) - start) / seconds, 'images')}"
        )
