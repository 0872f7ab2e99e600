"""Open a set by the `datasets` library: from its hub, from a saved folder, or from files of its formats."""

import contextlib
import glob
import os
import re
import socket
import sys
import tarfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import getproxies

from pipeline.errors import DataError, UserError, needs_extra
from pipeline.wording import some

if TYPE_CHECKING:
    from datasets import Dataset

WORDS = {
    "train": ("train", "training"),
    "test": ("test", "testing", "eval", "evaluation"),
    "val": ("val", "valid", "validation", "dev"),
}
"""What parts are called, in the library and in the names of files."""
BUILDERS = {".parquet": "parquet", ".tar": "webdataset"}
"""Suffix of files → what the library calls their format."""


def opened(path: str, where: str) -> dict[str, "Dataset"]:
    """The parts of a set, by what they are called. Raises: DataError, and the library's own errors."""
    _prepare(is_local := _is_local(path))
    with needs_extra(f"--dataset {where}", "datasets"):
        from datasets import Dataset, disable_progress_bars, load_dataset, load_from_disk

    if not sys.stderr.isatty():
        disable_progress_bars()
    if any(os.path.isfile(os.path.join(path, name)) for name in ("dataset_dict.json", "state.json")):
        found = load_from_disk(path)
        return {"train": found} if isinstance(found, Dataset) else {str(k): v for k, v in found.items()}
    if is_local:
        files = _files(path, where)
        builder = BUILDERS[Path(files[0]).suffix]
        found = load_dataset(builder, data_files=_by_word(files))
    else:
        name, _, config = path.partition(":")
        found = load_dataset(name, config or None)
    return {str(name): part for name, part in found.items()}


def _is_local(path: str) -> bool:
    return (
        os.path.exists(path)
        or glob.has_magic(path)
        or path.startswith(("/", "."))
        or Path(path).suffix in BUILDERS
    )


def _files(path: str, where: str) -> list[str]:
    """The parquet or tar files that a path means, sorted."""
    inside = [os.path.join(path, "**", f"*{suffix}") for suffix in BUILDERS]
    patterns = inside if os.path.isdir(path) else [path]
    exact = [path] if os.path.isfile(path) else []
    files = exact or sorted(file for pattern in patterns for file in glob.glob(pattern, recursive=True))
    suffixes = {Path(file).suffix for file in files}
    if len(suffixes) != 1 or not suffixes <= BUILDERS.keys():
        raise DataError(
            f"{where}: expected a folder that save_to_disk wrote, or {' or '.join(BUILDERS)} files, found "
            f"{some(sorted(suffixes)) or 'none'}; image files are read as folder:PATH or csv:FILE"
        )
    return files


def _by_word(files: Sequence[str]) -> dict[str, list[str]]:
    """Part → files, by the words of their names below the folder that holds them all."""
    top = os.path.commonpath([os.path.dirname(file) for file in files])
    found = defaultdict[str, list[str]](list)
    for file in files:
        said = re.split(r"[^a-z]+", os.path.relpath(file, top).lower())
        found[next((role for role, words in WORDS.items() if set(words) & set(said)), "")].append(file)
    return (
        {"train": list(files)}
        if set(found) == {""}
        else {role or "others": part for role, part in found.items()}
    )


def _prepare(is_local: bool) -> None:
    """Have the library give up at once where there is no network: it would try for 23 s."""
    if not is_local and not getproxies():
        with contextlib.suppress(ValueError):
            host = urlsplit(os.environ.get("HF_ENDPOINT", "https://huggingface.co")).hostname
            try:
                socket.getaddrinfo(host, 443)
            except OSError:
                os.environ.setdefault("HF_HUB_OFFLINE", "1")


@contextlib.contextmanager
def in_one_line(where: str) -> Iterator[None]:
    """Raises: DataError for whatever the library says, which may be a page."""
    try:
        yield
    except UserError:
        raise
    except ConnectionError as error:
        name = where.removeprefix("hf:")
        raise DataError(
            f"{where}: not in the library's store, and the Hugging Face hub can't be reached; where there is "
            f"a network, load_dataset({name!r}).save_to_disk('FOLDER'), and give hf:FOLDER here"
        ) from error
    except (OSError, ValueError, TypeError, KeyError, RuntimeError, tarfile.TarError) as error:
        said = " ".join(str(error).split())[:300]
        raise DataError(f"{where}: can't be read by the library datasets: {said}") from error
