"""Heads, one file each. In: batches of maps. Out: scores. A new head is a file and an entry in `HEADS`."""

import dataclasses
from collections.abc import Set
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from pipeline.heads.base import Head

OptimizerName = Literal["sgd", "adam"]
USUAL_LR: dict[OptimizerName, float] = {"sgd": 0.1, "adam": 1e-3}
"""Peak learning rate under an optimizer that isn't the head's own."""

_STEPS = frozenset({"loss", "optimizer", "lr", "weight_decay", "seed", "epochs", "batch"})
_CROPS = frozenset({"crops", "crop_cells"})
_HIDDEN = frozenset({"hidden", "hidden_shapes", "dropout"})
_REGIONS = frozenset({"steps", "region_cells", "region_start", "localisation", "constraints"})


@dataclasses.dataclass(frozen=True, kw_only=True)
class HeadInfo:
    """All that is known of a head before its module, and with it torch, is imported."""

    target: str
    """The subclass of `pipeline.heads.base.Head`, as "module:class"."""
    summary: str
    """A phrase for --help and for the documentation."""
    reads: Set[str] = _STEPS
    """The settings it learns by, besides those that choose its images; others have no effect on it."""
    fitted: bool = False
    """Whether it is computed from all maps at once (`FittedHead`) instead of trained in steps."""
    pooled: bool = False
    """Whether it averages the whole map, so that a sweep need not try it on every --crops."""
    optimizer: OptimizerName = "sgd"
    """Its own optimizer, used where --optimizer isn't given."""
    lr: float = 0.1
    """Peak learning rate under its own optimizer, used where --lr isn't given."""
    batch: int | None = None
    """Images per step where --batch isn't given; None: it follows from the number of images."""
    crop_cells: int | None = None
    """Side of a crop where --crop-cells isn't given; None: it follows from the map."""

    def lr_under(self, optimizer: OptimizerName) -> float:
        """The peak learning rate where --lr isn't given."""
        return self.lr if optimizer == self.optimizer else USUAL_LR[optimizer]

    def load(self) -> "type[Head]":
        """Import the class."""
        return resolve_name(self.target)


HEADS: dict[str, HeadInfo] = {
    "linear": HeadInfo(
        target="pipeline.heads.linear:Linear",
        summary="one linear layer on the average of the whole map",
        pooled=True,
    ),
    "fullnet": HeadInfo(
        target="pipeline.heads.fullnet:FullNet",
        summary="a fully connected network on every crop, scores averaged",
        reads=_STEPS | _CROPS | _HIDDEN,
        crop_cells=3,
    ),
    "gap": HeadInfo(
        target="pipeline.heads.pooling:AveragePooling",
        summary="one linear layer on the average of every crop",
        reads=_STEPS | _CROPS,
    ),
    "gmp": HeadInfo(
        target="pipeline.heads.pooling:MaximumPooling",
        summary="one linear layer on the maximum of every crop",
        reads=_STEPS | _CROPS,
    ),
    "csra": HeadInfo(
        target="pipeline.heads.csra:ResidualAttention",
        summary="class-specific residual attention (ICCV 2021)",
        reads=_STEPS | _CROPS | {"csra_lambda", "csra_temperature"},
    ),
    "recurrent-attention": HeadInfo(
        target="pipeline.heads.recurrent_attention:RecurrentAttention",
        summary="an LSTM that looks at one region after another (ICCV 2017)",
        reads=_STEPS | _CROPS | _HIDDEN | _REGIONS,
        optimizer="adam",
        lr=1e-3,
        batch=32,
    ),
    "knn": HeadInfo(
        target="pipeline.heads.knn:NearestNeighbours",
        summary="nearest neighbours of the average of the whole map",
        reads={"loss"},
        fitted=True,
        pooled=True,
    ),
    "logistic": HeadInfo(
        target="pipeline.heads.logistic:Logistic",
        summary="logistic regression on the average of the whole map",
        reads={"loss"},
        fitted=True,
        pooled=True,
    ),
}
"""Every head by the name that --head takes."""
