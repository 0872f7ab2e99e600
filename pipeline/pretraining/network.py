"""A whole network: a trunk and the classifier that it is trained with, thrown away afterwards.

The classifier is a FullNet on every 3×3 window of the map, as a convolution: 256×5×5 → nine windows → hidden
units → their mean → scores. Its hidden layer keeps what is special to the pretraining's classes out of the
trunk, whose maps then serve other classes better (Wang et al., arXiv 2112.00496), and heads look at a map in
the way it was trained to be looked at. With `mirror_maps` the windows of the mirrored map count too, as in
ten-crop: the trunk then learns maps whose mirrors can be read.

Shapes: B images, S = image_px, C×H×W cells of a map, D hidden units.
"""

import contextlib
import hashlib
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cache import Labels
from pipeline.config import PretrainConfig
from pipeline.datasets import DATASETS
from pipeline.datasets.base import ImageSplit, SplitName, open_dataset
from pipeline.datasets.holdout import select_classes, validation_rows
from pipeline.errors import ConfigError
from pipeline.images.blocks import decode_blocks, digests
from pipeline.images.pool import Decoders
from pipeline.images.transform import Transform
from pipeline.progress import Progress
from pipeline.trunks.base import Trunk, scale_and_shift

WINDOW_CELLS = 3
CPU = torch.device("cpu")


class Network(nn.Module):
    """uint8 images (B, 3, S, S) → logits (B, rotations · classes): a trunk and a classifier with `hidden`
    units. The first are those of images as they are.

    With `mirror_maps` the logits are the mean over the map and its mirror.
    """

    def __init__(
        self, trunk: Trunk, classes: int, hidden: int, mirror_maps: bool = False, rotations: int = 1
    ) -> None:
        super().__init__()
        self.trunk, self.transform, self.mirror_maps = trunk.module, trunk.transform, mirror_maps
        self.classes = classes
        # on the device from the beginning: a number that is sent in a step makes it wait
        for name, value in zip(("scale", "shift"), scale_and_shift(trunk.transform, CPU), strict=True):
            self.register_buffer(name, value, persistent=False)
        self.scale: Tensor
        self.shift: Tensor
        image_px = trunk.transform.image_px
        with torch.no_grad():  # in evaluation mode, so that batch norm does not learn of zeros
            _, channels, height, width = self.trunk.eval()(torch.zeros(1, 3, image_px, image_px)).shape
        self.map_shape = channels, height, width
        window = min(WINDOW_CELLS, height), min(WINDOW_CELLS, width)
        self.classifier = nn.Sequential(
            nn.Conv2d(channels, hidden, window, bias=False),  # (B, D, H - 2, W - 2)
            nn.BatchNorm2d(hidden),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(hidden, classes * rotations),
        )

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    def forward(self, images: Tensor) -> Tensor:
        maps = self.trunk(torch.addcmul(self.shift, images.float(), self.scale))
        if not self.mirror_maps:
            return self.classifier(maps)
        # one pass over both, so that batch norm has one mean for a map and its mirror
        logits = self.classifier(torch.cat([maps, maps.flip(3)]))  # (2B, classes)
        return logits.view(2, len(images), -1).mean(0)

    @torch.inference_mode()
    def predict(
        self, images: Tensor, batch: int, prepare: Callable[[Tensor, slice], Tensor] = lambda b, _: b
    ) -> np.ndarray:
        """The class with the highest score, (N,), of uint8 images (N, 3, S, S), in evaluation mode.

        Args:
            prepare: what is done to a batch of images on the network's device, and which rows these are.
        """
        self.eval()
        found = []
        for start in range(0, len(images), batch):
            rows = slice(start, start + batch)
            logits = self(prepare(images[rows].to(self.device), rows))[:, : self.classes]
            found.append(logits.float().argmax(1))
        return torch.cat(found).cpu().numpy()


def open_splits(config: PretrainConfig) -> dict[str, ImageSplit]:
    """Both splits of the dataset. Raises: DataError, ConfigError."""
    return open_dataset(
        config.dataset,
        test_fraction=config.test_fraction,
        seed=config.split_seed,
        label_column=config.label_column,
    )


def open_split(
    config: PretrainConfig, name: SplitName
) -> tuple[ImageSplit, Labels, tuple[str, ...], NDArray[np.bool_]]:
    """The images of a split, their labels as positions in the classes, the classes, and which images (of a
    training split) `train_head.py` holds out with the same --data-seed.

    Raises: DataError; ConfigError on an unknown class or where images have several labels.
    """
    if (
        DATASETS[config.dataset.partition(":")[0]].multi_label
        or (split := open_splits(config)[name]).multi_label
    ):
        raise ConfigError(
            f"--dataset: expected images of one class each to train a trunk on, found {config.dataset}, "
            "whose images may have several; give digits, cifar10 or folder:PATH"
        )
    classes = config.classes or split.classes
    is_held = validation_rows(split.labels, config.val_fraction, config.data_seed, split.val_rows)
    rows, labels = select_classes(split.labels, split.classes, classes)
    return split.take(rows), labels, classes, is_held[rows]


def image_digests(split: ImageSplit, decoders: int | None) -> NDArray[np.uint8]:
    """The digests (N, 16) of all images, as in a cache of them. Raises: DataError."""
    with Decoders([split], decoders) as readers:
        return np.concatenate([found for _, found in digests(split, readers)])


def images_digest(digests: NDArray[np.uint8]) -> str:
    """SHA-256 over the digests of all images, in hexadecimal, as in a cache of them."""
    return hashlib.sha256(digests.tobytes()).hexdigest()


def load_images(split: ImageSplit, transform: Transform, decoders: int | None) -> Tensor:
    """Decode all images of a split: uint8 (N, 3, S, S) in memory, channels last. Raises: DataError."""
    blocks = [range(start, min(start + 1024, len(split))) for start in range(0, len(split), 1024)]
    size = transform.image_px
    images_NHWC = np.empty((len(split), size, size, 3), np.uint8)
    progress = Progress(f"decoding {split.split}", len(split), "images")
    with (
        progress,
        Decoders([split], decoders) as readers,
        contextlib.closing(decode_blocks(split, blocks, transform, readers)) as decoded,
    ):
        for rows, images_NCHW, _ in decoded:
            images_NHWC[rows.start : rows.stop] = images_NCHW.transpose(0, 2, 3, 1)
            progress.advance(len(rows))
    return torch.from_numpy(images_NHWC).permute(0, 3, 1, 2)
