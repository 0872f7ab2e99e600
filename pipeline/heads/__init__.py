"""Heads, one file each. A new one is a file and a line here."""

HEADS: dict[str, str] = {
    "linear": "pipeline.heads.linear:Linear",
    "fullnet": "pipeline.heads.fullnet:FullNet",
    "knn": "pipeline.heads.knn:NearestNeighbours",
    "logistic": "pipeline.heads.logistic:Logistic",
}
"""Name → class; see `pipeline.heads.base.Head`."""

POOLED = {"linear", "knn", "logistic"}
"""Those that average the whole map, so that a sweep need not try them on every --crops and --hidden."""
