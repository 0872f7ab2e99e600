"""ImageNet weights for torchvision's networks: downloaded once, or from a file where there is no network."""

from pathlib import Path
from urllib.error import URLError

import torch
from torch import nn
from torchvision.models import WeightsEnum

from pipeline.errors import WeightsError
from pipeline.trunks.weights import load_weights

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


def load_imagenet_weights(network: nn.Module, published: WeightsEnum, path: Path | None) -> None:
    """Fill a whole network with its published weights, or with those in the file at `path`.

    Raises: WeightsError; when the download fails it says where to put the file by hand.
    """
    if path is None:
        path = Path(torch.hub.get_dir()) / "checkpoints" / Path(published.url).name
        if not path.is_file():
            _download(published, path)
    load_weights(network, path)


def _download(published: WeightsEnum, path: Path) -> None:
    try:
        published.get_state_dict(progress=True, check_hash=True)
    except (URLError, OSError, RuntimeError) as error:
        reason = getattr(error, "reason", error)
        raise WeightsError(
            f"{published.url}: can't be downloaded ({reason}); fetch it where there is a network and put it "
            f"at {path}, or name it with --weights"
        ) from error
