"""`alexnet`: torchvision's AlexNet with its ImageNet weights, up to the last pooling.

At the 208 px used here (as at any size from 191 to 222) the map is exactly 256×5×5.
"""

from pathlib import Path

from torchvision.models import AlexNet_Weights, alexnet

from pipeline.images.transform import Transform
from pipeline.trunks.base import Trunk
from pipeline.trunks.imagenet import MEAN, STD, load_imagenet_weights
from pipeline.trunks.weights import weights_digest

VERSION = 1
TRANSFORM = Transform(image_px=208, mean=MEAN, std=STD)


def load(weights: Path | None = None) -> Trunk:
    """The trunk with torchvision's weights, or those in `weights` (the whole network's).

    Raises: WeightsError.
    """
    network = alexnet()
    load_imagenet_weights(network, AlexNet_Weights.IMAGENET1K_V1, weights)
    module = network.features.eval()
    return Trunk("alexnet", VERSION, module, TRANSFORM, weights_digest(module))
