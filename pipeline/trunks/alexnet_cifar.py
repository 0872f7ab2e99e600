"""`alexnet-cifar`: a plain stack of convolutions for 32×32 images that ends in 256×5×5.

    image        3×32×32
    whiten      24×31×31   2×2, patches decorrelated; not trained
    conv1, pool 64×15×15   first stage
    conv2       64×15×15
    conv3, pool 256×7×7    second stage
    conv4       256×7×7
    conv5       256×5×5    third stage, unpadded

All but the first are 3×3 with batch norm. 98 M multiply-adds and 1.4 M parameters, against 164 M and 2.45 M
of AlexNet's own channel counts at this size; it scores higher because it looks at the image at full
resolution first. The layer that would come next, the last of the third stage, is pretraining's classifier
(`pipeline.pretraining.network`), not the trunk's: maps just before a layer that was trained for other classes
serve new ones better. The recipe's ideas (whitened first layer, identity start, pool before the norm, no
learned scale in the norm) are those of Keller Jordan's "94% on CIFAR-10 in 3.29 seconds" (arXiv 2404.00498).

The norm's scale stays at one, therefore positive, therefore it commutes with the maximum of the pooling
before it: the whole norm folds into its convolution (`pipeline.trunks.prepare`).

Other widths and more layers per stage are trunks of the same kind. A file of weights tells its own by the
shapes in it, so it loads wherever the shipped one does; a cache's identity holds them.
"""

import dataclasses
import itertools
from collections.abc import Sequence
from pathlib import Path

from torch import nn

from pipeline.images.transform import Transform
from pipeline.trunks.base import Trunk
from pipeline.trunks.weights import load_weights, read_weights
from pipeline.trunks.whitening import Whitening

VERSION = 2
SHIPPED = Path(__file__).with_suffix(".safetensors")
WIDE = SHIPPED.with_stem("alexnet_cifar_wide")
WIDTHS, STAGE_LAYERS = (64, 256, 256), 2
"""The shape of the shipped weights."""
TRANSFORM = Transform(image_px=32, mean=(0.4914, 0.4822, 0.4465), std=(0.247, 0.2435, 0.2616))


def load(weights: Path | None = None) -> Trunk:
    """The trunk with the shipped weights, or those at `weights`, in their shape. Raises: WeightsError."""
    trunk = untrained(*_shape_in(weights)) if weights else untrained()
    digest = load_weights(trunk.module, weights or SHIPPED)
    trunk.module.eval()
    return dataclasses.replace(trunk, weights_sha256=digest)


def load_wide(weights: Path | None = None) -> Trunk:
    """`alexnet-cifar-wide`, whose shipped weights have 64-384-256 channels and three layers a stage: 247 M
    multiply-adds, 4.4 M parameters. Raises: WeightsError."""
    return dataclasses.replace(load(weights or WIDE), name="alexnet-cifar-wide")


def untrained(widths: Sequence[int] = WIDTHS, stage_layers: int = STAGE_LAYERS) -> Trunk:
    """The trunk with its initial weights: (B, 3, S, S) → (B, C, H, W); S = 32 gives H = W = 5.

    widths: channels of each of the three stages, of which the last is C.
    stage_layers: convolutions in each stage, that of the classifier included.
    """
    starts, white = (0, stage_layers, 2 * stage_layers), Whitening()
    layers = [
        _layer(c_in, c_out, padding=int(i != starts[2]), pool=i in starts[:2])
        for i, (c_in, c_out) in enumerate(_convolutions(white.out_channels, widths, stage_layers))
    ]
    module = nn.Sequential(white, nn.GELU(), *itertools.chain.from_iterable(layers))
    shape = {"widths": list(widths), "stage_layers": stage_layers}
    facts = {} if (tuple(widths), stage_layers) == (WIDTHS, STAGE_LAYERS) else shape
    return Trunk("alexnet-cifar", VERSION, module, TRANSFORM, weights_sha256="", facts=facts)


def _convolutions(white: int, widths: Sequence[int], stage_layers: int) -> list[tuple[int, int]]:
    """Channels that go into each convolution behind the first layer's `white` ones, and that come out."""
    counts = (stage_layers, stage_layers, stage_layers - 1)
    outputs = [width for width, count in zip(widths, counts, strict=True) for _ in range(count)]
    return list(itertools.pairwise([white, *outputs]))


def _shape_in(path: Path) -> tuple[tuple[int, ...], int]:
    """Widths and layers per stage of the weights in a file; the shipped ones' where they are of another kind
    of network, which is refused when they are loaded. Raises: WeightsError."""
    found = {name: tuple(t.shape) for name, t in read_weights(path).items() if t.ndim == 4}
    stage_layers = len(found) // 3
    firsts = (f"{2 + stage * (3 * stage_layers + 1)}.weight" for stage in range(3))
    widths = tuple(found.get(name, (0,))[0] for name in firsts)
    white = found.get("0.weight", (0,))
    behind = [(c_out, c_in, 3, 3) for c_in, c_out in _convolutions(white[0], widths, stage_layers)]
    is_alike = all(widths) and sorted(found.values()) == sorted([white, *behind])
    return (widths, stage_layers) if is_alike else (WIDTHS, STAGE_LAYERS)


def _layer(c_in: int, c_out: int, padding: int = 1, pool: bool = False) -> list[nn.Module]:
    conv = nn.Conv2d(c_in, c_out, 3, padding=padding, bias=False)
    nn.init.dirac_(conv.weight[:c_in])  # the rest keeps its random start
    norm = nn.BatchNorm2d(c_out)
    norm.weight.requires_grad_(False)
    return [conv, *([nn.MaxPool2d(2)] if pool else []), norm, nn.GELU()]
