"""Heads, one file each. A new one is a file and a line here; the other tables say where it differs."""

HEADS: dict[str, str] = {
    "linear": "pipeline.heads.linear:Linear",
    "fullnet": "pipeline.heads.fullnet:FullNet",
    "gap": "pipeline.heads.pooling:AveragePooling",
    "gmp": "pipeline.heads.pooling:MaximumPooling",
    "csra": "pipeline.heads.csra:ResidualAttention",
    "recurrent-attention": "pipeline.heads.recurrent_attention:RecurrentAttention",
    "knn": "pipeline.heads.knn:NearestNeighbours",
    "logistic": "pipeline.heads.logistic:Logistic",
}
"""Name → class; see `pipeline.heads.base.Head`."""

POOLED = {"linear", "knn", "logistic"}
"""Those that average the whole map, so that a sweep need not try them on every --crops and --hidden."""
WITH_HIDDEN = {"fullnet", "recurrent-attention"}
"""Those that --hidden matters to."""
CROP_CELLS = {"fullnet": 3}
"""Side of a crop where --crop-cells isn't given; for others it follows from the map."""
OPTIMIZERS = {"recurrent-attention": "adam"}
"""Where --optimizer isn't given; for others it is sgd."""
LEARNING_RATES = {"recurrent-attention": 1e-3}
"""Of a head with its own optimizer, where --lr isn't given; for others as below."""
BATCHES = {"recurrent-attention": 32}
"""Images per step where --batch isn't given; for others it follows from their number."""
_STEPS = {"loss", "optimizer", "lr", "weight_decay", "seed", "epochs", "batch"}
_CROPS = {"crops", "crop_cells"}
_HIDDEN = {"hidden", "hidden_shapes", "dropout"}
READ = {
    "linear": _STEPS,
    "fullnet": _STEPS | _CROPS | _HIDDEN,
    "gap": _STEPS | _CROPS,
    "gmp": _STEPS | _CROPS,
    "csra": _STEPS | _CROPS | {"csra_lambda", "csra_temperature"},
    "recurrent-attention": _STEPS
    | _CROPS
    | _HIDDEN
    | {"steps", "region_cells", "region_start", "localisation", "constraints"},
    "knn": {"loss"},
    "logistic": {"loss"},
}
"""The settings that a head learns by, besides those that choose its images: others have no effect on it."""
USUAL = {"sgd": 0.1, "adam": 1e-3}


def own_optimizer(head: str, asked: str = "auto") -> str:
    """sgd or adam: what was asked for, or what suits the head."""
    return OPTIMIZERS.get(head, "sgd") if asked == "auto" else asked


def default_lr(head: str, optimizer: str = "auto") -> float:
    """The peak learning rate of a head under an optimizer."""
    chosen = own_optimizer(head, optimizer)
    return LEARNING_RATES.get(head, USUAL[chosen]) if chosen == own_optimizer(head) else USUAL[chosen]
