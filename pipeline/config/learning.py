"""The settings of stage two that don't say where anything lies: how heads learn, and their shapes."""

import dataclasses
from typing import Annotated, Literal

from pipeline.checks import Checked, Count, Device, FilePath, Fraction, OneOf, Range, Seed
from pipeline.heads import HEADS
from pipeline.heads.settings import Crops, SharedSettings
from pipeline.runs.trackers import TRACKER_NAMES

HeadName = Annotated[str, OneOf(HEADS)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class LearningSettings(SharedSettings):
    """Settings of learning that all groups of a sweep have in common."""

    init: FilePath | None = None
    """Run whose trained head to go on from, of a sweep its best one: every head begins with its weights, and
    with its means and scales of the maps (default: random weights, drawn by --seed)."""
    optimizer: Literal["auto", "sgd", "adam"] = "auto"
    """sgd: with Nesterov momentum. adam: with decoupled weight decay. auto: adam for recurrent-attention, sgd
    for the others."""
    lr: tuple[Annotated[float, Range(0, 1000, above=True)], ...] | None = None
    """Peak learning rates (default: the head's own)."""
    weight_decay: tuple[Annotated[float, Range(0, 10)], ...] = (5e-4,)
    """Weight decays."""
    seed: tuple[Seed, ...] = (0,)
    """Random seeds for the initial weights and dropout."""
    data_seed: Seed = 0
    """Random seed for the validation part, --per-class and the order of the batches."""
    epochs: Count = 20
    """Passes over the training part."""
    batch: Annotated[int, Range(1, 65_536)] | None = None
    """Images per step (default: 32 for recurrent-attention, for others a sixteenth of the training part, from
    16 to 512)."""
    classes: tuple[str, ...] = ()
    """Classes to train on (default: all)."""
    per_class: Annotated[int, Range(1, 10_000_000)] | None = None
    """Labelled images per class to train on, validation part included (default: all)."""
    val_fraction: Fraction | None = None
    """Share of the labelled images that is held out to choose the best epoch, or the setting of logistic and
    knn (default: the dataset's own validation images, or 0.1 where it has none beside its test split)."""
    folds: Annotated[int, Range(2, 100)] | None = None
    """Cross-validation instead of a validation part: every setting learns from all folds but one, once for
    each, in one pass, and is scored on the images of that one. Heads then learn from all images, up to the
    epoch that did best over the folds (default: none)."""
    memory_budget_mb: Annotated[int, Range(1, 100_000_000)] | None = None
    """Memory for maps, which has no effect on results; a cache that doesn't fit is read from disk in each
    epoch, which logistic and knn can't do (default: half of the free memory)."""
    precision: Literal["float32", "bfloat16", "float64"] = "float32"
    """Precision of the matrix products; weights are updated in float32 at least. A GPU computes products of
    float32 with 10 bits of mantissa (TF32)."""
    verify: bool = True
    """Check the cache's digests when its blocks are first used."""
    device: Device = "auto"
    """Where to compute; auto takes a GPU if there is one."""
    log: Annotated[str, TRACKER_NAMES] | None = None
    """Tracker of experiments that is told of each head's settings, curves and scores, one of those below or
    code of your own, FILE.py:CLASS (default: none)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.refuse_twins("lr", "weight_decay", "seed", "csra_temperature", "constraints")
        if self.folds and self.val_fraction is not None:
            raise self.refused("folds", "takes the place of --val-fraction; leave one of them out")


@dataclasses.dataclass(frozen=True, kw_only=True)
class HeadShapes(Checked):
    """Settings that each group of a sweep has one value of."""

    head: tuple[HeadName, ...] = ("fullnet",)
    """Heads to train. linear, logistic and knn look at the average of the whole map. logistic and knn are
    computed at once from all maps, every augmented view included, instead of trained in epochs."""
    crops: tuple[Crops, ...] = ("ten",)
    """Which crops of a map a head looks at: its centre, four corners and centre, these and their mirrors, ten
    of the map and of the mirrored image's map (a cache with --views mirror), or the full map."""
    hidden_shapes: tuple[str, ...] = ()
    """Several networks instead of --hidden's one: 512 has one hidden layer, 4096x4096 two (default: the
    one)."""
