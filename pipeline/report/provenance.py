"""What the shown run was made from and with, and the commands that make it again."""

import json
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from pipeline import __version__
from pipeline.datasets import name_of_dataset
from pipeline.errors import RunError
from pipeline.report.collect import word
from pipeline.report.markup import Markup, element, name
from pipeline.runs.layout import CONFIG, read_config
from pipeline.runs.ledger import Entry

DIGESTS = {
    "cache_key": "cache key",
    "cache_images": "digest of the images",
    "labels_sha256": "digest of the labels",
}
TRUNK = ("name", "layer", "version", "weights", "library")
LONGEST = 300


def provenance(shown: Entry, made_with: object) -> Markup:
    """A list of facts out of config.json. `made_with`: what computed the maps, where the cache is there."""
    try:
        config = read_config(shown.folder, "train", "pretrain")
    except RunError as error:
        facts: list[tuple[str, str]] = [("problem", str(error))]
    else:
        facts = [*_facts(config), ("maps computed with", _text(made_with))][: None if made_with else -1]
    run = shlex.quote(str(shown.folder))
    commands = [f"train_head.py --config {run}/{CONFIG} --out {run}", f"evaluate.py --run {run}"]
    return element(
        "section",
        element("h2", "Provenance", id="provenance"),
        element("p", "Of ", name(str(shown.folder), LONGEST), "."),
        element("dl", [[element("dt", key), element("dd", name(text, LONGEST))] for key, text in facts]),
        element("h3", "To make it again"),
        [element("p", element("code", command)) for command in commands],
        element("p", f"Reported by version {__version__}.", class_="muted"),
    )


def _facts(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    identity = _dict(config.get("cache_identity"))
    if isinstance(config.get("dataset"), str):
        yield "dataset", name_of_dataset(config["dataset"])
    if isinstance(classes := config.get("class_names"), list):
        yield "classes", f"{len(classes):,}"
    for key, text in (("train_images", "training images"), ("map_shape", "map, channels × rows × columns")):
        if (value := word(config.get(key))) is not None:
            yield text, str(value)
    trunk = _dict(identity.get("trunk"))
    for key in TRUNK:
        if trunk.get(key) is not None:
            yield f"trunk {key}", _text(trunk[key])
    for key in ("transform", "views", "precision", "dtype"):
        if identity.get(key) is not None:
            yield key, _text(identity[key])
    for key, text in DIGESTS.items():
        if config.get(key) is not None:
            yield text, _text(config[key])
    yield "cache, when it was trained", _text(config.get("cache_path") or config.get("cache"))
    yield "computed on", f"{_text(config.get('device'))}, products in {_text(config.get('products'))}"
    for key, value in _dict(config.get("versions")).items():
        yield f"version of {key}"[:LONGEST], _text(value)


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str:
    """A value in one line: an object's fields one behind the other."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {_text(part)}" for key, part in list(value.items())[:20])[:LONGEST]
    return value if isinstance(value, str) else json.dumps(value)[:LONGEST]
