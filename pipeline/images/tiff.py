"""TIFF files, their first page. Which kinds are shown is told in tiff_kinds.py.

Pillow, and libtiff in it, unpack strips and tiles to bytes, as if they were 8-bit greys. What the bytes mean
is told here: samples of 1 to 16 bits, in any order of bytes, bands and tiles. Only where a compression makes
the pixels itself (fax, JPEG, WebP) is the rest left to libtiff too.

Legend: H×W pixels, C bands; `white` is the largest value a sample can have.
"""

import io
from typing import NamedTuple

import numpy as np
from PIL import TiffImagePlugin

from pipeline.images import tiff_kinds as tag
from pipeline.images.orientation import asked_by, upright
from pipeline.images.pillow import KindError, check_size, rgb
from pipeline.images.samples import as_rgb, on_white, to_8_bits, unpack
from pipeline.images.tiff_kinds import LOWEST_FIRST, Tiff

NOT_ALPHA, MULTIPLIED, ALPHA = (0,), (1,), (2,)
"""What the file can say of a band that is no colour. Colours may have been multiplied by alpha already."""
REVERSED = np.packbits(np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1)[:, ::-1], axis=1)[:, 0]
"""Each byte with its bits in the other order."""


def read(data: bytes) -> np.ndarray:
    """A TIFF file as (H, W, 3) uint8.

    Raises: KindError for a kind that isn't shown; BOMB; what Pillow raises on damaged files.
    """
    tiff = Tiff(data)
    grid = Grid.of(tiff)
    if tiff.compression in tag.PICTURES:
        _places(tiff, grid, 0, 0)
        pixels = rgb(
            _load(
                tiff.tags.file_with(
                    {name: tiff.tags.numbers(name) for name in tag.PIXELS if name in tiff.tags}
                )
            )
        )
    else:
        pixels = _shown(np.concatenate([_plane(tiff, grid, i) for i in range(tiff.planes)], axis=2), tiff)
    return upright(pixels, asked_by(tiff.tags))


def _shown(samples_HWC: np.ndarray, tiff: Tiff) -> np.ndarray:
    white = 2**tiff.bits - 1
    if tiff.photometric == tag.PALETTE:
        return _palette(tiff)[samples_HWC[..., 0]]
    if tiff.photometric == tag.CMYK:
        light = (white - samples_HWC).astype(np.uint32)
        colours = (light[..., :3] * light[..., 3:] + white // 2) // white
    elif tiff.photometric == tag.WHITE_IS_0:
        colours = white - samples_HWC
    else:
        colours = _without_alpha(samples_HWC, tiff, white)
    return as_rgb(to_8_bits(colours, white))


def _without_alpha(samples_HWC: np.ndarray, tiff: Tiff, white: int) -> np.ndarray:
    """The colours (H, W, 1 or 3), on white where the last band is their alpha."""
    count = tag.COLOURS[tiff.photometric]
    colours, rest = samples_HWC[..., :count], samples_HWC[..., count:]
    if tiff.bands == count or tiff.extra == NOT_ALPHA:
        return colours
    if tiff.extra == ALPHA:
        return on_white(colours, rest, white)
    if tiff.extra == MULTIPLIED:
        return np.minimum(colours.astype(np.uint32) + (white - rest), white)
    if (rest != white).any():  # alpha of one sort or the other, but where it is opaque it doesn't matter
        raise KindError(f"a TIFF with {tiff.bands} bands, the last of unknown meaning")
    return colours


def _palette(tiff: Tiff) -> np.ndarray:
    """(2^bits, 3) uint8. Some write 8-bit values where 16 bits belong, and are understood, as by libtiff."""
    values = np.array(tiff.tags.numbers(tag.COLOUR_MAP))
    if len(values) != 3 << tiff.bits:
        raise ValueError(f"expected a palette of {3 << tiff.bits} numbers, found {len(values)}")
    return to_8_bits(values.reshape(3, -1).T, 65535 if values.max() > 255 else 255)


class Grid(NamedTuple):
    """Strips or tiles, by the pixels of one. A strip is as wide as the image."""

    is_tiled: bool
    width: int
    height: int
    across: int
    down: int

    @classmethod
    def of(cls, tiff: Tiff) -> "Grid":
        is_tiled = tag.TILES in tiff.tags
        width = tiff.number(tag.TILE_WIDTH) if is_tiled else tiff.width
        rows = tiff.number(tag.TILE_LENGTH if is_tiled else tag.ROWS_PER_STRIP, tiff.height)
        height = rows if is_tiled else min(rows, tiff.height)
        if width < 1 or height < 1:
            raise ValueError(f"strips or tiles of {width} x {height} pixels")
        across = -(-tiff.width // width)
        check_size(across * width, max(height, tiff.height))
        return cls(is_tiled, width, height, across, -(-tiff.height // height))


def _plane(tiff: Tiff, grid: Grid, plane: int) -> np.ndarray:
    """(H, W, C) samples of the file, or of one band where each has its own strips or tiles."""
    bands = tiff.bands // tiff.planes
    row_bytes = -(-grid.width * bands * tiff.bits // 8)
    new = {tag.WIDTH: [grid.across * row_bytes], tag.LENGTH: [tiff.height], tag.BITS: [8], tag.BANDS: [1]}
    new |= {tag.COMPRESSION: [tiff.compression], tag.PHOTOMETRIC: [tag.GREY]}
    if grid.is_tiled:
        new |= {tag.TILE_WIDTH: [row_bytes], tag.TILE_LENGTH: [grid.height]}
    else:
        new[tag.ROWS_PER_STRIP] = [grid.height]
    packed = np.asarray(_load(tiff.tags.file_with(new | _places(tiff, grid, plane, row_bytes))))
    if tiff.fill_order == LOWEST_FIRST:
        packed = REVERSED[packed]
    samples = unpack(
        packed.reshape(tiff.height, grid.across, row_bytes), tiff.bits, grid.width * bands, tiff.tags.order
    )
    samples = samples.reshape(tiff.height, grid.across, grid.width, bands)
    if tiff.predictor == 2:
        samples = np.cumsum(samples, axis=2, dtype=samples.dtype)
    return samples.reshape(tiff.height, grid.across * grid.width, bands)[:, : tiff.width]


def _places(tiff: Tiff, grid: Grid, plane: int, row_bytes: int) -> dict[int, list[int]]:
    """Tags for where the plane's strips or tiles are, and their lengths. Raises: ValueError without them."""
    starts, sizes = (tag.TILES, tag.TILE_BYTES) if grid.is_tiled else (tag.STRIPS, tag.STRIP_BYTES)
    count = grid.across * grid.down
    mine = slice(plane * count, (plane + 1) * count)
    offsets, lengths = list(tiff.tags.numbers(starts)[mine]), list(tiff.tags.numbers(sizes)[mine])
    if tiff.compression == tag.RAW:  # known, whatever the file says
        lengths = [grid.height * row_bytes] * len(offsets)
        if not grid.is_tiled and lengths:
            lengths[-1] = (tiff.height - (grid.down - 1) * grid.height) * row_bytes
    whole = [
        at for at, size in zip(offsets, lengths, strict=False) if at and at + size <= len(tiff.tags.data)
    ]
    if len(whole) != count:
        raise ValueError(f"expected {count} strips or tiles, found {len(whole)} whole ones")
    return {starts: offsets, sizes: lengths}


def _load(data: bytes) -> TiffImagePlugin.TiffImageFile:
    image = TiffImagePlugin.TiffImageFile(io.BytesIO(data))
    image.load()
    return image
