"""`alexnet-cifar`: a plain stack of convolutions for 32×32 images that ends in 256×5×5.

    image        3×32×32
    whiten      24×31×31   2×2, patches decorrelated; not trained
    conv1, pool 64×15×15
    conv2       64×15×15
    conv3, pool 256×7×7
    conv4       256×7×7
    conv5       256×5×5    unpadded

All but the first are 3×3 with batch norm. 98 M multiply-adds and 1.4 M parameters, against 164 M and 2.45 M
of AlexNet's own channel counts at this size; it scores higher because it looks at the image at full
resolution first. The layer that would come next is pretraining's classifier
(`pipeline.pretraining.network`), not the trunk's: maps just before a layer that was trained for other classes
serve new ones better. The recipe's ideas (whitened first layer, identity start, pool before the norm, no
learned scale in the norm) are those of Keller Jordan's "94% on CIFAR-10 in 3.29 seconds" (arXiv 2404.00498).

The norm's scale stays at one, therefore positive, therefore it commutes with the maximum of the pooling
before it: the whole norm folds into its convolution (`pipeline.trunks.prepare`).
"""

import dataclasses
from pathlib import Path

from torch import nn

from pipeline.images.transform import Transform
from pipeline.trunks.base import Trunk
from pipeline.trunks.weights import load_weights
from pipeline.trunks.whitening import Whitening

VERSION = 2
SHIPPED = Path(__file__).with_suffix(".safetensors")
TRANSFORM = Transform(image_px=32, mean=(0.4914, 0.4822, 0.4465), std=(0.247, 0.2435, 0.2616))


def load(weights: Path | None = None) -> Trunk:
    """The trunk with the shipped weights, or with those at `weights`. Raises: WeightsError."""
    trunk = untrained()
    digest = load_weights(trunk.module, weights or SHIPPED)
    trunk.module.eval()
    return dataclasses.replace(trunk, weights_sha256=digest)


def untrained() -> Trunk:
    """The trunk with its initial weights: (B, 3, S, S) → (B, 256, H, W); S = 32 gives H = W = 5."""
    module = nn.Sequential(
        Whitening(),
        nn.GELU(),
        *_layer(24, 64, pool=True),
        *_layer(64, 64),
        *_layer(64, 256, pool=True),
        *_layer(256, 256),
        *_layer(256, 256, padding=0),
    )
    return Trunk("alexnet-cifar", VERSION, module, TRANSFORM, weights_sha256="")


def _layer(c_in: int, c_out: int, padding: int = 1, pool: bool = False) -> list[nn.Module]:
    conv = nn.Conv2d(c_in, c_out, 3, padding=padding, bias=False)
    nn.init.dirac_(conv.weight[:c_in])  # the rest keeps its random start
    norm = nn.BatchNorm2d(c_out)
    norm.weight.requires_grad_(False)
    return [conv, *([nn.MaxPool2d(2)] if pool else []), norm, nn.GELU()]
