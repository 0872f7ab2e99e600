"""The configuration of the comparison of heads on images with several labels."""

import dataclasses
from pathlib import Path
from typing import Annotated

from pipeline.checks import Checked, Count, Device, FilePath, Fraction, OneOf, Range
from pipeline.heads.settings import Crops
from pipeline.wording import slug

PARTS = ("heads", "steps", "start", "constraints", "loss")


@dataclasses.dataclass(frozen=True, kw_only=True)
class AttentionConfig(Checked):
    """Does attention beat pooling on images with several labels, and what in it does? Several seeds of each.

    Compares gap, gmp, csra and recurrent-attention on the full map and on its ten crops, and takes the
    attention apart: 1 to 8 regions, the paper's start and loss, constraints left out. Settings are chosen by
    validation mAP, every line is scored on the test split and compared with recurrent-attention on the same
    images. Writes OUT/attention.json and attention.md. After an interruption run the same command again.
    """

    cache: FilePath = "artifacts/demo/scenes"
    """Folder that extract_features.py made of a multi-label dataset."""
    out: FilePath | None = None
    """Folder for runs and results (default: artifacts/ablation/CACHE)."""
    parts: tuple[Annotated[str, OneOf(PARTS)], ...] = PARTS
    """heads: each head on --crops; steps: 1 to --max-steps regions instead of 5; start: regions start as the
    whole map, as in the paper, or never leave their anchors; constraints: each left out, and all; loss:
    softmax-square instead of bce."""
    crops: tuple[Crops, ...] = ("full", "ten")
    """Crops of the map for the heads of the part heads."""
    crop_cells: Annotated[int, Range(1, 1024)] | None = None
    """Side of a crop, in cells of the map (default: 0.6 of each side of the map)."""
    max_steps: Annotated[int, Range(1, 100)] = 8
    """Highest number of regions in the part steps."""
    hidden: Annotated[int, Range(1, 65_536)] = 128
    """Width of recurrent-attention."""
    region_cells: Annotated[int, Range(1, 1024)] = 7
    """Points per side that recurrent-attention samples in each region."""
    dropout: Fraction = 0.1
    """Dropout of recurrent-attention."""
    localisation: Annotated[float, Range(0, 1000)] = 1.0
    """Weight of recurrent-attention's constraints on its regions."""
    attention_lr: tuple[Annotated[float, Range(0, 1000, above=True)], ...] = (1e-3, 2e-3)
    """Learning rates of recurrent-attention to choose from by validation score."""
    pooling_lr: tuple[Annotated[float, Range(0, 1000, above=True)], ...] = (0.3, 1.0)
    """Learning rates of the other heads to choose from by validation score."""
    attention_decay: tuple[Annotated[float, Range(0, 10)], ...] = (1e-2, 5e-2)
    """Weight decays of recurrent-attention to choose from by validation score."""
    pooling_decay: tuple[Annotated[float, Range(0, 10)], ...] = (5e-5, 5e-4)
    """Weight decays of the other heads to choose from by validation score."""
    seeds: Annotated[int, Range(1, 1000)] = 5
    """Number of seeds of each head."""
    epochs: Count = 16
    """Passes over the training part."""
    batch: Annotated[int, Range(1, 65_536)] = 32
    """Images per step."""
    device: Device = "auto"
    """Where to compute; auto takes a GPU if there is one."""

    def __post_init__(self) -> None:
        super().__post_init__()
        grids = ("attention_lr", "pooling_lr", "attention_decay", "pooling_decay")
        self.refuse_twins("parts", "crops", *grids)

    @property
    def out_dir(self) -> Path:
        return Path(self.out or Path("artifacts/ablation") / slug(Path(self.cache).name))
