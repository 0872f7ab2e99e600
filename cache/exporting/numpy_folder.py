"""A cache → a folder of plain arrays and texts, which `python -m cache import` reads too."""

import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from cache.dtypes import DTYPES
from cache.errors import CacheError
from cache.reader import FeatureCache


def export(cache: FeatureCache, out: Path, watch: Callable[[float], object] = lambda share: None) -> None:
    """Write features.npy, labels.npy, paths.txt, classes.txt and about.json (identity, notes, key).

    features.npy is (N, C, H, W), or (N, D) of 1×1 maps, with several views (N, V, C, H, W).

    Raises: CacheError when a name has a line break or `out` is there; OSError.
    """
    texts = {"paths": _lines(cache.path, cache.paths), "classes": _lines(cache.path, cache.classes)}
    part = out.with_name(out.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    for name, text in texts.items():
        (part / f"{name}.txt").write_text(text, encoding="utf-8", newline="\n")
    about = {"identity": cache.identity, "notes": cache.notes, "key": cache.key}
    (part / "about.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    np.save(part / "labels.npy", cache.labels)
    raw = DTYPES[cache.dtype].raw
    stored = raw if raw.kind == "f" else np.dtype("<f4")
    with (part / "features.npy").open("wb") as file:
        head = {"descr": stored.str, "fortran_order": False, "shape": exported_shape(cache.shape)}
        np.lib.format.write_array_header_1_0(file, head)
        for start in range(0, len(cache), cache.block_rows):
            rows = np.arange(start, min(start + cache.block_rows, len(cache)))
            cache.verify(rows)
            file.write(cache.decode(cache.read(rows, None)).data)
            watch((rows[-1] + 1) / len(cache))
    os.rename(part, out)


def exported_shape(shape: Sequence[int]) -> tuple[int, ...]:
    """(N, V, C, H, W) without the axes that hold one view, or one cell."""
    n, v, c, h, w = shape
    return (n, v, c, h, w) if v > 1 else (n, c) if h == w == 1 else (n, c, h, w)


def _lines(path: Path, texts: Sequence[str]) -> str:
    if broken := next((text for text in texts if "\n" in text), None):
        raise CacheError(f"{path}: {broken!r} has a line break, which a text file can't hold")
    return "".join(f"{text}\n" for text in texts)
