"""Which TIFF files are shown; the others are named. How they are shown is in tiff.py.

Source: TIFF 6.0; Adobe's technical notes of 1995 and 2002 on compression; the BigTIFF design.
"""

from pipeline.images.directory import JPEG_TABLES, Directory
from pipeline.images.pillow import KindError, check_size

WIDTH, LENGTH, BITS, COMPRESSION, PHOTOMETRIC, FILL_ORDER = 256, 257, 258, 259, 262, 266
STRIPS, BANDS, ROWS_PER_STRIP, STRIP_BYTES, PLANAR, PREDICTOR = 273, 277, 278, 279, 284, 317
COLOUR_MAP, TILE_WIDTH, TILE_LENGTH, TILES, TILE_BYTES = 320, 322, 323, 324, 325
INK_SET, EXTRA_BANDS, SAMPLE_FORMAT = 332, 338, 339
FAX_OPTIONS, YCBCR = (292, 293), (530, 531)
PIXELS = (WIDTH, LENGTH, ROWS_PER_STRIP, STRIPS, STRIP_BYTES, TILE_WIDTH, TILE_LENGTH, TILES, TILE_BYTES)
PIXELS += (BITS, COMPRESSION, PHOTOMETRIC, FILL_ORDER, BANDS, PLANAR, *FAX_OPTIONS, JPEG_TABLES, *YCBCR)
"""The tags that tell pixels, where a compression makes the pixels itself."""

WHITE_IS_0, GREY, RGB, PALETTE, CMYK, YCC = 0, 1, 2, 3, 5, 6
COLOURS = {WHITE_IS_0: 1, GREY: 1, RGB: 3, PALETTE: 1, CMYK: 4, YCC: 3}
"""Bands of colour of each photometric interpretation that is shown."""
CAMERA = "a TIFF of a camera's raw samples"
NOT_SHOWN = {4: "a TIFF that is a mask", 32803: CAMERA, 34892: CAMERA, 32844: "a TIFF in LogL"}
NOT_SHOWN |= {**dict.fromkeys((8, 9, 10), "a TIFF in Lab colours"), 32845: "a TIFF in LogLuv"}

RAW, PACKBITS, JPEG, WEBP = 1, 32773, 7, 50001
PICTURES = {
    **dict.fromkeys((2, 3, 4), (1, (WHITE_IS_0, GREY))),  # fax
    JPEG: (8, (WHITE_IS_0, GREY, RGB, CMYK, YCC)),
    WEBP: (8, (RGB,)),
}
"""Compressions that make the pixels themselves: the bits and the interpretations that are shown."""
PREDICTED = {5: "LZW", 8: "deflate", 32946: "deflate", 34925: "LZMA", 50000: "Zstandard"}
"""Compressions of bytes that may hold the difference of each sample to the last."""
OTHERS = {
    6: "obsolete JPEG",
    34933: "PNG",
    50002: "JPEG XL",
    34712: "JPEG 2000",
    33003: "JPEG 2000",
    33005: "JPEG 2000",
    34887: "LERC",
}
HIGHEST_FIRST, LOWEST_FIRST = 1, 2
"""Order of the bits in a byte."""
NUMBERS = {2: "signed", 3: "floating-point", 5: "complex", 6: "complex"}
"""Formats of samples other than whole numbers from 0 on."""


class Tiff:
    """The first page of a TIFF file: the tags that tell pixels, of a kind that is shown."""

    def __init__(self, data: bytes) -> None:
        """Raises: KindError for a kind that isn't shown; BOMB; ValueError for damaged tags."""
        self.tags = Directory(data)
        self.width, self.height = self.number(WIDTH), self.number(LENGTH)
        if self.width < 1 or self.height < 1:
            raise ValueError(f"{self.width} x {self.height} pixels")
        check_size(self.width, self.height)
        self.bands, self.compression = self.number(BANDS, 1), self.number(COMPRESSION, RAW)
        depths = self.tags.numbers(BITS, (1,))[: max(self.bands, 1)]
        self.bits, self.photometric = depths[0], self.number(PHOTOMETRIC)
        self.planes = self.bands if self.number(PLANAR, 1) == 2 else 1
        self.fill_order = self.number(FILL_ORDER, HIGHEST_FIRST)
        self.predictor = self.number(PREDICTOR, 1) if self.compression in PREDICTED else 1
        self.extra = self.tags.numbers(EXTRA_BANDS)
        kind = self._unknown_samples(depths) or self._unknown_coding() or self._unknown_bands()
        if kind:
            raise KindError(kind)

    def number(self, tag: int, default: int | None = None) -> int:
        """The first number of a tag. Raises: ValueError when it is missing and has no default."""
        values = self.tags.numbers(tag) or (() if default is None else (default,))
        if not values:
            raise ValueError(f"the TIFF tag {tag} is missing")
        return values[0]

    def _unknown_samples(self, depths: tuple[int, ...]) -> str:
        """The file's kind by its samples where it isn't shown, or nothing; so the next two."""
        if len(set(depths)) > 1:
            return f"a TIFF with bands of {', '.join(map(str, depths))} bits"
        formats = [NUMBERS[number] for number in self.tags.numbers(SAMPLE_FORMAT) if number in NUMBERS]
        if formats or not 1 <= self.bits <= 16:
            name = f"{formats[0]} {self.bits}-bit" if formats else f"{self.bits}-bit"
            return f"a TIFF with {name} samples, which have no agreed white"
        return ""

    def _unknown_coding(self) -> str:
        if self.photometric not in COLOURS:
            return NOT_SHOWN.get(self.photometric, f"a TIFF of photometric type {self.photometric}")
        if self.photometric == CMYK and self.number(INK_SET, 1) != 1:
            return "a TIFF of inks other than CMYK"
        if self.compression in PICTURES:
            bits, shown = PICTURES[self.compression]
            if self.bits != bits or self.photometric not in shown or self.planes > 1:
                what = f"{self.bands} bands of {self.bits} bits (photometric type {self.photometric})"
                return f"a TIFF with {what} in compression {self.compression}"
        elif self.fill_order == LOWEST_FIRST and self.compression != RAW:
            return f"a TIFF of reversed bits in compression {self.compression}"
        elif self.compression not in (RAW, PACKBITS, *PREDICTED):
            return f"a TIFF in compression {self.compression} ({OTHERS.get(self.compression, 'unknown')})"
        elif self.photometric == YCC:
            return "a TIFF in YCbCr without JPEG"
        if self.predictor not in (1, 2) or (self.predictor == 2 and self.bits not in (8, 16)):
            return f"a TIFF with predictor {self.predictor} of {self.bits}-bit samples"
        return ""

    def _unknown_bands(self) -> str:
        more = self.bands - COLOURS[self.photometric]
        if more == 0:
            return ""
        name = f"a TIFF with {self.bands} band{'s' * (self.bands != 1)}"
        if more != 1 or self.photometric not in (GREY, RGB) or self.compression in PICTURES:
            return name
        is_known = self.extra in ((1,), (2,)) or (self.photometric == RGB and self.extra in ((), (0,)))
        return "" if is_known else f"{name}, the last of unknown meaning"
