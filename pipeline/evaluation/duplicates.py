"""Images that are there more than once: the same file, or nearly the same picture.

    run folder + CACHE/train, CACHE/test → RUN/duplicates.csv

Equal files have equal digests. Nearly equal pictures have nearly equal maps: averaged over their cells,
without the mean and with one spread in every channel, compared by their cosine. Of each image the nearest one
before it in its split is listed, and of a test image the nearest training image, so that a picture that is
there a thousand times takes a thousand lines and not half a million.
"""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cache import CacheError, FeatureCache, split_path
from pipeline.config import EvaluateConfig
from pipeline.datasets.corrections import escaped, joined
from pipeline.evaluation.logits import refuse_other_maps
from pipeline.files import replacing
from pipeline.maps.contents import content_keys
from pipeline.maps.stored import decoded, to_tensor
from pipeline.progress import Progress
from pipeline.runs.find_cache import TEST, find_cache
from pipeline.runs.local_cache import local_folder

READ, ROWS, COLUMNS = 1024, 2048, 8192
"""Images that are read at once, and the sides of a block of cosines."""
HEADER = (
    *("kind", "cosine", "image", "split", "label"),
    *("other_image", "other_split", "other_label", "same_label"),
)


class Pairs(NamedTuple):
    """Images of one split and the nearest of the other, or before them in the same, (n,) each."""

    rows: NDArray[np.intp]
    others: NDArray[np.intp]
    cosines: NDArray[np.float32]
    exact: NDArray[np.bool_]
    """Whether the files are the same, byte for byte."""


class Duplicates(NamedTuple):
    """What there is more than once in a cache."""

    caches: dict[str, FeatureCache]
    pairs: dict[tuple[str, str], Pairs]
    """By the split of the image and that of the other one: an image of test in train is a leak."""
    file: Path
    """Where the table belongs."""


def duplicates_of(folder: Path, config: EvaluateConfig) -> Duplicates:
    """Look through both splits of a run's cache, or of --cache. Raises: as `both_splits`; CacheError when a
    block is damaged."""
    caches = both_splits(folder, local_folder(folder, config.cache, config.stage))
    return find_duplicates(caches, config.duplicate_cosine, folder / "duplicates.csv")


def both_splits(folder: Path, given: str | None = None) -> dict[str, FeatureCache]:
    """The splits that there are of a run's cache, or of the given one. Raises: CacheError when there is
    neither, StaleCacheError when the splits' maps can't be compared, RunError."""
    place = Path(given) if given else find_cache(folder).folder
    paths = {name: split_path(place, name) for name in ("train", TEST)} if place else {}
    caches = {name: FeatureCache(path) for name, path in paths.items() if path.exists()}
    if not caches:
        where = f"{place}: expected" if place else f"{folder}: its cache isn't found: expected"
        raise CacheError(f"{where} a train or a test split; name its folder with --cache")
    if len(caches) == 2:
        made = {**caches["train"].identity, "dtype": caches["train"].dtype}
        refuse_other_maps(caches[TEST], made, caches["train"].path)
    return caches


def find_duplicates(caches: dict[str, FeatureCache], cosine: float | None, file: Path) -> Duplicates:
    """Find the images of each split that are in it before, and of the last split those that are in the first;
    from a cosine on they are nearly the same; None: the same files alone, for which no map is read.

    Raises: CacheError when a block is damaged.
    """
    keys = {name: content_keys(cache, np.arange(len(cache))) for name, cache in caches.items()}
    names = list(caches)
    wanted = [*((name, name) for name in names), *([(names[1], names[0])] if len(names) > 1 else [])]
    if cosine is None:
        return Duplicates(caches, {(a, b): _copies(keys[a], keys[b], a == b) for a, b in wanted}, file)
    pooled = {name: pooled_maps(cache) for name, cache in caches.items()}
    mean, scale = _moments(next(iter(pooled.values())))
    vectors = {name: _normalised(maps, mean, scale) for name, maps in pooled.items()}
    pairs = {(a, b): _pairs(vectors[a], vectors[b], keys[a], keys[b], a == b, cosine) for a, b in wanted}
    return Duplicates(caches, pairs, file)


def _copies(keys: NDArray[np.void], known_keys: NDArray[np.void], within: bool) -> Pairs:
    """Of each image the first with the same contents."""
    same = _same(keys, known_keys, within)
    rows = np.flatnonzero(same >= 0)
    return Pairs(rows, same[rows], np.ones(len(rows), np.float32), np.ones(len(rows), np.bool_))


