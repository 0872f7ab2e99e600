"""The drivers of remote stores: file systems of fsspec, an optional package that is imported here alone."""

import functools
import importlib.util
import os
from typing import Any

from cache.errors import StoreError
from cache.retrying import named

REQUESTS = 64
"""How many requests are under way at once: a store answers each after some tens of milliseconds."""
SILENCE = 60.0
"""Seconds after which a silent connection counts as dead."""
WEB = "http", "https"
"""Protocols whose folders are pages with links."""
PACKAGES = {
    **dict.fromkeys(WEB, "aiohttp"),
    **dict.fromkeys(("s3", "s3a"), "s3fs"),
    **dict.fromkeys(("gs", "gcs"), "gcsfs"),
    **dict.fromkeys(("abfs", "abfss", "az"), "adlfs"),
    "hf": "huggingface_hub",
}
"""Protocol → the package with its driver, for some."""


def driver(url: str) -> Any:
    """The file system of fsspec for a URL, which threads may share. Raises: StoreError."""
    try:
        fs = _driver(scheme_of(url), os.getpid())
        return fs if fs.async_impl else _new_driver(scheme_of(url))  # which it keeps for each thread
    except ImportError as error:
        package = error.name or PACKAGES.get(scheme_of(url), scheme_of(url))
        wanted = '"ten-crop-cache[remote]"' if package == "fsspec" else package
        raise StoreError(f"{url}: needs the package {package}; pip install {wanted}") from error
    except ValueError as error:
        raise StoreError(f"{url}: expected a protocol such as s3, gs, hf, https: {error}") from error
    except Exception as error:
        raise named(error, url) from error


@functools.cache
def _driver(scheme: str, process: int) -> Any:
    return _new_driver(scheme)


def _new_driver(scheme: str) -> Any:
    import fsspec

    return fsspec.filesystem(scheme, use_listings_cache=False, **_options(scheme))


@functools.cache
def _options(scheme: str) -> dict[str, Any]:
    """What a driver is told beside its own configuration: to let as many requests pass as are sent."""
    import fsspec.config

    own = fsspec.config.conf.get(scheme, {})
    if scheme in ("s3", "s3a"):
        return {"config_kwargs": {"max_pool_connections": REQUESTS, **own.get("config_kwargs", {})}}
    if scheme in WEB and importlib.util.find_spec("aiohttp"):
        from aiohttp import ClientTimeout

        timeout = ClientTimeout(total=None, sock_connect=SILENCE, sock_read=SILENCE)
        return {"client_kwargs": {"timeout": timeout, "trust_env": True, **own.get("client_kwargs", {})}}
    return {}


def scheme_of(url: str) -> str:
    """The protocol of a URL, in lower case."""
    return url.partition("://")[0].lower()
