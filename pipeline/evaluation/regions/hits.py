"""Do regions of attention lie on objects? How often a centre falls into a box, against random windows.

For each image and each class that is predicted (logit above 0) and present, and whose boxes are known: is
the centre of at least one of the image's regions in one of the boxes? Some would be by luck. So the same is
asked of windows as large as the regions, as many, each placed uniformly where it fits into the image; one
larger than the image is centred. A region that sees the whole image has its centre where its window has it,
and gains nothing.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.regions.geometry import BoxArray
from pipeline.evaluation.regions.images import Images
from pipeline.evaluation.regions.look import Looked
from pipeline.progress import over


class Regions(NamedTuple):
    """One image: where the head looked, and where the objects are, in the same pixels."""

    size: tuple[int, int]  # (height, width)
    looked: BoxArray  # (R, 4) x0, y0, x1, y1
    objects: NDArray[np.floating]  # (n, 5) class, x0, y0, x1, y1
    asked: NDArray[np.integer]  # classes that are predicted and present


class HitRate(NamedTuple):
    """Per cent of the (image, class) pairs."""

    hits: float
    chance: float
    pairs: int

    def __str__(self) -> str:
        if not self.pairs:
            return "no object that is there was predicted, so there is no rate of regions on objects"
        return (
            f"a region lies on {self.hits:.1f} % of {self.pairs:,} predicted objects, "
            f"random windows on {self.chance:.1f} %"
        )


def rate(looked: Looked, images: Images) -> HitRate | None:
    """The hit rate of the shown crop's regions on predicted objects; None without boxes."""
    predicted, found = (looked.logits > 0) & looked.present, []
    for row, path in enumerate(over(looked.paths, "looking at regions", "images")):
        objects = images.boxes(path, looked.classes)
        if objects is None:
            return None
        regions = looked.on_image(row, images.size(path))[looked.crop]
        found.append(Regions(images.size(path), regions, objects, np.flatnonzero(predicted[row])))
    return hit_rate(found, draws=200)


def hit_rate(images: Iterable[Regions], *, draws: int = 1000, seed: int = 0) -> HitRate:
    """Share of pairs whose object some region's centre lies on, and the same of random windows, averaged over
    `draws` placements. NaN when there are no pairs. The same seed gives the same windows.
    """
    rng = np.random.default_rng(seed)
    hits, chances = [], []
    for image in images:
        centres = (image.looked[:, :2] + image.looked[:, 2:]) / 2
        windows = random_centres(image.looked, image.size, draws, rng)
        for label in image.asked:
            boxes = image.objects[image.objects[:, 0] == label, 1:]
            if len(boxes):
                hits.append(any_inside(centres, boxes))
                chances.append(any_inside(windows, boxes).mean())
    if not hits:
        return HitRate(float("nan"), float("nan"), 0)
    return HitRate(100 * float(np.mean(hits)), 100 * float(np.mean(chances)), len(hits))


def any_inside(points: BoxArray, boxes: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Whether one of the points (..., R, 2) lies in one of the boxes (n, 4)."""
    x, y = points[..., None, 0], points[..., None, 1]
    inside = (boxes[:, 0] <= x) & (x < boxes[:, 2]) & (boxes[:, 1] <= y) & (y < boxes[:, 3])
    return np.asarray(inside.any((-2, -1)))


def random_centres(looked: BoxArray, size: tuple[int, int], draws: int, rng: np.random.Generator) -> BoxArray:
    """Centres x, y of windows with these boxes' sizes, uniform where they fit, (draws, R, 2)."""
    sides = np.minimum(looked[:, 2:] - looked[:, :2], size[::-1])
    free = np.array(size[::-1]) - sides
    return sides / 2 + free * rng.random((draws, *free.shape))
