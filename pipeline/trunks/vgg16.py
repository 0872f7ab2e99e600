"""`vgg16`: torchvision's VGG-16 (Simonyan & Zisserman, 2015) with its ImageNet weights, up to the last pool.

Whole images are squashed into the square, so that no object at the rim is lost: 448 px give maps of
512×14×14, --image-px 576 gives 512×18×18.
"""

from pathlib import Path

from torchvision.models import VGG16_Weights, vgg16

from pipeline.images.transform import Transform
from pipeline.trunks.base import Trunk
from pipeline.trunks.imagenet import MEAN, STD, load_imagenet_weights
from pipeline.trunks.weights import weights_digest

VERSION = 1
TRANSFORM = Transform(image_px=448, resize="squash", mean=MEAN, std=STD)


def load(weights: Path | None = None) -> Trunk:
    """The trunk with torchvision's weights, or those in `weights` (the whole network's).

    Raises: WeightsError.
    """
    network = vgg16(init_weights=False)
    load_imagenet_weights(network, VGG16_Weights.IMAGENET1K_V1, weights)
    module = network.features.eval()
    return Trunk("vgg16", VERSION, module, TRANSFORM, weights_digest(module))
