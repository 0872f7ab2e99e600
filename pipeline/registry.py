"""Look a name up in a registry: a dict of name → "module:function" that can be searched with grep.

The function is imported when it is called for, so that a registry can be read without importing torch.
"""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def resolve(registry: Mapping[str, str], name: str) -> Callable[..., Any]:
    """The constructor behind a name. Raises: KeyError when the name is not in the registry."""
    module, _, function = registry[name].partition(":")
    return getattr(import_module(module), function)
