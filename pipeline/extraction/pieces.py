"""Pieces of blocks: as much as is decoded, computed and written at once, and what it takes in memory."""

import math
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from cache import CacheWriter
from pipeline.datasets.base import ImageSplit
from pipeline.images.blocks import decode_blocks, decode_cuts
from pipeline.images.cut import LARGEST, Cut
from pipeline.images.on_device import resizes
from pipeline.images.pool import Decoders
from pipeline.images.transform import Transform
from pipeline.trunks.prepare import PreparedTrunk

PIECE_BYTES = 256 << 20
"""Images and maps of a piece take at most so many bytes, unless that is less than a batch for each stream, or
than one batch of cuts."""
Decode = Callable[
    [ImageSplit, Sequence[range], Transform, Decoders],
    Generator[tuple[range, np.ndarray | list[Cut], np.ndarray]],
]
"""`decode_blocks` or `decode_cuts`."""


class Memory(NamedTuple):
    """Memory for the maps of a piece, of each layer."""

    shapes: list[tuple[int, ...]]
    kind: torch.dtype
    pinned: bool
    """A GPU reaches pinned memory by itself."""

    @classmethod
    def of(cls, writers: Sequence[CacheWriter], prepared: PreparedTrunk) -> "Memory":
        """The memory for maps that these write."""
        halve = torch.float16 in (prepared.dtype, getattr(torch, writers[0].header.dtype))
        kind = torch.float16 if halve else torch.float32  # numpy has no bfloat16
        return cls([writer.header.shape[1:] for writer in writers], kind, prepared.device.type == "cuda")

    @property
    def row_bytes(self) -> int:
        """Bytes of an image's maps."""
        return sum(map(math.prod, self.shapes)) * self.kind.itemsize

    def maps(self, rows: int) -> list[Tensor]:
        """Room for so many images' maps of each layer."""
        return [torch.empty(rows, *shape, dtype=self.kind, pin_memory=self.pinned) for shape in self.shapes]


def pieces_of(
    blocks: Iterable[range], prepared: PreparedTrunk, memory: Memory, streams: int, step: int
) -> tuple[list[range], Decode]:
    """The pieces of all blocks, and what decodes them. `step`: images of a batch."""
    pixels, least, decode = 3 * prepared.transform.image_px**2, streams, decode_blocks
    if resizes(prepared.transform, prepared.device):
        pixels, least, decode = LARGEST * pixels, 1, decode_cuts
    return cut(blocks, max(PIECE_BYTES // (memory.row_bytes + pixels) // step, least) * step), decode


def cut(blocks: Iterable[range], rows: int) -> list[range]:
    """Pieces of at most so many rows, none of which spans two blocks."""
    return [block[at : at + rows] for block in blocks for at in range(0, len(block), rows)]