def pooled_maps(cache: FeatureCache) -> Tensor:
    """(N, C) float32: each image's map, of its first view, averaged over the cells. Raises: CacheError."""
    found = torch.empty(len(cache), cache.shape[2])
    with Progress(f"reading {cache.path.stem}", len(cache), "images") as progress:
        for start in range(0, len(cache), READ):
            rows = np.arange(start, min(start + READ, len(cache)))
            cache.verify(rows)
            maps = decoded(to_tensor(cache.take(rows), cache.dtype), cache.scales).float()
            found[start : start + READ] = maps.mean((2, 3))
            progress.advance(len(rows))
    return found


def _moments(maps_NC: Tensor) -> tuple[Tensor, Tensor]:
    deviation = maps_NC.std(0, correction=0)
    return maps_NC.mean(0), torch.where(deviation > 0, 1 / deviation, 0.0)


def _normalised(maps_NC: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
    return torch.nn.functional.normalize((maps_NC - mean) * scale)


def _pairs(
    vectors: Tensor,
    known: Tensor,
    keys: NDArray[np.void],
    known_keys: NDArray[np.void],
    within: bool,
    cosine: float,
) -> Pairs:
    """Of each image the first with the same contents, else the nearest; `within`: of those before it."""
    cosines, others = _nearest(vectors, known, within)
    same = _same(keys, known_keys, within)
    exact = same >= 0
    others = np.where(exact, same, others)
    cosines[exact] = 1
    rows = np.flatnonzero(exact | (cosines >= cosine))
    return Pairs(rows, others[rows], cosines[rows], exact[rows])


def _nearest(vectors: Tensor, known: Tensor, within: bool) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
    """(N,) the highest cosine and its place, block by block; -2 where there is none to compare with."""
    best, places = torch.full((len(vectors),), -2.0), torch.zeros(len(vectors), dtype=torch.int64)
    with Progress("comparing images", len(vectors), "images") as progress:
        for start in range(0, len(vectors), ROWS):
            some = vectors[start : start + ROWS]
            own, place = best[start : start + ROWS], places[start : start + ROWS]
            end = start + len(some) if within else len(known)
            for left in range(0, end, COLUMNS):
                found = some @ known[left : min(left + COLUMNS, end)].T
                if within and left + found.shape[1] > start:
                    found.masked_fill_(torch.ones_like(found, dtype=torch.bool).triu(start - left), -2.0)
                high, at = found.max(1)
                better = high > own
                own[better], place[better] = high[better], at[better] + left
            progress.advance(len(some))
    return best.numpy(), places.numpy()


def _same(keys: NDArray[np.void], known: NDArray[np.void], within: bool) -> NDArray[np.intp]:
    """(N,) the first image with the same contents; -1 where there is none, or it is the image itself."""
    numbers = np.unique(np.concatenate([known, keys]), return_inverse=True)[1].reshape(-1)
    first = np.full(numbers.max() + 1, -1)
    first[numbers[: len(known)][::-1]] = np.arange(len(known))[::-1]
    found = first[numbers[len(known) :]]
    return np.where(found == np.arange(len(keys)), -1, found) if within else found


def write_duplicates(found: Duplicates) -> Path:
    """Write the table: leaks first, then by kind and cosine. Raises: OSError naming the file."""
    with replacing(found.file) as part, part.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(HEADER)
        for splits, pairs in sorted(found.pairs.items(), key=lambda item: item[0][0] == item[0][1]):
            writer.writerows(_lines(found, splits, pairs))
    return found.file


def _lines(found: Duplicates, splits: tuple[str, str], pairs: Pairs) -> Iterator[list[str]]:
    for i in np.lexsort([-pairs.cosines, ~pairs.exact]).tolist():
        sides = [(split, int(rows[i])) for split, rows in zip(splits, pairs, strict=False)]
        cells = [(escaped(found.caches[s].paths[row]), s, _label(found.caches[s], row)) for s, row in sides]
        same = "yes" if cells[0][2] == cells[1][2] else "no"
        kind = "exact" if pairs.exact[i] else "near"
        yield [kind, f"{pairs.cosines[i]:.4f}", *cells[0], *cells[1], same]


def _label(cache: FeatureCache, row: int) -> str:
    label = cache.labels[row]
    if not cache.multi_label:
        return escaped(cache.classes[int(label)])
    return escaped(joined([cache.classes[k] for k in np.flatnonzero(label == 1)], cache.classes))


def in_words(found: Duplicates) -> str:
    """A line that counts copies in each split and test images that are training images too."""
    said = []
    for (split, other), pairs in found.pairs.items():
        exact, images = int(pairs.exact.sum()), len(found.caches[split])
        where = f"{split}: " if split == other else f"{split} images that are in {other} too: "
        said.append(f"{where}{exact:,} the same and {len(pairs.rows) - exact:,} nearly, of {images:,}")
    return "duplicates: " + "; ".join(said)
