"""Reading the trained head of a run folder, and writing it."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from pipeline.config import TrainConfig
from pipeline.errors import RunError, UserError
from pipeline.files import read_json
from pipeline.heads import HEADS
from pipeline.heads.base import Head, HeadSpec
from pipeline.heads.settings import unread_by
from pipeline.maps.normaliser import Normaliser
from pipeline.runs.layout import CONFIG, HEAD, LEADERBOARD, SUMMARY, read_config
from pipeline.runs.tensors import copy_tensors, grouped, read_tensors, shape_text, write_tensors


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


def load_head(run_dir: Path | str, device: torch.device | str = "cpu") -> LoadedHead:
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
        # there "stage" says who made the run, and is no setting
        read = TrainConfig.__dataclass_fields__.keys() - unread_by({described["head"]}) - {"stage"}
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
    """Write the weights that `load_head` reads."""
    write_tensors(run_dir / HEAD, grouped(head=weights, normaliser=normaliser.state_dict()))
