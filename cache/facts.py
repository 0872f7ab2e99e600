"""What the header of a cache says, as properties."""

from abc import abstractmethod
from typing import Any

from cache.dtypes import DTYPES, Raw, Values, scaled
from cache.header import Labels
from cache.paths import Paths
from cache.scales import Scales
from cache.store import Store


class Facts:
    """All that is known of a cache without looking at its features."""

    @abstractmethod
    def _stored(self) -> Store: ...

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def shape(self) -> tuple[int, int, int, int, int]:
        """(N, V, C, H, W): images, views, channels, rows and columns of a map."""
        return self._stored().header.shape

    @property
    def dtype(self) -> str:
        """float16, float32, bfloat16 or int8."""
        return self._stored().header.dtype

    @property
    def scales(self) -> Scales | None:
        """(2, C) float32: the scale s and zero point z of each channel's int8 numbers q, which stand for the
        values (q - z) × s; None where the numbers are the values. Read-only."""
        return self._stored().header.scales

    def decode(self, raw: Raw) -> Values:
        """The values that stored numbers (..., C, H, W) stand for: float16 and float32 as they are, float32
        of the others."""
        if raw.dtype.kind == "f":
            return raw
        return (DTYPES[self.dtype] if self.scales is None else scaled(self.scales)).decode(raw)

    @property
    def labels(self) -> Labels:
        """(N,) int64 indices into `classes`; multi-label, (N, K) int8, a column for each class: 1 present,
        0 absent, -1 not counted. Read-only.
        """
        return self._stored().header.labels

    @property
    def multi_label(self) -> bool:
        """Whether an image has any number of classes: `labels` is (N, K) and not (N,)."""
        return self._stored().header.multi_label

    @property
    def paths(self) -> Paths:
        """The N images, relative to the dataset's folder. Indexes, iterates and compares as a list does."""
        return Paths.of(self._stored().header.paths)

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(self._stored().header.classes)

    @property
    def identity(self) -> dict[str, Any]:
        """What the features were made from."""
        return self._stored().header.identity

    @property
    def notes(self) -> dict[str, Any]:
        """Facts about the making that aren't identity."""
        return self._stored().header.notes

    @property
    def key(self) -> str:
        """SHA-256 of identity, shape, dtype and paths, in hexadecimal."""
        return self._stored().key

    @property
    def images_digest(self) -> str:
        """SHA-256 over `image_digests`, in hexadecimal: which image contents the features were made from."""
        return self._stored().images.hex()
