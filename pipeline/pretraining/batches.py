"""Batches of training images, cropped, mirrored, cut out, rotated and mixed anew in each epoch.

What an epoch does to its images is drawn beforehand, in numpy, from (seed, epoch): it is then the same on
every device and in a run that was continued. The draws, up to twelve small integers for an image, go to the
device in one piece, and the images lie there from the beginning where they fit. So nothing waits in a step.
"""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.config import PretrainConfig
from pipeline.datasets.holdout import Rows
from pipeline.device import free_bytes
from pipeline.images import augment
from pipeline.images.transform import Transform
from pipeline.progress import say

SHARE = 0.5
"""Of the memory that is free on a device, what images may take; training has the rest."""


class Batches:
    """Yields the batches of an epoch: images (B, 3, S, S) uint8 and labels (B,); where images are mixed, the
    shares of the classes in each (B, classes), float32, in place of the labels.

    With --rotate, images that are turned by k times 90 degrees have the label c + k · classes in place of c.
    Source: Lee et al., "Self-supervised Label Augmentation via Input Transformations" (arXiv 1910.05872).
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        rows: Rows,
        classes: int,
        config: PretrainConfig,
        transform: Transform,
        device: torch.device,
    ) -> None:
        """Batches of `rows` of images (N, 3, S, S), uint8 in memory, and labels (N,) below `classes`."""
        self.rows, self.classes, self.config, self.device = rows, classes, config, device
        self.images, self.labels = _placed(images, device), labels.to(device)
        self.images_are_here = self.images.device.type == device.type
        starts = range(0, len(rows), config.batch)
        self.starts = [start for start in starts if len(rows) - start > 1]  # one image has no variance
        self.grey = torch.tensor([255 * mean for mean in transform.mean]).to(images.dtype).to(device)

    def __len__(self) -> int:
        return len(self.starts)

    def epoch(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of this epoch, the same in every call."""
        drawn = self._draw(epoch)
        of_all = self._send(torch.from_numpy(drawn))
        for start in self.starts:
            part = slice(start, start + self.config.batch)
            which, moves, centres, boxes, turns = of_all[part].split([1, 3, 2, 5, 1], dim=1)
            which, turns = which[:, 0], turns[:, 0]
            if self.images_are_here:
                inputs = augment.apply(self.images, moves, which)
            else:
                inputs = augment.apply(self._send(self.images[torch.from_numpy(drawn[part, 0])]), moves)
            if self.config.cutout_px:
                inputs = augment.cut_out(inputs, centres, self.config.cutout_px, self.grey)
            labels = self.labels[which]
            if self.config.rotate:
                inputs, labels = augment.rotate(inputs, turns), labels + turns * self.classes
            if self.config.cutmix:
                inputs, own = augment.paste(inputs, boxes)
                labels = self._mixed(labels, labels[boxes[:, 0]], own)
            yield inputs, labels

    def _mixed(self, labels: Tensor, others: Tensor, own: Tensor) -> Tensor:
        """The shares of the classes (B, C) in images of two labels (B,), `own` of the first."""
        kinds = self.classes * self.config.rotations
        shares = torch.zeros(len(labels), kinds, device=own.device)
        shares.scatter_add_(1, labels.long()[:, None], own[:, None])
        return shares.scatter_add_(1, others.long()[:, None], 1 - own[:, None])

    def _draw(self, epoch: int) -> NDArray[np.int64]:
        """(n, 12), in the order of the epoch: a row, the image's crop and flip, the square's centre, the box
        of another image of its batch, and quarter turns."""
        rng = np.random.default_rng((self.config.seed, epoch))
        drawn = np.zeros((len(self.rows), 12), np.int64)
        height, width = self.images.shape[2:]
        drawn[:, 0] = rng.permutation(self.rows)
        for start in self.starts:
            part = drawn[start : start + self.config.batch]
            part[:, 1:4] = augment.draw(len(part), self.config.train_images, rng)
            if self.config.cutout_px:
                part[:, 4:6] = augment.draw_centres(len(part), height, width, rng)
            if self.config.cutmix:
                part[:, 6:11] = augment.draw_boxes(len(part), self.config.cutmix, height, width, rng)
            if self.config.rotate:
                part[:, 11] = augment.draw_turns(len(part), self.config.rotate, rng)
        return drawn

    def _send(self, values: Tensor) -> Tensor:
        """The same on the device, which computes meanwhile."""
        return (values.pin_memory() if self.device.type == "cuda" else values).to(
            self.device, non_blocking=True
        )


def _placed(images: Tensor, device: torch.device) -> Tensor:
    """The images on the device, or where they are if they would take too much of its memory."""
    if images.device.type == device.type:
        return images
    if images.nbytes <= SHARE * (free := free_bytes(device)):
        return images.to(device)
    say(
        f"images stay in memory and are sent batch by batch: {images.nbytes / 1e6:,.0f} MB are more than "
        f"{SHARE:.0%} of the {free / 1e6:,.0f} MB that are free on {device}"
    )
    return images
