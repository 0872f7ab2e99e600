"""Resize images of many sizes on the device that takes them, to the very pixels that Pillow makes of them.

Legend: B images, H×W the largest part of them, S = image_px, T taps.
"""

import functools
from collections.abc import Iterator, Sequence
from itertools import groupby

import numpy as np
import torch
from torch import Tensor

from pipeline.images.cut import Cut, can_be_cut, cut, taps_of
from pipeline.images.taps import POINT_BITS, Taps, rows_come_first
from pipeline.images.transform import Transform
from pipeline.progress import say

DEVICES = frozenset({"cuda"})
"""Kinds of devices that resize faster than those who decode."""
TOGETHER_PIXELS = 64 * 224**2
"""Pixels of results that are made in one go: few kernels for each image, and some 300 MB of the device."""


class Cuts:
    """Images that a device resizes, in their order; a slice of them is of the same kind."""

    def __init__(self, cuts: Sequence[Cut], transform: Transform) -> None:
        self._cuts, self._transform = cuts, transform

    def __len__(self) -> int:
        return len(self._cuts)

    def __getitem__(self, part: slice) -> "Cuts":
        return Cuts(self._cuts[part], self._transform)

    def on(self, device: torch.device) -> Tensor:
        """The trunk's inputs (N, 3, S, S) uint8."""
        parts = list(self._groups())
        order = np.concatenate([np.array(rows) for rows, _ in parts])
        made = torch.cat([self._made(rows, rows_first, device) for rows, rows_first in parts])
        return made[sent(np.argsort(order), device)]

    def _groups(self) -> Iterator[tuple[list[int], bool | None]]:
        """Rows that are resized together, in the same order of axes and of about the same height."""

        def kind(row: int) -> bool | None:
            size = self._cuts[row].size
            return None if size is None else rows_come_first(*size, self._transform.image_px)

        def key(row: int) -> tuple[str, int]:
            return str(kind(row)), self._cuts[row].pixels.shape[0]

        most = max(1, TOGETHER_PIXELS // self._transform.image_px**2)
        for rows_first, rows in groupby(sorted(range(len(self)), key=key), kind):
            alike = list(rows)
            yield from ((alike[at : at + most], rows_first) for at in range(0, len(alike), most))

    def _made(self, rows: Sequence[int], rows_first: bool | None, device: torch.device) -> Tensor:
        """The inputs of some images that are resized rows first, columns first, or not at all (None)."""
        cuts = [self._cuts[row] for row in rows]
        if rows_first is None:
            return sent(np.stack([image.pixels for image in cuts]), device)
        height, width = (max(image.pixels.shape[axis] for image in cuts) for axis in (0, 1))
        on_gpu = device.type == "cuda"  # which reaches pinned memory by itself
        parts = torch.empty((len(cuts), height, width, 3), dtype=torch.uint8, pin_memory=on_gpu)
        for part, (pixels, _) in zip(parts.numpy(), cuts, strict=True):  # what is beside them has no weight
            part[: pixels.shape[0], : pixels.shape[1]] = pixels
        both = [taps_of(image.size, self._transform) for image in cuts if image.size]
        images = parts.to(device, non_blocking=True)
        for axis in (0, 1) if rows_first else (1, 0):
            images = _resized(images, [pair[axis] for pair in both], axis + 1)
        return images.permute(0, 3, 1, 2).contiguous()


@functools.cache
def resizes(transform: Transform, device: torch.device) -> bool:
    """Whether images are to be resized on a device: it pays, and noise comes out as Pillow makes it."""
    if device.type not in DEVICES or not can_be_cut(transform):
        return False
    side, rng = transform.image_px, np.random.default_rng(0)
    sizes = (side + 9, 2 * side), (2 * side, side + 1), (side, side // 2 + 1)
    images = [rng.integers(0, 256, (*size, 3), np.uint8) for size in sizes]
    found = Cuts([cut(image, transform) for image in images], transform).on(device).cpu().numpy()
    is_same = np.array_equal(found, [transform.apply(image) for image in images])
    if not is_same:
        say(f"images are resized on the CPU, since {device} makes other pixels of them than Pillow does")
    return is_same


def _resized(images: Tensor, taps: Sequence[Taps], axis: int) -> Tensor:
    """Images (B, H, W, 3) uint8 with S pixels on axis 1 or 2."""
    count, most = len(taps), max(tap.weights.shape[1] for tap in taps)
    side = len(taps[0].first)
    table = np.zeros((most, count, side), np.int32)
    for i, tap in enumerate(taps):
        table[: tap.weights.shape[1], i] = tap.weights.T
    form = [count, 1, 1, 1]
    form[axis] = side
    shape = [*images.shape]
    shape[axis] = side
    weights, first = sent(table, images.device), sent(np.stack([tap.first for tap in taps]), images.device)
    total = torch.full(shape, 1 << (POINT_BITS - 1), dtype=torch.int32, device=images.device)
    for i in range(most):  # behind the last pixel, weights are 0
        places = (first + i).clamp(max=images.shape[axis] - 1).view(form).expand(shape)
        total.addcmul_(images.gather(axis, places).int(), weights[i].view(form))
    return (total >> POINT_BITS).clamp_(0, 255).byte()


def sent(numbers: np.ndarray, device: torch.device) -> Tensor:
    """Numbers on a device, on their way there while others are computed."""
    there = torch.from_numpy(numbers)
    return (there.pin_memory() if device.type == "cuda" else there).to(device, non_blocking=True)
