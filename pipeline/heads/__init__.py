"""Heads, one file each. In: batches of maps. Out: scores. A new head is a file and an entry in `HEADS`."""

import dataclasses
from collections.abc import Set
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from pipeline.heads.base import Head

OptimizerName = Literal["sgd", "adam"]
USUAL_LR: dict[OptimizerName, float] = {"sgd": 0.1, "adam": 1e-3}
"""Peak learning rates under an optimizer that isn't the head's own."""

_STEPS = frozenset({"init", "loss", "optimizer", "lr", "weight_decay", "seed", "epochs", "batch"})
_CROPS = _STEPS | {"crops", "crop_cells"}
_HIDDEN = _CROPS | {"hidden", "hidden_shapes", "dropout"}


@dataclasses.dataclass(frozen=True)
class HeadInfo:
    """All that is known of a head before its module, and with it torch, is imported."""

    target: str
    """Its class, a `pipeline.heads.base.Head`, as "module:class"."""
    summary: str
    """A phrase for --help and the documentation."""
    _: dataclasses.KW_ONLY
    reads: Set[str] = _STEPS
    """The settings it learns by, besides those that choose its images; others have no effect on it."""
    fitted: bool = False
    """Whether it is computed from all maps at once (`FittedHead`) instead of trained in steps."""
    optimizer: OptimizerName = "sgd"
    """Its own optimizer, used where --optimizer isn't given."""
    lr: float = USUAL_LR["sgd"]
    """Peak learning rate under its own optimizer, used where --lr isn't given."""
    batch: int | None = None
    """Images per step where --batch isn't given; None: it follows from the number of images."""

    @property
    def pooled(self) -> bool:
        """Whether it averages the whole map, whatever the crops."""
        return "crops" not in self.reads

    def lr_under(self, optimizer: OptimizerName) -> float:
        """The peak learning rate where --lr isn't given."""
        return self.lr if optimizer == self.optimizer else USUAL_LR[optimizer]

    def load(self) -> "type[Head]":
        """Import the class."""
        return resolve_name(self.target)


HEADS: dict[str, HeadInfo] = {
    "linear": HeadInfo("pipeline.heads.linear:Linear", "one layer on the whole map's average"),
    "fullnet": HeadInfo(
        "pipeline.heads.fullnet:FullNet",
        "a fully connected network on every crop, scores averaged",
        reads=_HIDDEN,
    ),
    "gap": HeadInfo(
        "pipeline.heads.linear:AveragePooling", "one layer on every crop's average", reads=_CROPS
    ),
    "gmp": HeadInfo(
        "pipeline.heads.linear:MaximumPooling", "one layer on every crop's maximum", reads=_CROPS
    ),
    "csra": HeadInfo(
        "pipeline.heads.csra:ResidualAttention",
        "class-specific residual attention (ICCV 2021)",
        reads=_CROPS | {"csra_lambda", "csra_temperature"},
    ),
    "recurrent-attention": HeadInfo(
        "pipeline.heads.recurrent_attention:RecurrentAttention",
        "an LSTM that looks at one region after another (ICCV 2017)",
        reads=_HIDDEN | {"steps", "region_cells", "region_start", "localisation", "constraints"},
        optimizer="adam",
        lr=USUAL_LR["adam"],
        batch=32,
    ),
    "knn": HeadInfo(
        "pipeline.heads.knn:NearestNeighbours",
        "nearest neighbours of the whole map's average",
        reads={"loss"},
        fitted=True,
    ),
    "logistic": HeadInfo(
        "pipeline.heads.logistic:Logistic",
        "logistic regression on the whole map's average",
        reads={"loss"},
        fitted=True,
    ),
}
"""Every head by the name that --head takes."""
