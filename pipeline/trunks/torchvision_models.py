"""`torchvision:MODEL[@LAYER]`: torchvision's classification models."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torchvision
from torchvision import models

from pipeline.errors import ConfigError, WeightsError
from pipeline.images.transform import Transform
from pipeline.progress import on_terminal
from pipeline.trunks.network import Network
from pipeline.wording import did_you_mean

HEADS = ("classifier", "fc", "head", "heads", "avgpool", "flatten", "dropout", "AuxLogits", "aux1", "aux2")
"""What torchvision's models call what comes after their maps."""


def open_model(model: str, pretrained: bool, image_px: int | None) -> Network:
    """A model as `torchvision.models.get_model` names it, with its default weights. See `Opened`."""
    known = models.list_models(module=models)
    if model not in known:
        raise ConfigError(f"--trunk: torchvision has no model {model!r}{did_you_mean(model, known)}")
    published: Any = models.get_model_weights(model)
    options: dict[str, Any] = {"image_size": image_px} if image_px and model.startswith("vit_") else {}
    if model in ("googlenet", "inception_v3"):  # as published: they rescale what was normalised
        options |= {"transform_input": True} | ({} if pretrained else {"init_weights": False})
    weights = published.DEFAULT if pretrained else None
    with downloading(published.DEFAULT):
        module = models.get_model(model, weights=weights, progress=on_terminal(), **options)
    return Network(
        module=module.eval(),
        transform=_transform(published.DEFAULT),
        facts={"library": f"torchvision {torchvision.__version__.partition('+')[0]}"},
        prefix_tokens=1 if model.startswith("vit_") else 0,
        classifier=HEADS,
    )


@contextlib.contextmanager
def downloading(published: models.WeightsEnum) -> Iterator[None]:
    """Raises: WeightsError naming the URL, where to put the file and the flag, when it can't be had."""
    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(published.url).name
    try:
        yield
    except OSError as error:  # URLError is one
        reason = getattr(error, "reason", error)
        raise WeightsError(
            f"{published.url}: can't be downloaded ({reason}); fetch it where there is a network and put it "
            f"at {path}, or name it with --weights"
        ) from error


def _transform(published: models.WeightsEnum) -> Transform:
    preset: Any = published.transforms()
    (side,), (shorter,) = preset.crop_size, preset.resize_size
    return Transform(
        image_px=side,
        crop_share=round(min(side / shorter, 1.0), 4),
        interpolation=preset.interpolation.value,
        mean=tuple(preset.mean),
        std=tuple(preset.std),
    )
