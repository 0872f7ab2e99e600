"""Random integers that stay the same from one numpy to the next.

numpy keeps what its bit generators give, but not what `Generator.integers` makes of it.
"""

from collections.abc import Iterator

import numpy as np


class Draws:
    """Integers out of PCG64's raw 64-bit words."""

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
        """(count,) uint8; They come from words of their own."""
        return self._bits.random_raw(-(-count // 8)).astype("<u8").view(np.uint8)[:count]
