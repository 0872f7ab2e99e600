"""Weights from the Hugging Face hub: one line instead of a minute of retries where there is no network."""

import contextlib
import urllib.request
from collections.abc import Iterator
from urllib.error import HTTPError, URLError

from pipeline.errors import WeightsError

TIMEOUT_S = 10


@contextlib.contextmanager
def reachable(
    url: str,
    repository: str | None,
    files: tuple[str, ...],
    remedy: str = "fetch it where there is a network, and name it with --weights",
) -> Iterator[None]:
    """Download something inside, or find it among what was downloaded before.

    Raises: WeightsError naming the URL and what to do, when neither is possible.
    """
    from huggingface_hub import try_to_load_from_cache

    there = repository and any(isinstance(try_to_load_from_cache(repository, f), str) for f in files)
    advice = f"{url}: can't be downloaded ({{}}); {remedy}"
    if not there:
        try:
            request = urllib.request.Request(url, method="HEAD")
            urllib.request.urlopen(request, timeout=TIMEOUT_S).close()
        except HTTPError as error:
            if error.code == 404 or error.code >= 500:
                raise WeightsError(advice.format(error)) from error
        except (URLError, OSError) as error:
            raise WeightsError(advice.format(getattr(error, "reason", error))) from error
    try:
        yield
    except Exception as error:  # the hub's, the client's and the library's own errors have no common base
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise WeightsError(advice.format(reason)) from error
