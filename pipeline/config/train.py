"""The configurations of stage two: a group of heads of one shape, and a sweep over several groups."""

import dataclasses
import itertools
import re
from pathlib import Path
from typing import Annotated, Any, Self

from pipeline.checks import FilePath, OneOf, Place, Range, Workers
from pipeline.config.learning import HeadName, HeadShapes, LearningSettings
from pipeline.engines.executors import ENGINES
from pipeline.heads import HEADS
from pipeline.heads.settings import MAX_WIDTH, HeadSettings, refuse_unread, unread_by
from pipeline.wording import slug


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingSettings(LearningSettings):
    """These, and where a cache is read and a run written."""

    cache: Place = "artifacts/cache/digits-alexnet-cifar-plain"
    """Folder that extract_features.py made; its URL in a store, beside --stage."""
    stage: FilePath | None = None
    """Folder on a fast disk, to which the cache is copied first and checked, unless it is there already; for
    caches in stores or on slow disks (default: the cache is mapped where it lies)."""
    out: FilePath | None = None
    """Folder of the run (default: artifacts/runs/CACHE-HEAD-CROPS)."""
    resume: bool = False
    """Continue a run that was interrupted."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig(TrainingSettings, HeadSettings):
    """Train a group of heads of one shape on cached feature maps; the trunk is not loaded.

    lr, weight_decay and seed take several values: all combinations train in one pass.
    Writes a run folder: config.json, metrics.jsonl (a line per epoch), head.safetensors (the best epoch).
    """

    head: HeadName = "fullnet"
    """The head to train."""

    def resolved(self) -> Self:
        """The same configuration with the head's own values where none were given.

        A fitted head has one learning rate, decay and seed, for they make no difference to it.
        """
        info = HEADS[self.head]
        optimizer = info.optimizer if self.optimizer == "auto" else self.optimizer
        lr, last = self.lr or (info.lr_under(optimizer),), 1 if info.fitted else None
        return dataclasses.replace(
            self,
            optimizer=optimizer,
            lr=lr[:last],
            weight_decay=self.weight_decay[:last],
            seed=self.seed[:last],
            batch=self.batch or info.batch,
        )

    def as_json(self) -> dict[str, Any]:
        """The fields as JSON types, without those that make no difference to the head."""
        unread = unread_by({self.head})
        return {name: value for name, value in super().as_json().items() if name not in unread}

    @property
    def run_dir(self) -> Path:
        """The folder that is made, relative to the working directory."""
        crops = "" if HEADS[self.head].pooled else self.crops
        return Path(self.out or Path("artifacts/runs") / slug(Path(self.cache).name, self.head, crops))

    @property
    def blocks(self) -> int:
        """How often a stack holds each head: once, or once for each fold and once for all images."""
        return self.folds + 1 if self.folds and not HEADS[self.head].fitted else 1

    @property
    def group_name(self) -> str:
        """Tells a sweep's groups apart and names their folders: fullnet-ten-512, gmp-full, linear."""
        reads = HEADS[self.head].reads
        hidden = "x".join(map(str, self.hidden)) if "hidden" in reads else ""
        return slug(self.head, self.crops if "crops" in reads else "", hidden)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SweepConfig(TrainingSettings, HeadShapes):
    """Stage two: train heads on cached feature maps; the trunk is not loaded.

    --lr, --weight-decay and --seed take several values: all combinations train in one pass over the maps. So
    do --head, --crops and --hidden-shapes: these train one after the other, or at the same time
    on the workers of an --engine.
    Writes a run folder: config.json, metrics.jsonl (a line per epoch, or per setting of logistic and knn),
    head.safetensors (the best of them); for several heads a folder like that for each, and leaderboard.json.
    """

    foremost = "head", "crops", "hidden_shapes", "engine", "workers", "jobs", "cache", "stage", "out"

    engine: Annotated[str, OneOf(ENGINES)] | None = None
    """Where groups of heads train, a worker each; all workers have to share the run folder (default: in this
    process)."""
    workers: Workers = None
    """Groups of heads to train at the same time by --engine (default: one per core)."""
    jobs: Annotated[int, Range(0, 1024)] = 1
    """Short for --engine local --workers JOBS; 0 means one per core."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.refuse_twins("head", "crops", "hidden_shapes")
        self._hidden_layers()
        refuse_unread(self, self.head)
        self._refuse_workers_twice()
        if self.crop_cells and self.crops == ("full",):
            raise self.refused("crop_cells", "has no effect on --crops full; leave it out")
        if self.hidden_shapes and self.hidden != TrainingSettings.hidden:
            raise self.refused("hidden", "has no effect beside --hidden-shapes; leave one of them out")

    def _refuse_workers_twice(self) -> None:
        """Raises: ConfigError when --jobs, --workers and --engine don't go together."""
        if self.jobs != 1 and (self.engine or self.workers):
            raise self.refused("jobs", "is short for --engine local --workers; leave it out beside them")
        if self.workers and self.engine is None:
            raise self.refused("workers", f"has no effect without --engine ({', '.join(ENGINES)}); add it")

    @property
    def workers_wanted(self) -> int:
        """How many groups train at the same time; 0 means one per core."""
        return self.workers or (self.jobs if self.engine is None else 0)

    def as_json(self) -> dict[str, Any]:
        """The fields as JSON types, without those that make no difference to any of the heads."""
        unread = unread_by(self.head)
        return {name: value for name, value in super().as_json().items() if name not in unread}

    @property
    def run_dir(self) -> Path:
        """The folder of the only group, or the one that holds a folder for each."""
        groups = self._groups()
        if self.out or len(groups) == 1:
            return groups[0].run_dir
        return Path("artifacts/runs") / slug(Path(self.cache).name, *self.head, *self.crops)

    def groups(self) -> list[TrainConfig]:
        """A resolved configuration for each group. A single one has the run folder, several are inside it."""
        groups, out = self._groups(), self.run_dir
        if len(groups) == 1:
            return groups
        return [dataclasses.replace(group, out=str(out / group.group_name)) for group in groups]

    def _groups(self) -> list[TrainConfig]:
        """Every combination once: a head that doesn't read crops or hidden layers has no several of them."""
        shared = {field.name: getattr(self, field.name) for field in dataclasses.fields(TrainingSettings)}
        groups: dict[str, TrainConfig] = {}
        for head, crops, hidden in itertools.product(self.head, self.crops, self._hidden_layers()):
            shape: dict[str, Any] = {"crops": crops, "hidden": hidden}
            read = {name: value for name, value in shape.items() if name in HEADS[head].reads}
            group = TrainConfig(**shared | read, head=head).resolved()
            groups.setdefault(group.group_name, group)
        return list(groups.values())

    def _hidden_layers(self) -> list[tuple[int, ...]]:
        """The widths of each network. Raises: ConfigError."""
        return [self._widths(text) for text in self.hidden_shapes] or [self.hidden]

    def _widths(self, shape: str) -> tuple[int, ...]:
        """Read 512x256 as (512, 256). Raises: ConfigError."""
        widths = tuple(int(width) for width in shape.split("x") if re.fullmatch(r"[1-9]\d{0,4}", width))
        if len(widths) != len(shape.split("x")) or max(widths) > MAX_WIDTH:
            expected = f"expected widths up to {MAX_WIDTH:,}, like 512 or 512x256"
            raise self.refused("hidden_shapes", f"{expected}, found {shape!r}")
        return widths
