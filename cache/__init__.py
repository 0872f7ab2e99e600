"""A cache of feature maps in HDF5: survives being killed, knows what it was made from, reads at memory speed.

Knows numpy, h5py and xxhash; neither torch nor the pipeline. The format is FORMAT.md. Names are imported when
they are first used, so that the error family can be had without h5py: `--help` has to answer at once.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cache.dtypes import DTYPES as DTYPES
    from cache.earlier import generations as generations
    from cache.errors import CacheError as CacheError
    from cache.errors import StaleCacheError as StaleCacheError
    from cache.header import CacheHeader as CacheHeader
    from cache.header import Labels as Labels
    from cache.leaving_out import leave_out as leave_out
    from cache.manifest_writing import write_manifest as write_manifest
    from cache.paths import Paths as Paths
    from cache.reader import FeatureCache as FeatureCache
    from cache.relabelling import relabel as relabel
    from cache.rows import Rows as Rows
    from cache.scales import Scales as Scales
    from cache.scales import fit_scales as fit_scales
    from cache.scales import sample_rows as sample_rows
    from cache.sharding import shard_header as shard_header
    from cache.sharding import shard_paths as shard_paths
    from cache.sharding import shard_ranges as shard_ranges
    from cache.splits import CACHE_SUFFIXES as CACHE_SUFFIXES
    from cache.splits import Listed as Listed
    from cache.splits import listed as listed
    from cache.splits import listed_shards as listed_shards
    from cache.splits import missing_shards as missing_shards
    from cache.splits import split_path as split_path
    from cache.staging import stage as stage
    from cache.under_way import rows_there as rows_there
    from cache.writer import CacheWriter as CacheWriter
    from cache.writer import Status as Status

_MODULES = {
    "DTYPES": "dtypes",
    "generations": "earlier",
    "CacheError": "errors",
    "StaleCacheError": "errors",
    "CacheHeader": "header",
    "Labels": "header",
    "leave_out": "leaving_out",
    "write_manifest": "manifest_writing",
    "Paths": "paths",
    "FeatureCache": "reader",
    "relabel": "relabelling",
    "Rows": "rows",
    "Scales": "scales",
    "fit_scales": "scales",
    "sample_rows": "scales",
    "rows_there": "under_way",
    "shard_header": "sharding",
    "shard_paths": "sharding",
    "shard_ranges": "sharding",
    "Listed": "splits",
    "listed": "splits",
    "listed_shards": "splits",
    "missing_shards": "splits",
    "CACHE_SUFFIXES": "splits",
    "split_path": "splits",
    "stage": "staging",
    "CacheWriter": "writer",
    "Status": "writer",
}
__all__ = list(_MODULES)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'cache' has no attribute {name!r}")
    return getattr(import_module(f"cache.{_MODULES[name]}"), name)
