"""The configuration of the three stages in one command."""

import dataclasses
from pathlib import Path
from typing import Annotated, Any, Literal

from pipeline.checks import FilePath, Range, Seed
from pipeline.config.evaluate import EvaluateConfig
from pipeline.config.extract import ExtractConfig, MapSettings
from pipeline.config.learning import HeadShapes, LearningSettings
from pipeline.config.train import SweepConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunConfig(MapSettings, LearningSettings, HeadShapes):
    """From image files to test scores: extract features, train heads, score the best on the test split.

    What extract_features.py, train_head.py and evaluate.py do, in one process: the same files in the same
    folders, and the flags that decide maps and heads. Those that two of them call alike are the head's here:
    --seed, --batch and --precision. Interrupted? Run the same command again: it continues where it stopped,
    and does nothing again that is done.
    """

    prints_results = True
    foremost = "dataset", "trunk", "head", "cache", "out", "crops", "hidden_shapes"

    out: FilePath | None = None
    """Folder of the run (default: artifacts/runs/CACHE-HEAD-CROPS)."""
    trunk_batch: Annotated[int, Range(1, 65_536)] | None = None
    """Images per forward pass of the trunk (default: 32 on a CPU, 512 on a GPU)."""
    trunk_precision: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    """Type of the numbers in the trunk's forward pass, as --precision of extract_features.py."""
    views_seed: Seed = 0
    """Random seed for the augmented views."""
    allow_trained_on: bool = False
    """Score test images that the head was trained or validated on as well, instead of refusing to."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.cache_dirs) > 1 or self.lists_layers:
            raise self.refused(
                "trunk", f"expected one layer, found {self.trunk}; compare_trunks.py compares several"
            )
        self.training()  # what it refuses is refused now

    def extraction(self) -> ExtractConfig:
        """Stage one."""
        own = {"batch": self.trunk_batch, "precision": self.trunk_precision, "seed": self.views_seed}
        return ExtractConfig(**_fields(self, MapSettings) | own, device=self.device)

    def training(self) -> SweepConfig:
        """Stage two, which goes on with what was interrupted."""
        settings = _fields(self, LearningSettings) | _fields(self, HeadShapes)
        return SweepConfig(**settings, cache=str(self.cache_dir), out=self.out, resume=True)

    def evaluation(self, run: Path) -> EvaluateConfig:
        """The scores of a run that was trained."""
        return EvaluateConfig(run=(str(run),), allow_trained_on=self.allow_trained_on, device=self.device)


def _fields(config: RunConfig, settings: type) -> dict[str, Any]:
    """The fields that a configuration has of some settings."""
    return {field.name: getattr(config, field.name) for field in dataclasses.fields(settings)}
