"""What an adapter gives of a library's model: the one interface of `timm_models.py` and its neighbours."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from pipeline.images.transform import Transform

Convert = Callable[[dict[str, Tensor]], Mapping[str, Tensor]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Network:
    """A whole network with its classifier: module(normalised images (B, 3, S, S)) → whatever it gives."""

    module: nn.Module
    transform: Transform
    """The input that it was trained with."""
    facts: Mapping[str, Any]
    """What else decides its maps: the library with its version, or the digest of your own code."""
    prefix_tokens: int = 0
    """Tokens before those of the patches: class and register tokens."""
    classifier: tuple[str, ...] = ()
    """Names of modules that come after the maps: no layer below them is the default one."""
    layer: str | None = None
    """The default layer; None means the last that gives maps."""
    unfilled: frozenset[str] = frozenset()
    """Names of weights that are random, since the published files don't have them."""
    convert: Convert | None = None
    """From what the library's files hold, names and shapes, to what the module does."""
    rename: bool = False
    """Whether a file may hold the weights under other names, in the network's order."""
    version: int = 1
    """Counts the changes of this project's code that change what the module computes."""


Opened = Callable[[str, bool, int | None], Network]
"""An adapter: (model, with its published weights?, the images' side or None) → the network, in evaluation
mode. Raises: ConfigError naming the nearest models when there is none of this name; WeightsError when its
weights are not there and can't be had."""
