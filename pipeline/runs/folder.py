"""The layout of run folders, and reading, writing and loading them.

    config.json             format, settings, the cache's key, classes, versions
    metrics.jsonl           a line per epoch, or per setting that was tried
    head.safetensors        the best epoch's weights, and the means and scales of the maps
    validation.npy          its score on draws of the validation images, see `pipeline.runs.score`
    summary.json            written last: a folder that has it holds a finished run
    checkpoint.safetensors  during training: all that --resume needs

A stack has a folder like this for each head, and leaderboard.json above them; so has a sweep over several
groups. Everything but metrics.jsonl is written under another name and renamed, so it is whole or not there.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pipeline.config import TrainConfig
from pipeline.errors import RunError, UserError
from pipeline.files import read_json, write_json
from pipeline.heads import HEADS
from pipeline.heads.base import Head, HeadSpec
from pipeline.heads.settings import unread_by
from pipeline.maps.source import Normaliser
from pipeline.runs.tensors import copy_tensors, grouped, read_tensors, shape_text, write_tensors

FORMAT = 1
"""Version of all that a run folder holds. A folder of another one is refused."""
CONFIG = "config.json"
METRICS = "metrics.jsonl"
HEAD = "head.safetensors"
SUMMARY = "summary.json"
CHECKPOINT = "checkpoint.safetensors"
LEADERBOARD = "leaderboard.json"


def write_config(run_dir: Path, described: Mapping[str, Any]) -> None:
    """Write config.json; `described` holds the stage that makes the folder, and its settings."""
    write_json(run_dir / CONFIG, {"format": FORMAT, **described})


def read_config(run_dir: Path, *stages: str) -> dict[str, Any]:
    """Read config.json without its format.

    Raises: RunError when it is damaged, of another format or of none of these stages.
    """
    path = run_dir / CONFIG
    found = read_json(path)
    for name, expected in (("format", (FORMAT,)), ("stage", stages)):
        if (value := found.get(name)) not in expected:
            known = " or ".join(map(str, expected))
            raise RunError(
                f"{path}: expected the {name} {known}, found {value!r}; give another folder, or make it again"
            )
    return {name: value for name, value in found.items() if name != "format"}


class LoadedHead(NamedTuple):
    """A trained head, ready to score maps."""

    config: TrainConfig
    classes: tuple[str, ...]
    cache_key: str
    cache_images: str
    map_shape: tuple[int, int, int]
    head: Head
    normaliser: Normaliser

    @torch.inference_mode()
    def logits(self, maps_BVCHW: Tensor) -> Tensor:
        """Score (B, V, C, H, W) float32 maps on the head's device: (B, classes).

        Only the views that the head looks at count: the first, or for ten-image the first two.

        Raises: RunError when the maps have another shape than those it was trained on.
        """
        return self.head(self.inputs(maps_BVCHW))[0]

    def inputs(self, maps_BVCHW: Tensor) -> Tensor:
        """Prepare such maps as the head reads them. Raises: RunError as `logits`."""
        views, *shape = maps_BVCHW.shape[1:]
        if tuple(shape) != self.map_shape or views < self.head.views:
            raise RunError(
                f"--cache: expected maps of {shape_text(self.map_shape)} in {self.head.views} views, "
                f"as in training, found {shape_text(shape)} in {views}"
            )
        return self.head.prepare(self.normaliser(maps_BVCHW[:, : self.head.views]))


def load_run(run_dir: Path | str, device: torch.device | str = "cpu") -> LoadedHead:
    """Load the trained head of a run folder, or of one head's folder in a sweep.

    Raises: RunError when there is none, the run isn't finished or the head diverged; WeightsError when the
    weights are damaged.
    """
    run_dir = Path(run_dir)
    if (run_dir / LEADERBOARD).exists():
        raise RunError(
            f"{run_dir}: holds a sweep; name the folder of one of its heads, {LEADERBOARD} has them"
        )
    if not (run_dir / CONFIG).exists():
        raise RunError(f"{run_dir}: no run there; train_head.py --out {run_dir} makes one")
    described = read_config(run_dir, "train")
    if not (run_dir / SUMMARY).exists():
        raise RunError(f"{run_dir}: the run isn't finished; continue it with train_head.py --resume")
    if read_json(run_dir / SUMMARY).get("diverged"):
        raise RunError(
            f"{run_dir}: the head diverged, so it has no score; train it again with a smaller --lr and "
            "another --out"
        )
    try:
        read = TrainConfig.__dataclass_fields__.keys() - unread_by({described["head"]})
        config = TrainConfig.from_json({name: described[name] for name in sorted(read)})
        classes, key = tuple(described["class_names"]), str(described["cache_key"])
        images = str(described["cache_images"])
        channels, height, width = map(int, described["map_shape"])
        shape, maps = (channels, height, width), int(described["train_maps"])
        spec = HeadSpec(config, shape, len(classes), config.seed[:1], maps, bool(described["multi_label"]))
        head = HEADS[config.head].load()(spec)
    except (KeyError, TypeError, ValueError, UserError) as error:
        problem = (
            f"lacks {error}" if isinstance(error, KeyError) else f"is not that of a trained head: {error}"
        )
        raise RunError(f"{run_dir / CONFIG}: {problem}; train the head again with another --out") from error
    normaliser = Normaliser(channels)
    wanted = grouped(head=head.state_dict(), normaliser=normaliser.state_dict())
    copy_tensors(run_dir / HEAD, read_tensors(run_dir / HEAD)[0], wanted)
    head.to(device).eval()
    return LoadedHead(config, classes, key, images, shape, head, normaliser.to(device))


def write_head(run_dir: Path, weights: Mapping[str, Tensor], normaliser: Normaliser) -> None:
    """Write the weights that `load_run` reads."""
    write_tensors(run_dir / HEAD, grouped(head=weights, normaliser=normaliser.state_dict()))
