"""The regions that a head of recurrent attention looks at on test images, in pixels of each image.

Shapes: B images, N crops, S regions, K classes.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from cache import FeatureCache
from pipeline.errors import RunError
from pipeline.evaluation.logits import Subject
from pipeline.evaluation.regions.geometry import BoxArray, region_boxes, to_image
from pipeline.heads.recurrent_attention import RecurrentAttention

CENTRE = 4
"""Which of five or ten crops stands for them in pictures and rates: its regions are an image's S regions."""


class Looked(NamedTuple):
    """What one head saw of the test images."""

    test: FeatureCache
    paths: list[str]
    classes: tuple[str, ...]
    boxes: BoxArray  # (B, N, S, 4) in pixels of the trunk's input
    step_logits: NDArray[np.float32]  # (B, N, S, K)
    present: NDArray[np.bool_]  # (B, K)

    @property
    def logits(self) -> NDArray[np.float32]:
        """(B, K), as the head scores the images."""
        return self.step_logits.max(2).mean(1)

    @property
    def crop(self) -> int:
        """The crop that is shown."""
        return CENTRE if self.boxes.shape[1] > CENTRE else 0

    def on_image(self, row: int, size: tuple[int, int]) -> BoxArray:
        """(N, S, 4) in pixels of the decoded image of this size (height, width)."""
        transform = self.test.identity["transform"]
        return to_image(self.boxes[row], transform["resize"], transform["image_px"], size)

    def added(self, row: int) -> list[list[str]]:
        """Names of the classes that each region of the shown crop adds: those with a score above 0 whose
        highest score over the regions is this one's; among equal ones the first region's.
        """
        scores_SK = self.step_logits[row, self.crop]
        best_K, predicted_K = scores_SK.argmax(0), scores_SK.max(0) > 0
        return [
            [self.classes[k] for k in np.flatnonzero((best_K == step) & predicted_K)]
            for step in range(len(scores_SK))
        ]


def look(subject: Subject, batch: int = 500) -> Looked:
    """Score the test images of a run, and keep what its head looked at.

    Raises: RunError when the head looks at no regions, or the maps' images aren't known; CacheError when a
        block of the cache is damaged.
    """
    loaded, test, labels = subject.loaded, subject.test, subject.labels
    head = loaded.head
    if not isinstance(head, RecurrentAttention):
        found = loaded.config.head
        raise RunError(
            f"{subject.folder}: expected --head recurrent-attention, found {found}, without regions"
        )
    if "transform" not in test.identity:
        raise RunError(f"{test.path}: was imported, without the images to show; leave --show-regions out")
    theta, logits = [], []
    with torch.inference_mode():
        for maps in subject.batches(batch):
            found = head.attention(loaded.inputs(maps))
            theta.append(found.theta[0].float().cpu().numpy())  # (b, N, S, 4)
            logits.append(found.step_logits[0].float().cpu().numpy())
    image_px = test.identity["transform"]["image_px"]
    boxes = region_boxes(np.concatenate(theta), head.crops, loaded.map_shape[1:], image_px)
    present = labels == 1 if labels.ndim > 1 else np.eye(len(loaded.classes), dtype=bool)[labels]
    return Looked(test, list(subject.paths), loaded.classes, boxes, np.concatenate(logits), present)
