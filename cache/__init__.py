"""A cache of feature maps in HDF5: survives being killed, knows what it was made from, reads at memory speed.

Knows numpy, h5py and xxhash; neither torch nor the pipeline. The format is FORMAT.md.
"""

from cache.dtypes import DTYPES
from cache.errors import CacheError, StaleCacheError
from cache.header import CacheHeader
from cache.reader import FeatureCache
from cache.writer import CacheWriter, relabel

__all__ = ["DTYPES", "CacheError", "CacheHeader", "CacheWriter", "FeatureCache", "StaleCacheError", "relabel"]
