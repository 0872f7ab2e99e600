"""Where the rows of a cache lie: in one file or in several. `FeatureCache` is the same over both."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cache.dtypes import Raw
from cache.header import Labels
from cache.scales import Scales

PAGE = 4096
AT_ONCE = 64
"""Blocks that are checked between two reports of how many were."""


class Known(Protocol):
    """All that a header says."""

    @property
    def shape(self) -> tuple[int, int, int, int, int]: ...
    @property
    def dtype(self) -> str: ...
    @property
    def labels(self) -> Labels: ...
    @property
    def multi_label(self) -> bool: ...
    @property
    def paths(self) -> Any: ...
    @property
    def classes(self) -> Any: ...
    @property
    def identity(self) -> dict[str, Any]: ...
    @property
    def notes(self) -> dict[str, Any]: ...
    @property
    def scales(self) -> Scales | None: ...


class Store(ABC):
    """The rows of a cache, by their place: one behind the other in the file, or in all files.

    Every method raises CacheError where a file was replaced, written into, or can't be read.
    """

    key: str
    images: bytes
    """The images digest, 32 bytes."""
    fingerprint: bytes
    """16 bytes that are others if any byte of it differs."""
    row_bytes: int
    """Of one image's maps, all views."""
    blocks: int
    """How many blocks have a digest, in all files."""

    @property
    @abstractmethod
    def header(self) -> Known: ...

    @abstractmethod
    def places(self, rows: NDArray[np.intp]) -> NDArray[np.intp]:
        """Where rows of the split lie."""

    @property
    @abstractmethod
    def shards(self) -> dict[Path, range]:
        """The files, in order, and the places of the rows in each."""

    @abstractmethod
    def image_digests(self) -> NDArray[np.uint8]:
        """(N, 16), in the order of the split."""

    @abstractmethod
    def features(self) -> Raw:
        """(N, V, C, H, W), in the order of the split."""

    @abstractmethod
    def take(self, index: NDArray[np.intp], out: Raw) -> None:
        """out[i] ← item index[i]; an item is as long as out[i], a whole share of a row, and they are counted
        from the first row's place on."""

    @abstractmethod
    def read(self, index: NDArray[np.intp], out: Raw) -> None:
        """As `take`, without mapping pages."""

    @abstractmethod
    def touch(self, index: NDArray[np.intp], nbytes: int) -> None:
        """Have the pages of items of so many bytes in memory."""

    @abstractmethod
    def release(self) -> None:
        """Let go of mapped pages."""

    @abstractmethod
    def blocks_of(self, places: NDArray[np.intp]) -> NDArray[np.intp]:
        """The blocks that hold these places, each once."""

    @abstractmethod
    def check(self, blocks: NDArray[np.intp], watch: Callable[[int], object]) -> None:
        """Compare blocks with their digests."""

    @abstractmethod
    def check_headers(self) -> None:
        """Compare all that isn't in a block with its digests."""
