"""The weights in files as programs that train write them: in a dictionary beside others, under a prefix.

{"epoch": 90, "state_dict": {"module.conv1.weight": ..., "module.fc.weight": ...}}
"""

from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any

from torch import Tensor

from pipeline.errors import WeightsError
from pipeline.wording import some


def state_dict_in(loaded: Any, path: Path) -> dict[str, Tensor]:
    """The tensors of what was read from a file, or of the one dictionary of tensors in it.

    Raises: WeightsError when there is none, or a choice.
    """
    if _is_state_dict(loaded):
        return dict(loaded)
    inner = loaded if isinstance(loaded, Mapping) else {}
    found = {str(key): value for key, value in inner.items() if _is_state_dict(value) and value}
    if len(found) == 1:
        return dict(*found.values())
    if found:
        raise WeightsError(
            f"{path}: expected the weights of one network, found several: {some(map(repr, found))}; save one "
            f"alone: torch.save(torch.load({path.name!r})[{min(found)!r}], 'weights.pth')"
        )
    raise WeightsError(f"{path}: expected a dict of tensors; save network.state_dict()")


def _is_state_dict(value: Any) -> bool:
    return isinstance(value, Mapping) and all(isinstance(t, Tensor) for t in value.values())


def without_prefix(tensors: dict[str, Tensor], needed: Set[str], path: Path) -> dict[str, Tensor]:
    """The tensors of a network that is part of another one (`module.`, `backbone.`), by its own names.

    As they are if there is no prefix under which all that is needed stands.

    Raises: WeightsError when there are several.
    """
    if not needed or needed <= tensors.keys():
        return tensors
    one = max(needed, key=len)
    prefixes = [name.removesuffix(one) for name in tensors if name.endswith(f".{one}")]
    whole = [prefix for prefix in prefixes if all(prefix + name in tensors for name in needed)]
    if len(whole) > 1:
        raise WeightsError(
            f"{path}: expected the weights of one network, found several: under {some(map(repr, whole))}; "
            "save one of them alone"
        )
    if not whole:
        return tensors
    return {name.removeprefix(whole[0]): t for name, t in tensors.items() if name.startswith(whole[0])}
