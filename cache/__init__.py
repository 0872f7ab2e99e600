"""A cache of feature maps in HDF5: survives being killed, knows what it was made from, reads at memory speed.

Knows numpy, h5py and xxhash; neither torch nor the pipeline. The format is FORMAT.md. Names are imported when
they are first used, so that the error family can be had without h5py: `--help` has to answer at once.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cache.dtypes import DTYPES
    from cache.errors import CacheError, StaleCacheError
    from cache.header import CacheHeader, Labels
    from cache.reader import FeatureCache
    from cache.relabelling import relabel
    from cache.writer import CacheWriter

__all__ = [
    "DTYPES",
    "CacheError",
    "CacheHeader",
    "CacheWriter",
    "FeatureCache",
    "Labels",
    "StaleCacheError",
    "relabel",
]

_MODULE = {
    "DTYPES": "cache.dtypes",
    "CacheError": "cache.errors",
    "StaleCacheError": "cache.errors",
    "CacheHeader": "cache.header",
    "Labels": "cache.header",
    "FeatureCache": "cache.reader",
    "CacheWriter": "cache.writer",
    "relabel": "cache.relabelling",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULE:
        raise AttributeError(f"module 'cache' has no attribute {name!r}")
    return getattr(import_module(_MODULE[name]), name)
