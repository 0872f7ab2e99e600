"""`scenes`: a multi-label set made here, offline: one to three handwritten digits among clutter, 64×64 RGB.

Digits are scikit-learn's, enlarged to 22 to 34 px, lighter than what is behind them. The clutter is strokes,
noise, and digits whose quarters have changed places: made of the same strokes, so that what tells a digit
from them is the arrangement, which averaging over the whole map loses. Train and test scenes share no image
of a digit. Digits and clutter hardly overlap.

Nothing is drawn with floating point: places, sizes and colours are integers out of PCG64's raw words, which
numpy keeps from version to version (unlike `Generator.integers`), and Pillow works on bytes in fixed point.
So the pixels depend on scikit-learn's digits and on Pillow, and not on the machine.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from cache import Paths
from pipeline.datasets.base import ArrayReader, Boxes, ImageSplit, SplitName

SIZE = 64
"""Side of a scene in pixels."""
COUNTS: dict[SplitName, int] = {"train": 6000, "test": 1000}
TRAIN_DIGITS = 1347
"""Train scenes show the first three quarters of scikit-learn's 1,797 digits, test scenes the others."""
SEEDS: dict[SplitName, int] = {"train": 2017, "test": 2018}

DIGITS, FALSE_DIGITS, STROKES = (1, 3), (0, 1), (1, 3)
"""Fewest and most of each in a scene, as far as there is room."""
SMALLEST, LARGEST = 22, 34
"""Side in pixels of a digit as it is pasted; its strokes fill less than that."""
OVERLAP = 1000
"""At most one part in this many of the smaller of two boxes is covered by the other."""
VISIBLE = 40
"""Opacity (of 255) from which a pixel belongs to a digit, and to its box."""
CONTRAST = (120, 180)
"""Least and most that a digit, a false one or a stroke is lighter or darker than what is behind it."""
NOISE = 12
"""A pixel's brightness is moved by less than this, up or down."""


