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

SHARE = 0.6
"""Share of the map's sides that a crop takes: 3 of 5 cells, as in the first ten-crop FullNet, 8 of 14."""


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


def usual_crop(map_cells: tuple[int, int]) -> tuple[int, int]:
    """The crop (height, width) where none is asked for: 0.6 of each side of the map, a cell at least."""
    height, width = (max(1, round(SHARE * side)) for side in map_cells)
    return height, width


def center_box(map_cells: tuple[int, int], crop_cells: tuple[int, int]) -> Box:
    """The centre crop; half a cell is rounded to even, as torchvision does. Sizes are (height, width).

    Raises: ConfigError when the crop is larger than the map.
    """
    (map_height, map_width), (height, width) = map_cells, crop_cells
    if not (1 <= height <= map_height and 1 <= width <= map_width):
        raise ConfigError(
            f"--crop-cells: expected a crop that fits the map of {map_height}×{map_width} cells, "
            f"found {height}×{width}"
        )
    return Box(round((map_height - height) / 2), round((map_width - width) / 2), height, width)


def five_crop_boxes(map_cells: tuple[int, int], crop_cells: tuple[int, int]) -> list[Box]:
    """Four corners, row by row, then the centre. Raises: ConfigError as `center_box`."""
    center = center_box(map_cells, crop_cells)
    down, right = map_cells[0] - center.height, map_cells[1] - center.width
    return [center._replace(top=top, left=left) for top in (0, down) for left in (0, right)] + [center]


def crops_of(kind: str, map_cells: tuple[int, int], crop_cells: tuple[int, int]) -> list[Crop]:
    """The crops that `--crops kind` takes of a map. Raises: ConfigError as `center_box`."""
    if kind == "full":
        return [Crop(Box(0, 0, *map_cells))]
    if kind == "center":
        return [Crop(center_box(map_cells, crop_cells))]
    five = five_crop_boxes(map_cells, crop_cells)
    crops = [Crop(box) for box in five]
    if kind == "ten":
        mirrored = [box._replace(left=map_cells[1] - box.left - box.width) for box in five]
        return crops + [Crop(box, mirrored=True) for box in mirrored]
    return crops + [Crop(box, view=1) for box in five] if kind == "ten-image" else crops
