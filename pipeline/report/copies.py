"""Images that are there twice: in both splits, which makes a test score too high, or within one."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from cache import FeatureCache
from pipeline.config import EvaluateConfig
from pipeline.errors import UserError
from pipeline.report.markup import Markup, element, name, scroll
from pipeline.report.pictures import Pictures, missing

if TYPE_CHECKING:
    from pipeline.evaluation.duplicates import Duplicates

PRODUCTS = 1e11
"""Multiplications for which near duplicates are looked for: some seconds of a core."""
MOST_BYTES = 1 << 30
"""Maps that are read for it."""
HEADS = ("images", "of", "the same file", "nearly the same", "with two labels")


class Side(NamedTuple):
    """An image of a pair."""

    split: str
    path: str
    label: str


class Copy(NamedTuple):
    """An image and the one that it is a copy of."""

    one: Side
    other: Side
    cosine: float
    exact: bool

    @property
    def rank(self) -> tuple[bool, bool, bool, float]:
        """Sort key: across splits first, then with two labels, then equal files, then the most alike."""
        same = self.one.split == self.other.split
        return same, self.one.label == self.other.label, not self.exact, -self.cosine


def copies(folder: Path, count: int, pictures: Pictures | None) -> Markup:
    """How many images of a run's cache are there twice, and `count` pairs of them at most. Where it would
    take long to compare maps, equal files alone."""
    return element("section", element("h2", "Duplicates", id="duplicates"), _found(folder, count, pictures))


def _found(folder: Path, count: int, pictures: Pictures | None) -> list[Markup]:
    from pipeline.evaluation.duplicates import both_splits, find_duplicates  # takes a second to import

    cosine = EvaluateConfig().duplicate_cosine
    try:
        caches = both_splits(folder)
        is_soon = _is_soon(list(caches.values()))
        found = find_duplicates(caches, cosine if is_soon else None, folder)
    except (UserError, OSError) as error:
        return [element("p", name(str(error), 400), class_="problem")]
    words = f"Nearly the same are images whose maps have a cosine of {cosine:g} or more. A table of all: "
    if not is_soon:
        words = "Equal files alone: to compare so many maps takes longer than a report may. It is done by "
    command = element("code", f"evaluate.py --run {shlex.quote(str(folder))} --duplicates")
    listed = {splits: _listed(found, splits) for splits in sorted(found.pairs, key=lambda s: s[0] == s[1])}
    rows = [_line(splits, len(found.caches[splits[0]]), own, is_soon) for splits, own in listed.items()]
    head = [element("th", word, scope="col", class_="number" if word != HEADS[0] else None) for word in HEADS]
    table = element("table", element("thead", element("tr", head)), element("tbody", rows))
    parts = [element("p", words, command, class_="muted"), scroll(table, "Images that are there twice")]
    worst = sorted((copy for own in listed.values() for copy in own), key=lambda copy: copy.rank)
    cards = [_card(copy, pictures) for copy in worst[:count]]
    return [*parts, element("ul", cards, class_="gallery pairs")] if cards else parts


def _is_soon(caches: Sequence[FeatureCache]) -> bool:
    """Whether all maps can be compared in some seconds."""
    sizes = [len(cache) for cache in caches]
    pairs = sum(size**2 for size in sizes) / 2 + (sizes[0] * sizes[1] if len(sizes) > 1 else 0)
    read = sum(len(cache) * int(np.prod(cache.shape[2:])) * cache.features.itemsize for cache in caches)
    return pairs * caches[0].shape[2] <= PRODUCTS and read <= MOST_BYTES


def _listed(found: "Duplicates", splits: tuple[str, str]) -> list[Copy]:
    pairs = found.pairs[splits]
    sides = [
        [_side(split, found.caches[split], row) for row in rows.tolist()]
        for split, rows in zip(splits, pairs, strict=False)
    ]
    facts = pairs.cosines.tolist(), pairs.exact.tolist()
    return [Copy(*one) for one in zip(*sides, *facts, strict=True)]


def _side(split: str, cache: FeatureCache, row: int) -> Side:
    label = cache.labels[row]
    own = np.flatnonzero(label == 1) if cache.multi_label else [int(label)]
    return Side(split, cache.paths[row], ", ".join(cache.classes[k] for k in own) or "none")


def _line(splits: tuple[str, str], images: int, found: Sequence[Copy], is_soon: bool) -> Markup:
    split, other = splits
    where = f"twice in {split}" if split == other else f"of {split}, in {other} too"
    exact, two = sum(copy.exact for copy in found), sum(copy.one.label != copy.other.label for copy in found)
    near = f"{len(found) - exact:,}" if is_soon else "–"
    figures = (f"{images:,}", f"{exact:,}", near, f"{two:,}")
    cells = [element("td", figure, class_="number") for figure in figures]
    return element("tr", element("th", where, scope="row"), cells)


def _card(copy: Copy, pictures: Pictures | None) -> Markup:
    sides = (copy.one, copy.other)
    images = [
        pictures.picture(side.path, f"{side.split} image {side.path}") if pictures else missing("no image")
        for side in sides
    ]
    marks = [
        element("b", " in both splits", class_="bad") if copy.one.split != copy.other.split else None,
        element("b", " two labels", class_="bad") if copy.one.label != copy.other.label else None,
    ]
    kind = "the same file" if copy.exact else f"nearly the same, cosine {copy.cosine:.3f}"
    lines = [
        element(
            "p",
            f"{side.split}: ",
            element("b", name(side.label, 60)),
            " ",
            name(side.path, 80),
            class_="path",
        )
        for side in sides
    ]
    alt = f"Enlarge {copy.one.path} and {copy.other.path}"
    return element(
        "li",
        element("button", images, type="button", class_="open pair", aria_label=alt),
        element("div", element("p", kind, marks), lines),
        class_="card",
    )
