"""What a head says of images, in probabilities and names.

Softmax of the logits where an image has one class, the sigmoid of each where it may have several.
Legend: N images, K classes.
"""

import dataclasses
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pipeline.metrics.thresholds import sigmoid


@dataclasses.dataclass(frozen=True, eq=False)
class Predicted:
    """The predictions for N images."""

    logits: NDArray[np.float32]
    """(N, K); NaN for an image that couldn't be scored."""
    classes: tuple[str, ...]
    """(K,) names."""
    thresholds: NDArray[np.float64] | None = None
    """(K,) probabilities from which an image has a label; None where each has exactly one class."""

    def __len__(self) -> int:
        return len(self.logits)

    @cached_property
    def probabilities(self) -> NDArray[np.float32]:
        """(N, K) in 0..1."""
        logits = self.logits.astype(np.float64)
        if self.thresholds is not None:
            return sigmoid(logits).astype(np.float32)
        shares = np.exp(logits - logits.max(1, keepdims=True))
        return (shares / shares.sum(1, keepdims=True)).astype(np.float32)

    @property
    def labels(self) -> list[str] | list[tuple[str, ...]]:
        """The class of each image, or its labels where it may have several."""
        if self.thresholds is None:
            return [self.classes[k] for k in self.logits.argmax(1)]
        return [tuple(self.classes[k] for k in np.flatnonzero(row)) for row in self.present]

    @property
    def present(self) -> NDArray[np.bool_]:
        """(N, K) which labels each image has: of one class each, the most probable."""
        if self.thresholds is not None:
            return self.probabilities >= self.thresholds
        return np.arange(len(self.classes)) == self.logits.argmax(1)[:, None]

    def top_k(self, k: int = 5) -> list[list[tuple[str, float]]]:
        """The most probable classes of each image with their probabilities, highest first; among equal ones
        the lower class."""
        order = np.argsort(-self.logits, axis=1, kind="stable")[:, :k]
        values = np.take_along_axis(self.probabilities, order, axis=1).tolist()
        return [
            [(self.classes[i], value) for i, value in zip(*pair, strict=True)]
            for pair in zip(order.tolist(), values, strict=True)
        ]
