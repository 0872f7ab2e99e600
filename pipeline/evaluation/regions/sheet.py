"""`evaluate.py --show-regions N`: where a head looked, as a picture of N test images and as JSON of all."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from pipeline.evaluation.logits import Subject
from pipeline.evaluation.plots import COLOURS, save
from pipeline.evaluation.regions.geometry import BoxArray
from pipeline.evaluation.regions.hits import rate
from pipeline.evaluation.regions.images import Images
from pipeline.evaluation.regions.look import Looked, look
from pipeline.files import write_json

UNITS = {
    "cache": "what was scored on: the file, its key, and a digest of its images' contents",
    "regions": "x0, y0, x1, y1 in pixels of the image, per crop and step; they may reach beyond the image",
    "adds": "classes with a score above 0 whose highest score over the shown crop's regions is this region's",
    "hits": "per cent of the predicted and present classes of an image on one of whose boxes the centre of a "
    "region lies",
    "chance": "the same of windows of the regions' sizes, placed at random inside the image",
}
COLUMNS = 4
SIDE, GAP, TITLE, LINE = 2.8, 0.15, 0.3, 0.13
"""Inches: of an image, between two, for its title, for a line below it."""
AT_MOST = 64
"""Images on a sheet; more can't be looked at, nor saved."""


class Picture(NamedTuple):
    """One image of a sheet."""

    title: str
    pixels: np.ndarray  # (H, W, 3) uint8
    regions: BoxArray  # (S, 4) x0, y0, x1, y1 in its pixels
    added: Sequence[Sequence[str]]  # S: names of the classes that each region adds


def show_regions(subject: Subject, sheet: Path, listed: Path, count: int, *, batch: int) -> None:
    """Write a PNG of `count` images and a JSON of all, and print the rate of hits where boxes are known.

    Raises: RunError when the head looks at no regions; DataError, StaleCacheError when its images are gone.
    """
    looked = look(subject, batch)
    images = Images(looked.test)
    rows = np.linspace(0, len(looked.paths) - 1, min(count, len(looked.paths), AT_MOST)).astype(np.int64)
    contact_sheet(sheet, [picture(looked, images, row) for row in np.unique(rows).tolist()])
    facts: dict[str, Any] = {"units": UNITS, "cache": subject.cache, "shown_crop": looked.crop}
    if (found := rate(looked, images)) is not None:
        facts |= found._asdict() if found.pairs else {"pairs": 0}
        print(f"{subject.folder}: {found}")
    facts["images"] = [as_json(looked, images, row) for row in range(len(looked.paths))]
    write_json(listed, facts)


def picture(looked: Looked, images: Images, row: int) -> Picture:
    """A test image with the shown crop's regions."""
    path = looked.paths[row]
    pixels = images.read(path)
    names = [name for name, present in zip(looked.classes, looked.present[row], strict=True) if present]
    boxes = looked.on_image(row, images.size(path))[looked.crop]
    return Picture(f"{path}: {', '.join(names) or '–'}", pixels, boxes, looked.added(row))


def as_json(looked: Looked, images: Images, row: int) -> dict[str, Any]:
    """One image's regions in all crops, and what each region of the shown crop adds."""
    path = looked.paths[row]
    height, width = images.size(path)
    regions = np.round(looked.on_image(row, (height, width)), 2).tolist()
    return {"path": path, "size": [width, height], "adds": looked.added(row), "regions": regions}


def contact_sheet(path: Path, pictures: Sequence[Picture]) -> None:
    """Write a PNG: each image with its regions numbered in their order, and below it what each one added.

    Raises: ValueError on no image, or more than `AT_MOST`.
    """
    if not 0 < len(pictures) <= AT_MOST:
        raise ValueError(f"expected 1 to {AT_MOST} images for a sheet, found {len(pictures)}")
    columns = min(COLUMNS, len(pictures))
    rows = -(-len(pictures) // columns)
    steps = max(len(picture.regions) for picture in pictures)
    width, height = SIDE + GAP, SIDE + TITLE + LINE * (steps + 1)
    figure = Figure(figsize=(columns * width + GAP, rows * height))
    for place, picture in enumerate(pictures):
        row, column = divmod(place, columns)
        left, bottom = GAP + column * width, (rows - row) * height - TITLE - SIDE
        inches = np.array([left, bottom, SIDE, SIDE])
        axes = figure.add_axes(tuple(inches / np.tile(figure.get_size_inches(), 2)), anchor="N")
        _draw(axes, picture)
    save(figure, path)


def _draw(axes: Axes, picture: Picture) -> None:
    height, width, _ = picture.pixels.shape
    axes.set_axis_off()
    axes.imshow(picture.pixels, extent=(0, width, height, 0), interpolation="nearest")
    axes.set_title(picture.title, fontsize=7, parse_math=False)
    regions = zip(picture.regions.tolist(), picture.added, strict=True)
    for number, ((x0, y0, x1, y1), added) in enumerate(regions, 1):
        colour = COLOURS[(number - 1) % len(COLOURS)]
        axes.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, edgecolor=colour, linewidth=1.5))
        place = (min(max(x0, 0), width), min(max(y0, 0), height))
        style = {"color": "white", "fontsize": 6, "va": "top"}
        axes.text(*place, str(number), bbox={"facecolor": colour, "pad": 1, "linewidth": 0}, **style)
        below = {"xycoords": "axes fraction", "textcoords": "offset points", "color": colour, "fontsize": 7}
        points = 72 * (0.02 - LINE * number)
        axes.annotate(f"{number}: {', '.join(added) or '–'}", (0, 0), (2, points), parse_math=False, **below)
    axes.set(xlim=(0, width), ylim=(height, 0))
