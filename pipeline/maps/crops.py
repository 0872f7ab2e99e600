"""Crop geometry: which cells of an H×W map each crop takes. Pure integers; knows neither arrays nor heads.

Order and centre rounding are those of `torchvision.transforms.TenCrop`, which crops the map, mirrors the map
and crops again. Here a mirrored crop is given by the cells of the *unmirrored* map that it takes, so that two
crops which are mirror images of each other carry the same box:

    five   top left, top right, bottom left, bottom right, centre
    ten    these, then the five of the mirrored map: (top right, mirrored), (top left, mirrored), ...
    ten-image   the five of view 0, then the five of view 1, the mirrored image's own map
    center, full   one crop
"""

from typing import NamedTuple

from pipeline.errors import ConfigError


class Box(NamedTuple):
    """Cells [top, top+height) × [left, left+width) of a map."""

    top: int
    left: int
    height: int
    width: int


class Crop(NamedTuple):
    """A box of one view's map; `mirrored` when its columns are then reversed."""

    box: Box
    mirrored: bool = False
    view: int = 0


def center_box(map_cells: tuple[int, int], crop_cells: tuple[int, int]) -> Box:
    """The centre crop; half a cell is rounded to even, as torchvision does. Sizes are (height, width)."""
    _check(map_cells, crop_cells)
    (map_height, map_width), (height, width) = map_cells, crop_cells
    return Box(round((map_height - height) / 2), round((map_width - width) / 2), height, width)


def five_crop_boxes(map_cells: tuple[int, int], crop_cells: tuple[int, int]) -> list[Box]:
    """Four corners, row by row, then the centre. Raises: ConfigError when the crop is larger than the map."""
    center = center_box(map_cells, crop_cells)
    down, right = map_cells[0] - center.height, map_cells[1] - center.width
    corners = [(0, 0), (0, right), (down, 0), (down, right)]
    return [Box(top, left, center.height, center.width) for top, left in corners] + [center]


def crops_of(kind: str, map_cells: tuple[int, int], crop_cells: tuple[int, int]) -> list[Crop]:
    """The crops that `--crops kind` takes of a map of `map_cells` (height, width).

    Raises: ConfigError when the crop is larger than the map.
    """
    if kind == "full":
        return [Crop(Box(0, 0, *map_cells))]
    if kind == "center":
        return [Crop(center_box(map_cells, crop_cells))]
    five = [Crop(box) for box in five_crop_boxes(map_cells, crop_cells)]
    if kind == "ten":
        return five + [Crop(_mirrored(crop.box, map_cells[1]), mirrored=True) for crop in five]
    if kind == "ten-image":
        return five + [crop._replace(view=1) for crop in five]
    return five


def _mirrored(box: Box, map_width: int) -> Box:
    """Where a box of the mirrored map lies on the unmirrored one."""
    return box._replace(left=map_width - box.left - box.width)


def _check(map_cells: tuple[int, int], crop_cells: tuple[int, int]) -> None:
    if min(crop_cells) < 1 or crop_cells[0] > map_cells[0] or crop_cells[1] > map_cells[1]:
        crop, cells = ("×".join(map(str, size)) for size in (crop_cells, map_cells))
        raise ConfigError(f"--crop-cells: expected a crop that fits the map of {cells} cells, found {crop}")
