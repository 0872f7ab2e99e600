"""Run folders: what a training run leaves behind, and how it is read again.

    config.json         the configuration, the cache's key, classes, versions
    metrics.jsonl       a line per epoch, or per setting that was tried
    head.safetensors    the best epoch's weights, and the means and scales of the maps
    summary.json        written last: a folder that has it holds a finished run
    checkpoint.safetensors  while training goes on: what --resume needs

A sweep has a folder like this for each head, and leaderboard.json above them. Everything but metrics.jsonl
is written under another name and renamed, so what is there is whole.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pipeline.checks import flag
from pipeline.config import TrainConfig
from pipeline.errors import RunError, UserError
from pipeline.files import read_json
from pipeline.heads import HEADS
from pipeline.heads.base import Head, HeadSpec
from pipeline.maps.normaliser import Normaliser
from pipeline.runs.tensors import copy_tensors, grouped, read_tensors, shape_text, write_tensors

HEAD = "head.safetensors"
CHECKPOINT = "checkpoint.safetensors"
LEADERBOARD = "leaderboard.json"
OLDEST = (
    *("head", "crops", "crop_cells", "hidden", "dropout", "lr", "weight_decay", "seed", "data_seed"),
    *("epochs", "batch", "classes", "per_class", "val_fraction", "precision", "cache"),
    *("cache_key", "labels_sha256", "map_shape", "class_names"),
)
"""What every version has written down; other settings may be missing, and then had their default."""
FORMERLY = {"recurrent-attention": {"region_start": "whole"}}
"""What settings of a head were before they could be set, where it isn't their default."""
GONE = {"region_average": False}
"""Settings that can't be set any more, and what they always are now."""


def read_config(run_dir: Path, *stages: str) -> dict[str, Any]:
    """config.json of a run folder. Raises: RunError when it is damaged, or says none of these stages."""
    path = run_dir / "config.json"
    found = read_json(path)
    if "stage" not in found:
        raise RunError(f"{path}: lacks the stage that made it; put it back as it was, or give another folder")
    if (stage := found["stage"]) not in stages:
        expected = " or ".join(stages)
        raise RunError(f"{path}: expected the stage {expected}, found {stage!r}; give another folder")
    return found


def head_config(run_dir: Path) -> dict[str, Any]:
    """config.json of a head, with what settings were before they could be set, where an earlier version made
    it. Raises: RunError as `read_config`; naming what is missing that every version has written down.
    """
    found = read_config(run_dir, "train")
    if missing := [name for name in OLDEST if name not in found]:
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        raise RunError(
            f"{run_dir / 'config.json'}: lacks {', '.join(missing[:5])}{more}; put it back as train_head.py "
            "wrote it, or train the head again with another --out"
        )
    formerly = FORMERLY.get(str(found["head"]), {})
    return TrainConfig().as_json() | formerly | GONE | {"multi_label": False} | found


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
    described = head_config(run_dir)
    for name, value in GONE.items():
        if described[name] != value:
            raise RunError(
                f"{run_dir}: made with {flag(name)} {described[name]}, which is gone; train the head again"
            )
    try:
        fields = {name: described[name] for name in TrainConfig.__dataclass_fields__}
        config, classes = TrainConfig.from_json(fields), tuple(described["class_names"])
        channels, height, width = described["map_shape"]
        shape, key = (int(channels), int(height), int(width)), str(described["cache_key"])
        maps = int(described.get("train_maps", described.get("train_images", 0)))
        multi_label = bool(described["multi_label"])
        spec = HeadSpec(config, shape, len(classes), config.seed[:1], maps, multi_label)
        head = HEADS[config.head].load()(spec)
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
