"""Preprocessing constants, trunk, crops and head as one module, and what has to be known to use it.

Legend: B images, V views, S image_px, C×H×W cells of a map, K classes.
"""

import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from pipeline import __version__
from pipeline.errors import RunError
from pipeline.maps.stored import rounded, scales_in
from pipeline.runs.folder import LoadedHead, load_head
from pipeline.runs.layout import HEAD, read_config
from pipeline.runs.thresholds import UNCHOSEN, read_thresholds
from pipeline.trunks import trunk_of_identity
from pipeline.trunks.base import Trunk, scale_and_shift
from pipeline.trunks.folding import folded


class WholeModel(nn.Module):
    """uint8 RGB images (B, 3, S, S) → probabilities (B, K) and logits (B, K), in float32.

    Maps are rounded to the numbers that the cache stores: the head learned from those, and is scored on them.
    """

    def __init__(
        self,
        trunk: Trunk,
        loaded: LoadedHead,
        stored: str,
        multi_label: bool,
        scales: Tensor | None = None,
    ) -> None:
        """stored: the dtype of the run's cache. scales: (2, C, 1, 1), those of int8."""
        super().__init__()
        self.trunk, self.head, self.views = folded(trunk), loaded.head.plain(), loaded.head.views
        self.stored, self.multi_label = getattr(torch, stored), multi_label
        scale, shift = scale_and_shift(trunk.transform, torch.device("cpu"))
        self.scale, self.shift = nn.Buffer(scale), nn.Buffer(shift)
        self.scales = None if scales is None else nn.Buffer(scales)
        self.map_mean, self.map_scale = nn.Buffer(loaded.normaliser.mean), nn.Buffer(loaded.normaliser.scale)
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return self.scores(self.stored_maps(self.maps(images)))

    def maps(self, images: Tensor) -> Tensor:
        """The maps (B, V, C, H, W) before they are rounded."""
        if self.views > 1:
            images = torch.cat([images, images.flip(3)])
        values = torch.addcmul(self.shift, images.float(), self.scale)  # as extraction has it
        maps = self.trunk(values.contiguous(memory_format=torch.channels_last))
        return maps.unflatten(0, (self.views, -1)).transpose(0, 1)

    def stored_maps(self, maps: Tensor) -> Tensor:
        """The numbers that the cache would hold."""
        if self.scales is not None:
            return rounded(maps, self.scales)
        if self.stored == torch.float32:
            return maps
        most = torch.finfo(self.stored).max  # the cache holds no infinities
        return maps.clamp(-most, most).to(self.stored).float()

    def scores(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """Probabilities and logits."""
        logits = self.head((maps - self.map_mean) * self.map_scale)
        return (logits.sigmoid() if self.multi_label else logits.softmax(1)), logits


class Exportable(NamedTuple):
    """A model, and what its file says of it."""

    model: WholeModel
    facts: dict[str, str]
    image_px: int
    classes: int

    def images(self, count: int) -> Tensor:
        """Random images (count, 3, S, S), the same ones each time."""
        shape = (count, 3, self.image_px, self.image_px)
        return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def exportable(folder: Path, weights: str | None, trunk_now: str | None) -> Exportable:
    """The model of a run folder. `trunk_now`: where the trunk is, if its code or folder has moved.

    Raises: RunError when there is no finished run, or it learned from maps that no trunk here made;
    ConfigError, WeightsError when that trunk can't be had.
    """
    loaded, described = load_head(folder), read_config(folder, "train")
    identity = described.get("cache_identity") or {}
    if not {"trunk", "transform"} <= identity.keys():
        raise RunError(
            f"{folder}: learned from maps whose trunk isn't known, so no model leads from images to scores; "
            "extract the maps with extract_features.py and train on those"
        )
    trunk = trunk_of_identity(identity, weights, trunk_now)
    multi_label = bool(described["multi_label"])
    scales = scales_in(described, folder)
    model = WholeModel(trunk, loaded, identity["dtype"], multi_label, scales)
    facts = _facts(folder, loaded, identity, multi_label)
    return Exportable(model, facts, trunk.transform.image_px, len(loaded.classes))


def _facts(folder: Path, loaded: LoadedHead, identity: dict[str, Any], multi_label: bool) -> dict[str, str]:
    """Texts, some of them JSON: what formats of models keep beside the graph."""
    transform = identity["transform"]
    thresholds = np.nan_to_num(read_thresholds(folder, len(loaded.classes)), nan=UNCHOSEN)
    return {
        "class_names": json.dumps(loaded.classes, ensure_ascii=False),
        "input": "uint8, (batch, 3, image_px, image_px), RGB",
        "image_px": str(transform["image_px"]),
        "resize": transform["resize"],
        **({"thresholds": json.dumps(thresholds.tolist())} if multi_label else {}),
        "probabilities": "sigmoid: each class by itself" if multi_label else "softmax: they sum to 1",
        "trunk": json.dumps(identity["trunk"]),
        "transform": json.dumps(transform),
        "head": loaded.config.head,
        "head_sha256": hashlib.sha256((folder / HEAD).read_bytes()).hexdigest(),
        "run": folder.resolve().name,
        "cache_key": loaded.cache_key,
        "made_by": f"ten-crop-cache {__version__}, torch {torch.__version__}",
    }
