"""What a layer of a network gives, as a map.

    (B, C, H, W)          a map
    (B, H, W, C)          a map with its channels last (Swin)
    (B, p + H·W, C)       tokens of H×W patches after p of class and registers (ViT), which are left out
    several of these      in a list, tuple or dictionary: the last if each is smaller than the one before, and
                          else the first

Legend: B images of S×S, of which H×W cells of C channels are made; square, so H = W.
"""

import itertools
import math
import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

PREFIX = re.compile(
    r"(^|\.)(cls_token|class_token|class_embedding|dist_token|reg_token|register_tokens?|storage_tokens)$"
)
"""What implementations of transformers call the tokens that they put before those of the patches."""


def prefix_tokens_of(module: nn.Module) -> int:
    """The number of tokens of class and registers before those of the patches, by their names."""
    named = [p for name, p in module.named_parameters() if PREFIX.search(name)]
    return sum(parameter.numel() // parameter.shape[-1] for parameter in named)


def to_map(output: Any, prefix_tokens: int) -> Tensor | None:
    """What a layer gave as (B, C, H, W); None if it is no map."""
    output = _one_of(output)
    if not isinstance(output, Tensor) or not output.is_floating_point():
        return None
    if output.ndim == 4:
        _, a, b, c = output.shape
        if b == c:
            return output
        return output.permute(0, 3, 1, 2) if a == b else None
    if output.ndim == 3:
        for prefix in dict.fromkeys((prefix_tokens, 0)):
            side = math.isqrt(max(output.shape[1] - prefix, 0))
            if side and side**2 == output.shape[1] - prefix:
                return output[:, prefix:].transpose(1, 2).unflatten(2, (side, side))
    return None


def _one_of(output: Any) -> Any:
    """What is meant of several outputs: the deepest maps of a pyramid, and else the first output."""
    if hasattr(output, "last_hidden_state"):
        return output.last_hidden_state
    if isinstance(output, Mapping):
        output = [value for value in output.values() if isinstance(value, Tensor) and value.ndim > 2]
    if not isinstance(output, tuple | list):
        return output
    sides = [value.shape[2] for value in output if isinstance(value, Tensor) and value.ndim == 4]
    is_pyramid = len(sides) == len(output) and all(a > b for a, b in itertools.pairwise((*sides, 1)))
    return output[-1 if is_pyramid else 0] if output else None
