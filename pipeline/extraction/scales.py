"""The scales of int8 maps, which all files of a cache share, so they are there before the first is begun.

They are fitted to the trunk's maps of up to 1,024 training images, spread evenly, and written to a small file
beside the cache. Whoever comes first writes it: two machines may differ in a map's last digits, and two files
of a split must not.

Legend: n images, C×H×W map.
"""

import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cache import FeatureCache, Scales, fit_scales, sample_rows, split_path
from cache.identity import canonical
from pipeline.config import ExtractConfig
from pipeline.datasets.base import ImageSplit
from pipeline.errors import CacheError, DataError, naming
from pipeline.files import written_first
from pipeline.images.blocks import decode_sound
from pipeline.images.pool import Decoders
from pipeline.progress import say
from pipeline.trunks.base import Trunk
from pipeline.trunks.prepare import PreparedTrunk

FIT = 1
"""Version of how scales are chosen."""


def scales_for(
    config: ExtractConfig,
    trunks: Sequence[Trunk],
    prepared: PreparedTrunk,
    training: ImageSplit,
    decoders: Decoders,
) -> list[Scales | None]:
    """Scales of each of the prepared trunk's maps: those of a cache that is there, or of another worker, or
    else fitted to the training images. None of other dtypes than int8.

    Raises: DataError when no image can be decoded; CacheError when the trunk computes no numbers.
    """
    if config.dtype != "int8":
        return [None for _ in trunks]
    sample = training.take(np.array(sample_rows(len(training))))
    paths = [_path(*layer, sample, prepared) for layer in zip(config.cache_dirs, trunks, strict=True)]
    found = [_published(folder) or _read(path) for folder, path in zip(config.cache_dirs, paths, strict=True)]
    if any(scales is None for scales in found):
        say(f"int8: fitting the scales to the maps of {len(sample):,} training images")
        fitted = _fitted(sample, prepared, decoders)
        found = [
            scales or written_first(path, new) for scales, path, new in zip(found, paths, fitted, strict=True)
        ]
    return [_scales(data) for data in found if data]


def _path(folder: Path, trunk: Trunk, sample: ImageSplit, prepared: PreparedTrunk) -> Path:
    """Where scales stand that were fitted to these images' maps."""
    made_from = {
        "fit": FIT,
        "paths": sample.paths.sha256,
        "sizes": sample.sizes.tolist(),
        "trunk": trunk.as_json(),
        "transform": trunk.transform.as_json(),
        "precision": prepared.precision,
    }
    return folder / f"int8.scales-{hashlib.sha256(canonical(made_from)).hexdigest()[:16]}"


def _published(folder: Path) -> bytes | None:
    """The scales of a cache in a folder, of either split. A cache of another dtype is refused later, whatever
    the scales."""
    for split in ("train", "test"):
        if (path := split_path(folder, split)).exists():
            cache = FeatureCache(path)
            scales = (
                np.array([[1.0], [0.0]]) + np.zeros(cache.shape[2]) if cache.scales is None else cache.scales
            )
            return scales.astype("<f4").tobytes()
    return None


def _read(path: Path) -> bytes | None:
    with naming(path):
        return path.read_bytes() if path.exists() else None


def _scales(data: bytes) -> Scales:
    return np.frombuffer(data, "<f4").reshape(2, -1)


def _fitted(sample: ImageSplit, prepared: PreparedTrunk, decoders: Decoders) -> list[bytes]:
    """Scales of each layer. Images that can't be decoded are left out; whoever extracts them says so."""
    ends = list(zip(*_ends(sample, prepared, decoders), strict=True))
    if not ends:
        raise DataError(
            f"{sample.paths[0]} and {len(sample) - 1:,} other training images: expected one that can be "
            "decoded, to fit the scales of int8 to; look at the files"
        )
    try:
        return [fit_scales(end.numpy() for end in layer).astype("<f4").tobytes() for layer in ends]
    except ValueError:
        raise CacheError(
            f"--dtype int8: the trunk computed NaN or infinity for one of {len(sample):,} training images; "
            "look at the weights; --dtype float32 names the image"
        ) from None


@torch.inference_mode()
def _ends(sample: ImageSplit, prepared: PreparedTrunk, decoders: Decoders) -> Iterator[tuple[Tensor, ...]]:
    """For some images after the other, the smallest and largest numbers (2, C, 1, 1) of each layer."""
    step = prepared.best_batch  # not --batch: the last digits of maps follow it
    blocks = [range(len(sample))[at : at + step] for at in range(0, len(sample), step)]
    with contextlib.closing(decode_sound(sample, blocks, prepared.transform, decoders)) as decoded:
        for _, images, _ in decoded:
            if len(images):
                made = prepared(torch.from_numpy(images).to(prepared.device))
                yield tuple(
                    torch.stack([maps.amin((0, 2, 3)), maps.amax((0, 2, 3))])[:, :, None, None].float().cpu()
                    for maps in ((made,) if isinstance(made, Tensor) else made)
                )
