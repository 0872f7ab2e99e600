"""Stage one: run a frozen trunk once over every image and store its maps.

    decode (threads, processes) → uint8 block → views, trunk (a batch per stream) → maps → cache (a thread)

Decoding, computing and writing overlap; the summary says which of them the others waited for.
"""

import contextlib
import dataclasses
from collections.abc import Sequence
from pathlib import Path

import torch

from cache import CacheWriter, FeatureCache
from pipeline.config import ExtractConfig
from pipeline.datasets.base import ImageSplit, open_dataset
from pipeline.device import pick_device, set_up
from pipeline.errors import DataError
from pipeline.extraction.in_both import images_in_both
from pipeline.extraction.jobs import Job, announce, plan
from pipeline.extraction.overlap import write_missing
from pipeline.extraction.parity import check_parity
from pipeline.extraction.refresh import refresh, refuse_changed_images
from pipeline.extraction.stamp import Files
from pipeline.images.decode import ImageError
from pipeline.images.pool import Decoders
from pipeline.trunks import TRUNKS, layer_lines, load_trunk, load_trunks
from pipeline.trunks.base import Trunk
from pipeline.trunks.loading import joint
from pipeline.trunks.prepare import PreparedTrunk


def extract(config: ExtractConfig) -> Path:
    """Write CACHE/train.h5 and CACHE/test.h5 and give the folder.

    Several layers have folders in it, CACHE/LAYER/train.h5 and so on. For --trunk SPEC@? only print them.

    Raises: DataError (an image), WeightsError, StaleCacheError (a cache of something else is in the way),
        CacheError (disk full, another extraction at work).
    """
    if config.lists_layers:
        print(*layer_lines(config.trunk, **config.transform), sep="\n")
        return config.cache_dir
    # A mistyped model or layer is refused before images are looked for; a short name was checked before.
    early = () if config.trunk in TRUNKS else trunks_of(config)
    splits = open_dataset(
        config.dataset,
        test_fraction=config.test_fraction,
        seed=config.split_seed,
        label_separator=config.label_separator,
        label_column=config.label_column,
    )
    # A published cache has nothing to decode: it is up to date, or refused.
    to_decode = [split for split in splits.values() if has_to_be_decoded(split, config)]
    # First of all, so that processes start while the trunk and the device do.
    with Decoders(to_decode, config.decoders) as decoders:
        trunks, device = early or trunks_of(config), pick_device(config.device)
        set_up(device, tf32=False)
        prepared = prepare(trunks, device, config.precision)
        for folder in config.cache_dirs:
            folder.mkdir(parents=True, exist_ok=True)
        jobs = [
            plan(config, trunk, prepared, split, decoders, layer)
            for split in splits.values()
            for layer, trunk in enumerate(trunks)
        ]
        announce(config, prepared, jobs)
        for at in range(0, len(jobs), len(trunks)):
            run(config, list(zip(jobs[at:], trunks, strict=False)), prepared, decoders)
    for folder in config.cache_dirs:
        if shared := images_in_both(*(FeatureCache(folder / f"{name}.h5") for name in ("train", "test"))):
            print(shared)
            break
    return config.cache_dir


def run(
    config: ExtractConfig, pairs: Sequence[tuple[Job, Trunk]], prepared: PreparedTrunk, decoders: Decoders
) -> None:
    """Do the jobs of a split: compute what isn't there, for all layers at once, and check the rest."""
    missing = [(job, trunk) for job, trunk in pairs if job.status in ("absent", "partial")]
    for job, _ in pairs:
        if job.status in ("complete", "relabel"):
            refresh(job, config.decoders)
    if not missing:
        return
    if len(missing) < len(pairs):
        prepared = prepare(tuple(trunk for _, trunk in missing), prepared.device, config.precision)
    summary = make([job for job, _ in missing], prepared, decoders, config.batch)
    for job, trunk in missing:
        worst = check_parity(job.path, job.split, trunk, job.views)
        job.files.write(FeatureCache(job.path))
        print(f"{job.path}: {summary}; equal to the live trunk within {worst:.1g}")


def has_to_be_decoded(split: ImageSplit, config: ExtractConfig) -> bool:
    """Whether images of a split will have to be decoded, as far as can be said before the trunk is there."""
    paths = [folder / f"{split.split}.h5" for folder in config.cache_dirs]
    if all(path.exists() for path in paths) and config.on_bad_image == "skip":
        return not Files.of(paths[0], split, rehash=config.rehash).unchanged.all()
    return not all(path.exists() for path in paths)


def trunk_of(config: ExtractConfig) -> Trunk:
    """The trunk that --trunk, --weights and the flags of its transform describe. Raises: WeightsError."""
    return load_trunk(config.trunk, config.weights, **config.transform)


def trunks_of(config: ExtractConfig) -> tuple[Trunk, ...]:
    """A trunk for each layer that --trunk names. Raises: ConfigError, WeightsError."""
    if len(config.cache_dirs) == 1:
        return (trunk_of(config),)
    return load_trunks(config.trunk, config.weights, **config.transform)


def prepare(trunks: tuple[Trunk, ...], device: torch.device, precision: str) -> PreparedTrunk:
    """One prepared trunk for all layers of a network, which gives a tuple of maps if there are several."""
    (first, *others) = trunks
    whole = dataclasses.replace(first, module=joint(trunks)) if others else first
    return PreparedTrunk(whole, device, precision)


def make(jobs: Sequence[Job], prepared: PreparedTrunk, decoders: Decoders, batch: int | None = None) -> str:
    """Compute what is missing of a split and publish its caches, one for each of the prepared trunk's maps;
    gives a summary.

    Raises: DataError (an image; names the flag that leaves it out), StaleCacheError, CacheError.
    """
    split, views = jobs[0].split, jobs[0].views
    with contextlib.ExitStack() as stack:
        writers = [stack.enter_context(CacheWriter(job.path, job.header)) for job in jobs]
        for job, writer in zip(jobs, writers, strict=True):
            if not writer.is_locked:
                print(f"{job.path}: this file system has no locks; don't extract to it twice at a time")
            refuse_changed_images(job, writer.image_digests, decoders)
        try:
            summary = write_missing(writers, split, views, prepared, decoders, batch)
        except ImageError as error:
            advice = "fix or remove it, or leave such images out: --on-bad-image skip"
            begun = [
                f"{job.path}.part"
                for job, writer in zip(jobs, writers, strict=True)
                if sum(map(len, writer.missing)) < len(split)  # any of the three changes the list of images
            ]
            if begun:
                advice += (
                    f"; then delete {' and '.join(begun)}, whose finished blocks belong to the images as "
                    "they are"
                )
            raise DataError(f"{error}; {advice}") from error
        for writer in writers:
            writer.publish()
    return summary
