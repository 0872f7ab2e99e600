"""The configuration of pretraining."""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

from pipeline.checks import Checked, Count, Device, Fraction, OneOf, Range, Seed, Workers, slug
from pipeline.trunks import TRUNKS

TRAINABLE = tuple(name for name, trunk in TRUNKS.items() if trunk.untrained)
ImagePolicy = Literal["plain", "flip", "crop-flip"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class PretrainConfig(Checked):
    """Train a trunk as a whole network, with a classifier on top that is thrown away afterwards.

    Only the training split is read. Writes OUT/trunk.safetensors, a log and a checkpoint to resume from.
    """

    dataset: str = "cifar10"
    """digits, cifar10, or folder:PATH."""
    trunk: Annotated[str, OneOf(TRAINABLE)] = "alexnet-cifar"
    """Which network."""
    weights: str = ""
    """Weights to start from, to train a trunk further [random ones]."""
    out: str = ""
    """Folder for the weights [artifacts/trunks/TRUNK-DATASET]."""
    classes: tuple[str, ...] = ()
    """Train on these classes alone [all]."""
    train_images: ImagePolicy = "crop-flip"
    """Augmentation: as they are, flipped at random, or padded by 4, cropped at random and flipped."""
    cutout_px: Annotated[int, Range(0, 8192)] = 8
    """Side of a square at a random place that is blanked in each training image; 0: none."""
    hidden: Annotated[int, Range(1, 65_536)] = 512
    """Units of the classifier, which looks at every 3×3 window of the map."""
    mirror_maps: bool = False
    """The classifier looks at every window of the mirrored map too, for heads on ten crops of a map."""
    epochs: Count = 24
    """Passes over the training part."""
    batch: Annotated[int, Range(2, 65_536)] = 64
    """Images per step; the learning rate should grow with it."""
    lr: Annotated[float, Range(0, 100, above=True)] = 0.05
    """Peak learning rate (Nesterov SGD, warm-up, linear decay)."""
    weight_decay: Annotated[float, Range(0, 1)] = 1.5e-3
    """Of the weight matrices; biases and batch norm have none."""
    label_smoothing: Fraction = 0.1
    """Of the cross-entropy."""
    val_fraction: Fraction = 0.1
    """Part of the training split that is held out; train_head.py holds out the same images."""
    test_fraction: Fraction = 0.2
    """As for extract_features.py: share of a folder without test/ or val/ that is not to be trained on."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of the convolutions [bfloat16 where the processor multiplies it fast]."""
    seed: Seed = 0
    """Of the initial weights, the order and the augmentation."""
    device: Device = "auto"
    """Where to compute [cuda, mps or cpu, what there is]."""
    workers: Workers = 0
    """Threads or processes that decode images [one per core]."""

    @property
    def out_dir(self) -> Path:
        if self.out:
            return Path(self.out)
        return Path("artifacts/trunks") / slug(self.trunk, self.dataset, *self.classes)
