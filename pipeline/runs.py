"""Run folders: what a training run leaves behind, and how it is read again.

    config.json         the configuration, the cache's key, classes, versions
    metrics.jsonl       a line per epoch, or per setting that was tried
    head.safetensors    the best epoch's weights, and the means and scales of the maps
    summary.json        written last: a folder that has it holds a finished run
    checkpoint.safetensors  while training goes on: what --resume needs

A sweep has a folder like this for each head, and leaderboard.json above them. Everything but metrics.jsonl
is written under another name and renamed, so what is there is whole.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pipeline.config import TrainConfig
from pipeline.errors import RunError, UserError, naming
from pipeline.fields import flag
from pipeline.heads import HEADS
from pipeline.heads.base import Head, HeadSpec
from pipeline.normaliser import Normaliser
from pipeline.registry import resolve
from pipeline.tensors import copy_tensors, grouped, read_tensors, shape_text, write_tensors

HEAD = "head.safetensors"
CHECKPOINT = "checkpoint.safetensors"
LEADERBOARD = "leaderboard.json"
OLDEST = (
    "head",
    "crops",
    "hidden",
    "lr",
    "weight_decay",
    "seed",
    "data_seed",
    "epochs",
    "batch",
    "crop_cells",
)
"""Settings that every version has written down; others may be missing, and then had their default."""
FORMERLY = {"recurrent-attention": {"region_start": "whole"}}
"""What settings of a head were before they could be set, where it isn't their default."""
GONE = {"region_average": False}
"""Settings that can't be set any more, and what they always are now."""


def defaults(head: str) -> dict[str, Any]:
    """What a setting was before it could be set: of a run that an earlier version made."""
    known = TrainConfig().as_json() | FORMERLY.get(head, {})
    return {name: value for name, value in known.items() if name not in OLDEST}


class LoadedHead(NamedTuple):
    """A trained head, for `logits`."""

    config: TrainConfig
    classes: tuple[str, ...]
    cache_key: str
    map_shape: tuple[int, int, int]
    head: Head
    normaliser: Normaliser

    @torch.inference_mode()
    def logits(self, maps_BVCHW: Tensor) -> Tensor:
        """Scores (B, classes) of float32 maps on the head's device. Only the views that the head looks at
        count: the first, or for ten-image the first two.

        Raises: RunError when the maps have another shape than those it was trained on.
        """
        return self.head(self.inputs(maps_BVCHW))[0]

    def inputs(self, maps_BVCHW: Tensor) -> Tensor:
        """What the head reads of such maps. Raises: RunError as `logits`."""
        views, *shape = maps_BVCHW.shape[1:]
        if tuple(shape) != self.map_shape or views < self.head.views:
            raise RunError(
                f"--cache: expected maps of {shape_text(self.map_shape)} in {self.head.views} views, "
                f"as in training, found {shape_text(shape)} in {views}"
            )
        return self.head.prepare(self.normaliser(maps_BVCHW[:, : self.head.views]))


def load_head(run_dir: Path | str, device: torch.device | str = "cpu") -> LoadedHead:
    """The head of a run folder, or of one head's folder in a sweep.

    Raises: RunError when there is none or the run isn't finished, WeightsError when the weights are damaged.
    """
    run_dir = Path(run_dir)
    if (run_dir / LEADERBOARD).exists():
        folders = [entry["folder"] for entry in read_json(run_dir / LEADERBOARD)["heads"]]
        raise RunError(f"{run_dir}: holds a sweep; name one of its heads, {run_dir / folders[0]} is the best")
    if not (run_dir / "config.json").exists():
        raise RunError(f"{run_dir}: no run there; train_head.py --out {run_dir} makes one")
    if not (run_dir / "summary.json").exists():
        raise RunError(f"{run_dir}: the run isn't finished; go on with train_head.py --resume")
    described = read_json(run_dir / "config.json")
    for name, value in GONE.items():
        if described.get(name, value) != value:
            raise RunError(
                f"{run_dir}: made with {flag(name)} {described[name]}, which is gone; train the head again"
            )
    try:
        known = defaults(described["head"]) | described
        fields = {name: known[name] for name in TrainConfig.__dataclass_fields__}
        config, classes = TrainConfig.from_json(fields), tuple(described["class_names"])
        channels, height, width = described["map_shape"]
        shape, key = (int(channels), int(height), int(width)), str(described["cache_key"])
        images = int(described.get("train_images", 0))
        multi_label = bool(described.get("multi_label", False))
        spec = HeadSpec(config, shape, len(classes), config.seed[:1], images, multi_label)
        head: Head = resolve(HEADS, config.head)(spec)
    except (KeyError, TypeError, ValueError, UserError) as error:
        raise RunError(f"{run_dir}: config.json is not that of a trained head: {error}") from error
    normaliser = Normaliser(shape[0])
    wanted = grouped(head=head.state_dict(), normaliser=normaliser.state_dict())
    copy_tensors(run_dir / HEAD, read_tensors(run_dir / HEAD)[0], wanted)
    head.to(device).eval()
    return LoadedHead(config, classes, key, shape, head, normaliser.to(device))


def write_head(run_dir: Path, weights: Mapping[str, Tensor], normaliser: Normaliser) -> None:
    """What `load_head` reads."""
    write_tensors(run_dir / HEAD, grouped(head=weights, normaliser=normaliser.state_dict()))


def write_json(path: Path, value: Any) -> None:
    """Indented JSON, whole or not at all; what isn't finite becomes null."""
    part = path.with_name(path.name + ".part")
    with naming(path):
        part.write_text(json.dumps(_finite(value), indent=1, allow_nan=False) + "\n", encoding="utf-8")
        os.replace(part, path)


def read_json(path: Path) -> dict[str, Any]:
    """Raises: RunError when the file is damaged."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"{path}: can't be read as JSON: {error}") from error
    if not isinstance(value, dict):
        raise RunError(f"{path}: expected a JSON object, found a {type(value).__name__}")
    return value


def append_line(path: Path, line: dict[str, Any]) -> None:
    """One line of JSON, flushed."""
    with naming(path), open(path, "a", encoding="utf-8") as log:
        log.write(json.dumps(_finite(line), allow_nan=False) + "\n")


def keep_lines(path: Path, count: int) -> None:
    """Cut a log to its first lines: those of the epochs before a checkpoint."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
    part = path.with_name(path.name + ".part")
    with naming(path):
        part.write_text("".join(lines[:count]), encoding="utf-8")
        os.replace(part, path)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not abs(value) < float("inf") else value
