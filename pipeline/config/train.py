"""The configurations of stage two: one stack of heads of one shape, and a sweep over several shapes."""

import dataclasses
import itertools
import re
from pathlib import Path
from typing import Annotated, Literal

from pipeline.checks import Checked, Count, Device, Fraction, OneOf, Range, Seed, Workers, flag, slug
from pipeline.errors import ConfigError
from pipeline.heads import BATCHES, CROP_CELLS, HEADS, POOLED, WITH_HIDDEN, default_lr
from pipeline.heads.settings import HeadSettings, refuse_unread

Crops = Literal["center", "five", "ten", "ten-image", "full"]
HeadName = Annotated[str, OneOf(tuple(HEADS))]
MAX_WIDTH = 65_536
Width = Annotated[int, Range(1, MAX_WIDTH)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings(HeadSettings):
    """What all heads of a sweep share, and what may differ within a stack: --lr, --weight-decay, --seed."""

    cache: str = "artifacts/cache/digits-alexnet-cifar-plain"
    """Folder that extract_features.py made."""
    out: str = ""
    """Run folder [artifacts/runs/CACHE-HEAD-CROPS]."""
    lr: tuple[Annotated[float, Range(0, 1000, above=True)], ...] = ()
    """Peak learning rates [the head's own]."""
    weight_decay: tuple[Annotated[float, Range(0, 10)], ...] = (5e-4,)
    """Weight decays."""
    seed: tuple[Seed, ...] = (0,)
    """Seeds of the initial weights and of dropout."""
    data_seed: Seed = 0
    """Seed of the validation part, of --per-class and of the order of the batches."""
    epochs: Count = 20
    """Passes over the training part."""
    batch: Annotated[int, Range(0, 65_536)] = 0
    """Images per step [32 for recurrent-attention, else a sixteenth of the training part, from 16 to 512]."""
    classes: tuple[str, ...] = ()
    """Use these classes alone [all]."""
    per_class: Annotated[int, Range(0, 10_000_000)] = 0
    """Use this many labelled images per class, validation part included [all]."""
    val_fraction: Fraction = 0.1
    """Part of the labelled images that is held out to choose the best epoch, or the setting of logistic and
    knn."""
    memory_budget_mb: Annotated[int, Range(0, 100_000_000)] = 0
    """Memory for maps; a larger cache is read from disk block by block, which logistic and knn can't do [half
    of what is free]."""
    precision: Literal["float32", "bfloat16", "float64"] = "float32"
    """Of the matrix products; weights are updated in float32 at least."""
    verify: bool = True
    """Check the cache's digests when its blocks are first used."""
    resume: bool = False
    """Go on with a run that was interrupted."""
    device: Device = "auto"
    """Where to compute [cuda, mps or cpu, what there is]."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("lr", "weight_decay", "seed", "csra_temperature", "constraints"):
            refuse_twins(name, getattr(self, name))


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Shape(Checked):
    head: HeadName = "fullnet"
    """Which head."""
    crops: Crops = "ten"
    """What the head sees of a map: its centre, four corners and centre, these and their mirrors, ten of the
    map and of the mirrored image's map (a cache with --views mirror), or the full map."""
    hidden: tuple[Width, ...] = (512,)
    """Widths of FullNet's hidden layers, one after the other; the one width of recurrent-attention."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig(Settings, _Shape):
    """Train heads of one shape on cached feature maps; the trunk is not loaded.

    --lr, --weight-decay and --seed take several values: all combinations train in one pass.
    Writes a run folder: config.json, metrics.jsonl (a line per epoch), head.safetensors (the best epoch).
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        # What a head has a default of its own for, so that config.json says what was used.
        own = {
            "lr": (default_lr(self.head, self.optimizer),),
            "batch": BATCHES.get(self.head, 0),
            "crop_cells": CROP_CELLS.get(self.head, 0),
        }
        for name, value in own.items():
            if not getattr(self, name):
                object.__setattr__(self, name, value)

    @property
    def run_dir(self) -> Path:
        if self.out:
            return Path(self.out)
        crops = () if self.head in POOLED else (self.crops,)
        return Path("artifacts/runs") / slug(Path(self.cache).name, self.head, *crops)

    @property
    def shape_name(self) -> str:
        """fullnet-ten-512, gmp-full, linear: what tells a sweep's groups apart, and names their folders."""
        if self.head in POOLED:
            return self.head
        hidden = "x".join(map(str, self.hidden)) if self.head in WITH_HIDDEN else ""
        return slug(self.head, self.crops, hidden)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Shapes(Checked):
    head: tuple[HeadName, ...] = ("fullnet",)
    """Which heads. linear, logistic and knn look at the average of the whole map. logistic and knn are
    computed at once from all maps, every augmented view included, instead of trained in epochs."""
    crops: tuple[Crops, ...] = ("ten",)
    """What a head sees of a map: its centre, four corners and centre, these and their mirrors, ten of the
    map and of the mirrored image's map (a cache with --views mirror), or the full map."""
    hidden: tuple[Width, ...] = (512,)
    """Widths of FullNet's hidden layers, one after the other; the one width of recurrent-attention."""
    hidden_shapes: tuple[str, ...] = ()
    """Several networks instead of --hidden's one: 512 has one hidden layer, 4096x4096 two."""
    jobs: Workers = 1
    """Heads of different shapes to train at the same time, in processes; 0 means one per core."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SweepConfig(Settings, _Shapes):
    """Stage two: train heads on cached feature maps; the trunk is not loaded.

    --lr, --weight-decay and --seed take several values: all combinations train in one pass over the maps. So
    do --head, --crops and --hidden-shapes: these train one after the other, or in --jobs processes.
    Writes a run folder: config.json, metrics.jsonl (a line per epoch, or per setting of logistic and knn),
    head.safetensors (the best of them); for several heads a folder like that for each, and leaderboard.json.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("head", "crops", "hidden_shapes"):
            refuse_twins(name, getattr(self, name))
        self._hidden_layers()
        refuse_unread(self, self.head)
        if self.crop_cells and self.crops == ("full",):
            raise ConfigError("--crop-cells: has no effect on --crops full; leave it out")
        if self.hidden_shapes and self.hidden != _Shapes.hidden:
            raise ConfigError("--hidden: has no effect beside --hidden-shapes; leave one of them out")

    @property
    def run_dir(self) -> Path:
        """The folder of the only group, or that which holds a folder for each."""
        if self.out:
            return Path(self.out)
        groups = self._shapes()
        if len(groups) == 1:
            return groups[0].run_dir
        return Path("artifacts/runs") / slug(Path(self.cache).name, *self.head, *self.crops)

    def groups(self) -> list[TrainConfig]:
        """A configuration for each shape. A single one has the run folder, several have folders in it."""
        groups, out = self._shapes(), self.run_dir
        if len(groups) == 1:
            return groups
        return [dataclasses.replace(group, out=str(out / group.shape_name)) for group in groups]

    def _shapes(self) -> list[TrainConfig]:
        """Every combination once: crops and hidden layers don't matter to heads that average the map."""
        shared = {field.name: getattr(self, field.name) for field in dataclasses.fields(Settings)}
        named: dict[str, TrainConfig] = {}
        for head, crops, hidden in itertools.product(self.head, self.crops, self._hidden_layers()):
            shape = {} if head in POOLED else {"crops": crops}
            shape |= {"hidden": hidden} if head in WITH_HIDDEN else {}
            group = TrainConfig(head=head, **shape, **shared)
            named.setdefault(group.shape_name, group)
        return list(named.values())

    def _hidden_layers(self) -> list[tuple[int, ...]]:
        """Of each network. Raises: ConfigError."""
        return [_widths(text) for text in self.hidden_shapes] or [self.hidden]


def _widths(shape: str) -> tuple[int, ...]:
    """512x256 → (512, 256). Raises: ConfigError."""
    widths = tuple(int(width) for width in shape.split("x") if re.fullmatch(r"[1-9]\d{0,4}", width))
    if len(widths) != len(shape.split("x")) or max(widths) > MAX_WIDTH:
        raise ConfigError(
            f"--hidden-shapes: expected widths up to {MAX_WIDTH:,}, like 512 or 512x256, found {shape!r}"
        )
    return widths


def refuse_twins(name: str, values: tuple[object, ...]) -> None:
    """Raises: ConfigError when a flag has a value twice."""
    if len(set(values)) < len(values):
        raise ConfigError(f"{flag(name)}: expected values that differ, found one twice")