class Draws:
    """Random integers out of PCG64's raw 64-bit words."""

    def __init__(self, seed: int) -> None:
        self._bits = np.random.PCG64(seed)
        self._words = self._stream()

    def _stream(self) -> Iterator[int]:
        while True:
            yield from self._bits.random_raw(4096).tolist()

    def below(self, end: int) -> int:
        """One of 0..end − 1."""
        return next(self._words) * end >> 64

    def between(self, low: int, high: int) -> int:
        """One of low..high, both included."""
        return low + self.below(high - low + 1)

    def octets(self, count: int) -> np.ndarray:
        """(count,) uint8, out of words of their own."""
        return self._bits.random_raw(-(-count // 8)).astype("<u8").view(np.uint8)[:count]


class Box(NamedTuple):
    """Pixels, x1 and y1 exclusive."""

    x0: int
    y0: int
    x1: int
    y1: int

    def moved(self, x: int, y: int) -> "Box":
        return Box(self.x0 + x, self.y0 + y, self.x1 + x, self.y1 + y)

    @property
    def area(self) -> int:
        return (self.x1 - self.x0) * (self.y1 - self.y0)

    def hides(self, other: "Box") -> bool:
        """Whether the two overlap by more than is allowed."""
        width = min(self.x1, other.x1) - max(self.x0, other.x0)
        height = min(self.y1, other.y1) - max(self.y0, other.y0)
        return width > 0 and height > 0 and OVERLAP * width * height > min(self.area, other.area)


def load(path: str, test_fraction: float, seed: int) -> dict[str, ImageSplit]:
    """6,000 and 1,000 scenes, always the same; paths are train/0000 and test/0000 and on."""
    from sklearn.datasets import load_digits

    levels, targets = load_digits(return_X_y=True)
    ink_NHW = ((levels.astype(np.int64) * 255 + 8) // 16).astype(np.uint8).reshape(-1, 8, 8)  # levels: 0..16
    rows: dict[SplitName, slice] = {"train": slice(TRAIN_DIGITS), "test": slice(TRAIN_DIGITS, None)}
    return {name: make(name, ink_NHW[at], targets[at].tolist(), COUNTS[name]) for name, at in rows.items()}


def make(name: SplitName, ink_NHW: np.ndarray, digits: Sequence[int], count: int) -> ImageSplit:
    """The first `count` scenes of a split, out of images (n, 8, 8) uint8 of these digits."""
    draws = Draws(SEEDS[name])
    pixels_NHWC = np.empty((count, SIZE, SIZE, 3), np.uint8)
    labels = np.zeros((count, 10), np.int8)
    boxes: list[Boxes] = []
    for row in range(count):
        pixels_NHWC[row], objects = scene(ink_NHW, digits, draws)
        labels[row, objects[:, 0].astype(np.int64)] = 1
        boxes.append(objects)
    return ImageSplit(
        dataset="scenes",
        split=name,
        classes=tuple(str(digit) for digit in range(10)),
        paths=Paths(f"{name}/{row:04}" for row in range(count)),
        sizes=np.full(count, SIZE * SIZE * 3, np.int64),
        labels=labels,
        images=ArrayReader(pixels_NHWC),
        boxes=boxes,
    )


def scene(ink_NHW: np.ndarray, digits: Sequence[int], draws: Draws) -> tuple[np.ndarray, Boxes]:
    """One scene, (SIZE, SIZE, 3) uint8, and its digits."""
    canvas = background(draws)
    taken: list[Box] = []
    shapes: list[tuple[Image.Image, Box, Box]] = []
    objects: list[tuple[int, Box]] = []
    for _ in range(draws.between(*DIGITS)):
        chosen = draws.below(len(ink_NHW))
        if placed := place(ink_NHW[chosen], taken, draws):
            shapes.append(placed)
            objects.append((digits[chosen], placed[2]))
    for _ in range(draws.between(*FALSE_DIGITS)):
        quarters = shuffled(ink_NHW[draws.below(len(ink_NHW))], draws)
        if placed := place(quarters, taken, draws):
            shapes.insert(0, placed)  # behind every digit
    for _ in range(draws.between(*STROKES)):
        stroke(canvas, draws)
    for mask, at, visible in shapes:
        canvas.paste(ink_colour(canvas, visible, draws), at, mask)
    noise_HW = (draws.octets(SIZE * SIZE).reshape(SIZE, SIZE).astype(np.int16) - 128) * NOISE // 128
    pixels_HWC = np.clip(np.asarray(canvas).astype(np.int16) + noise_HW[..., None], 0, 255).astype(np.uint8)
    return pixels_HWC, np.array([(digit, *box) for digit, box in objects], np.float32).reshape(-1, 5)


def background(draws: Draws) -> Image.Image:
    """A grid of two to eight random colours a side, near each other, enlarged: graded, or blotched."""
    side = draws.between(2, 8)
    low, spread = draws.between(10, 60), draws.between(20, 60)
    colours = low + draws.octets(side * side * 3).astype(np.uint16) * spread // 256
    grid = Image.fromarray(colours.astype(np.uint8).reshape(side, side, 3))
    return grid.resize((SIZE, SIZE), Image.Resampling.BICUBIC)


def place(ink_HW: np.ndarray, taken: list[Box], draws: Draws) -> tuple[Image.Image, Box, Box] | None:
    """Enlarge a shape and find room for it, else for a smaller one; the place is added to `taken`.

    Returns its mask, the mask's box, and the box that is seen; None when there is no room.
    """
    ink = Image.fromarray(ink_HW)
    for largest in (LARGEST, (SMALLEST + LARGEST) // 2, SMALLEST):
        size = draws.between(SMALLEST, largest)
        mask = ink.resize((size, size), Image.Resampling.BICUBIC)
        seen = tight_box(np.asarray(mask))
        for _ in range(6):
            x, y = draws.below(SIZE - size + 1), draws.below(SIZE - size + 1)
            visible = seen.moved(x, y)
            if not any(visible.hides(other) for other in taken):
                taken.append(visible)
                return mask, Box(x, y, x + size, y + size), visible
    return None


def tight_box(mask_HW: np.ndarray) -> Box:
    """The box around the pixels that are seen."""
    seen_HW = mask_HW >= VISIBLE
    columns, rows = np.flatnonzero(seen_HW.any(axis=0)), np.flatnonzero(seen_HW.any(axis=1))
    return Box(int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)


def shuffled(ink_HW: np.ndarray, draws: Draws) -> np.ndarray:
    """A digit whose 4×4 quarters have changed places, so that it no longer is one."""
    out_HW = np.empty_like(ink_HW)
    order = _ORDERS[draws.below(len(_ORDERS))]
    for place, quarter in zip(_QUARTERS, order, strict=True):
        out_HW[place] = ink_HW[_QUARTERS[quarter]]
    return out_HW


def stroke(canvas: Image.Image, draws: Draws) -> None:
    """A straight line anywhere, of any of the colours that digits have."""
    ends = [draws.below(SIZE) for _ in range(4)]
    colour = ink_colour(canvas, Box(ends[0], ends[1], ends[0] + 1, ends[1] + 1), draws)
    ImageDraw.Draw(canvas).line(ends, fill=colour, width=draws.between(1, 3))


def ink_colour(canvas: Image.Image, box: Box, draws: Draws) -> tuple[int, int, int]:
    """A colour that stands out against a box's mean, by a little or by much, lighter or darker."""
    behind = canvas.resize((1, 1), Image.Resampling.BOX, box).tobytes()
    contrast = draws.between(*CONTRAST)
    brightness = sum(behind) // 3
    lighter = brightness + contrast <= 255 and (brightness < contrast or draws.below(2) == 1)
    sign = 1 if lighter else -1
    red, green, blue = (
        min(max(value + sign * contrast + draws.between(-20, 20), 0), 255) for value in behind
    )
    return red, green, blue


_QUARTERS = tuple((slice(y, y + 4), slice(x, x + 4)) for y in (0, 4) for x in (0, 4))
_ORDERS = ((1, 2, 3, 0), (1, 3, 0, 2), (2, 0, 3, 1), (2, 3, 1, 0), (3, 0, 1, 2), (3, 2, 0, 1), (3, 2, 1, 0))
"""Orders that leave no quarter in place and don't just swap halves, which makes a 2 of a 5, an 8 of an 8."""
