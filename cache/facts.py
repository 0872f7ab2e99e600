"""What the header of a cache says, as properties."""

from abc import abstractmethod
from typing import Any

from cache.contents import Contents
from cache.header import Labels
from cache.paths import Paths


class Facts:
    """All that is known of a cache without looking at its features."""

    @property
    @abstractmethod
    def _contents(self) -> Contents: ...

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def shape(self) -> tuple[int, int, int, int, int]:
        """(N, V, C, H, W): images, views, channels, rows and columns of a map."""
        return self._contents.header.shape

    @property
    def dtype(self) -> str:
        """float16, float32 or bfloat16."""
        return self._contents.header.dtype

    @property
    def labels(self) -> Labels:
        """(N,) int64 indices into `classes`; multi-label, (N, K) int8, a column for each class: 1 present,
        0 absent, -1 not counted. Read-only.
        """
        return self._contents.header.labels

    @property
    def multi_label(self) -> bool:
        """Whether an image has any number of classes: `labels` is (N, K) and not (N,)."""
        return self._contents.header.multi_label

    @property
    def paths(self) -> Paths:
        """The N images, relative to the dataset's folder. Indexes, iterates and compares as a list does."""
        return Paths.of(self._contents.header.paths)

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(self._contents.header.classes)

    @property
    def identity(self) -> dict[str, Any]:
        """What the features were made from."""
        return self._contents.header.identity

    @property
    def notes(self) -> dict[str, Any]:
        """Facts about the making that aren't identity."""
        return self._contents.header.notes

    @property
    def key(self) -> str:
        """SHA-256 of identity, shape, dtype and paths, in hexadecimal."""
        return self._contents.header.key

    @property
    def images_digest(self) -> str:
        """SHA-256 over `image_digests`, in hexadecimal: which image contents the features were made from."""
        return self._contents.images.hex()
