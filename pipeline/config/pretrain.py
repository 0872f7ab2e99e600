"""The configuration of pretraining."""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

from pipeline.checks import Checked, Count, Device, FilePath, Fraction, OneOf, Range, Seed, Workers
from pipeline.config.extract import Dataset
from pipeline.datasets import name_of_dataset
from pipeline.trunks import TRUNKS
from pipeline.wording import slug

TRAINABLE = {name: trunk for name, trunk in TRUNKS.items() if trunk.untrained}
ImagePolicy = Literal["plain", "flip", "crop-flip"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class PretrainConfig(Checked):
    """Train a trunk as a whole network, with a classifier on top that is thrown away afterwards.

    Reads only the training split. Writes OUT/trunk.safetensors, a log and a checkpoint. Interrupted? Run the
    same command again: it continues from the last epoch.
    """

    dataset: Dataset = "cifar10"
    """Images with one label each: NAME or NAME:PATH, not a multi-label one."""
    label_column: str | None = None
    """The column of labels of an hf: set (default: as in extract_features.py)."""
    trunk: Annotated[str, OneOf(TRAINABLE)] = "alexnet-cifar"
    """The network to train."""
    widths: tuple[Annotated[int, Range(1, 4096)], ...] = (64, 256, 256)
    """Channels of its three stages; those of the last are the map's. extract_features.py and all that follows
    take the trunk by --weights, whatever its widths."""
    stage_layers: Annotated[int, Range(2, 16)] = 2
    """Convolutions in each stage; the last one of the third stage is the classifier's."""
    weights: FilePath | None = None
    """File with weights to start from, to train a trunk further (default: random weights)."""
    out: FilePath | None = None
    """Folder for the weights (default: artifacts/trunks/TRUNK-DATASET, with the names in --classes
    behind it)."""
    classes: tuple[str, ...] = ()
    """Classes to train on (default: all)."""
    train_images: ImagePolicy = "crop-flip"
    """Augmentation. plain: images as they are; flip: mirrored at random; crop-flip: padded by
    an eighth of the side, cropped and mirrored at random."""
    cutout_px: Annotated[int, Range(0, 8192)] = 8
    """Side of a square that is blanked at a random place of each training image; 0 blanks nothing."""
    cutmix: Annotated[float, Range(0, 1)] = 0.0
    """Share of the training images in which a box of any size shows another image; the labels of both then
    count by area. 0 mixes nothing."""
    rotate: Annotated[float, Range(0, 1)] = 0.0
    """Share of the training images that are rotated by 90, 180 or 270 degrees, and have classes of their own
    while the trunk learns. 0 rotates nothing."""
    hidden: Annotated[int, Range(1, 65_536)] = 512
    """Units of the classifier, which looks at every 3×3 window of the map."""
    mirror_maps: bool = False
    """Let the classifier look at every window of the mirrored map too, for heads on ten crops of a map."""
    epochs: Count = 24
    """Passes over the training part."""
    batch: Annotated[int, Range(2, 65_536)] = 64
    """Images per step: 64 suit a CPU, 512 a GPU."""
    optimizer: Literal["sgd", "muon"] = "sgd"
    """sgd: Nesterov's; muon: Muon for the convolutions and sgd for the rest, which takes fewer epochs."""
    lr: Annotated[float, Range(0, 100, above=True)] | None = None
    """Peak learning rate, after a warm-up and before a linear decay (default: 0.05 for every 64 images of
    --batch; 0.05 with muon)."""
    weight_decay: Annotated[float, Range(0, 1)] | None = None
    """Weight decay of the weight matrices; biases and batch norm have none (default: 1.5e-3; 0.025 with muon,
    whose convolutions alone have one)."""
    label_smoothing: Fraction = 0.1
    """Label smoothing of the cross-entropy."""
    val_fraction: Fraction | None = None
    """Share of the training split that is held out; train_head.py holds out the same images (default: the
    dataset's own validation images, or 0.1 where it has none beside its test split)."""
    test_fraction: Fraction = 0.2
    """Share of each class that becomes the test split, as in extract_features.py, and is not trained on."""
    split_seed: Seed = 0
    """Random seed for drawing that share, as in extract_features.py."""
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Type of the numbers in the convolutions; auto is bfloat16 where the processor multiplies it fast, and
    float16 on a GPU that doesn't; float32 else."""
    compile: bool = False
    """Compile the network first (torch.compile), which takes about a minute; where nothing compiles, a line
    says so."""
    data_seed: Seed = 0
    """Random seed for drawing the images that are held out, as in train_head.py."""
    seed: Seed = 0
    """Random seed for the initial weights, the order of the images and the augmentation."""
    device: Device = "auto"
    """Where to compute; auto takes a GPU if there is one."""
    decoders: Workers = None
    """Threads or processes that decode images (default: one per core)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.widths) != 3:
            found = " ".join(map(str, self.widths))
            raise self.refused("widths", f"expected three, one for each stage, found {found}")

    @property
    def peak_lr(self) -> float:
        """The learning rate behind --lr."""
        if self.lr is not None:
            return self.lr
        return 0.05 if self.optimizer == "muon" else 0.05 * self.batch / 64

    @property
    def decay(self) -> float:
        """The decay behind --weight-decay."""
        if self.weight_decay is not None:
            return self.weight_decay
        return 0.025 if self.optimizer == "muon" else 1.5e-3

    @property
    def rotations(self) -> int:
        """How many classes the trunk learns for each of the dataset's: with --rotate, one per rotation."""
        return 4 if self.rotate else 1

    @property
    def out_dir(self) -> Path:
        """The folder that is written: --out, or one named after trunk, dataset and classes."""
        return Path(
            self.out
            or Path("artifacts/trunks") / slug(self.trunk, name_of_dataset(self.dataset), *self.classes)
        )
