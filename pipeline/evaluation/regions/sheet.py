"""Images with the regions that a head looked at, as one PNG."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from pipeline.evaluation.plots import save
from pipeline.evaluation.regions.geometry import BoxArray

COLUMNS = 4
SIDE, GAP, TITLE, LINE = 2.8, 0.15, 0.3, 0.13
"""Inches: of an image, between two, for its title, for a line below it."""
AT_MOST = 64
"""Images on a sheet; more can't be looked at, nor saved."""
COLOURS = [to_hex(colour) for colour in colormaps["tab10"].colors]  # pyright: ignore[reportAttributeAccessIssue]


class Picture(NamedTuple):
    """One image of a sheet."""

    title: str
    pixels: np.ndarray  # (H, W, 3) uint8
    regions: BoxArray  # (S, 4) x0, y0, x1, y1 in its pixels
    added: Sequence[Sequence[str]]  # S: names of the classes that each region adds


def contact_sheet(path: Path, pictures: Sequence[Picture]) -> None:
    """Write a PNG: each image with its regions numbered in their order, and below what each of them added.

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
    for number, (x0, y0, x1, y1) in enumerate(picture.regions.tolist(), 1):
        colour = COLOURS[(number - 1) % len(COLOURS)]
        axes.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, edgecolor=colour, linewidth=1.5))
        place = (min(max(x0, 0), width), min(max(y0, 0), height))
        style = {"color": "white", "fontsize": 6, "va": "top"}
        axes.text(*place, str(number), bbox={"facecolor": colour, "pad": 1, "linewidth": 0}, **style)
        text = f"{number}: {', '.join(picture.added[number - 1]) or '–'}"
        below = 0.02 - LINE * number
        axes.annotate(
            text,
            (0, 0),
            (2, 72 * below),
            xycoords="axes fraction",
            textcoords="offset points",
            color=colour,
            fontsize=7,
            parse_math=False,
        )
    axes.set(xlim=(0, width), ylim=(height, 0))
