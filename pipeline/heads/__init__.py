"""Heads, one file each. A new one is a file and a line here."""

HEADS: dict[str, str] = {
    "linear": "pipeline.heads.linear:Linear",
    "fullnet": "pipeline.heads.fullnet:FullNet",
}
"""Name → class; see `pipeline.heads.base.Head`."""
