"""torchvision's networks with their ImageNet weights, up to the last pooling.

    alexnet  208 px (any size from 191 to 222)  256×5×5
    vgg16    448 px                             512×14×14   (576 px: 512×18×18)

VGG-16 (Simonyan & Zisserman, 2015) sees whole images, squashed into the square: no object at the rim is lost.
"""

from pathlib import Path
from urllib.error import URLError

import torch
from torch import nn
from torchvision import models

from pipeline.errors import WeightsError
from pipeline.images.transform import Transform
from pipeline.progress import on_terminal
from pipeline.trunks.base import Trunk
from pipeline.trunks.weights import load_weights, weights_digest

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
VERSION = 1


def alexnet(weights: Path | None = None) -> Trunk:
    """AlexNet with torchvision's weights, or those in a file (the whole network's). Raises: WeightsError."""
    network, transform = models.alexnet(), Transform(image_px=208, mean=MEAN, std=STD)
    return _load("alexnet", network, models.AlexNet_Weights.IMAGENET1K_V1, weights, transform)


def vgg16(weights: Path | None = None) -> Trunk:
    """VGG-16 with torchvision's weights, or those in a file (the whole network's). Raises: WeightsError."""
    network = models.vgg16(init_weights=False)
    transform = Transform(image_px=448, resize="squash", mean=MEAN, std=STD)
    return _load("vgg16", network, models.VGG16_Weights.IMAGENET1K_V1, weights, transform)


def _load(
    name: str, network: nn.Module, published: models.WeightsEnum, path: Path | None, transform: Transform
) -> Trunk:
    if path is None:
        path = Path(torch.hub.get_dir()) / "checkpoints" / Path(published.url).name
        if not path.is_file():
            _download(published, path)
    load_weights(network, path)
    features = network.get_submodule("features")
    return Trunk(name, VERSION, features, transform, weights_digest(features))


def _download(published: models.WeightsEnum, path: Path) -> None:
    try:
        published.get_state_dict(progress=on_terminal(), check_hash=True)
    except (URLError, OSError, RuntimeError) as error:
        reason = getattr(error, "reason", error)
        raise WeightsError(
            f"{published.url}: can't be downloaded ({reason}); fetch it where there is a network and put it "
            f"at {path}, or name it with --weights"
        ) from error
