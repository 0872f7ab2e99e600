"""The places of recurrent attention's regions on an image. Pure geometry of arrays; knows no head.

A region (sx, sy, tx, ty) is given in coordinates of a crop of the map, from -1 at the centre of its first
cell to 1 at that of its last. Its box goes half a cell beyond the outermost points on each side, so that
(1, 1, 0, 0) is the whole crop, and a region without extent one cell. A negative scale samples the same box
mirrored. Cells share the trunk's input evenly; a cell's receptive field beyond its share is not part of the
box.

Shapes: N crops, S regions each, any leading axes. Boxes are x0, y0, x1, y1, the last two exclusive; they may
reach beyond the image.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.maps.crops import Crop

BoxArray = NDArray[np.float64]


def region_boxes(
    theta_NS4: ArrayLike, crops: Sequence[Crop], map_cells: tuple[int, int], image_px: int
) -> BoxArray:
    """Boxes of these crops' regions, (..., N, S, 4), in pixels of the trunk's input (image_px × image_px).

    Args:
        map_cells: (height, width) of the maps that the crops are taken of.

    Crops of view 1, the mirrored image, are turned back.
    """
    sx, sy, tx, ty = np.moveaxis(np.asarray(theta_NS4, np.float64), -1, 0)
    tops, lefts, heights, widths = (
        np.array([crop.box[i] for crop in crops], np.float64)[:, None] for i in range(4)
    )
    flipped = np.array([crop.mirrored for crop in crops])[:, None]
    mirrored = np.array([crop.view == 1 for crop in crops])[:, None]
    half_x, half_y = np.abs(sx) * (widths - 1) / 2 + 0.5, np.abs(sy) * (heights - 1) / 2 + 0.5
    x, y = tx * (widths - 1) / 2 + widths / 2, ty * (heights - 1) / 2 + heights / 2  # cells of the crop
    x, y = lefts + np.where(flipped, widths - x, x), tops + y  # of the map
    x = np.where(mirrored, map_cells[1] - x, x)
    boxes = np.stack([x - half_x, y - half_y, x + half_x, y + half_y], axis=-1)
    return boxes * image_px / np.array([map_cells[1], map_cells[0]] * 2)


def to_image(boxes: BoxArray, resize: str, image_px: int, size: tuple[int, int]) -> BoxArray:
    """Move boxes (..., 4) from the trunk's input to the decoded image of `size` (height, width), in pixels:
    the inverse of what `Transform.apply` does.
    """
    height, width = size
    if resize == "squash":
        return boxes * np.array([width, height] * 2) / image_px
    short = min(height, width)
    return boxes * short / image_px + np.array([(width - short) / 2, (height - short) / 2] * 2)
