"""Stage one: run a frozen trunk once over every image and store its maps.

    decode (threads, processes) → uint8 block → views, trunk (a batch per stream) → maps → cache (a thread)

Decoding, computing and writing overlap; the summary says which of them the others waited for.
"""

import contextlib
import dataclasses
import functools
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from cache import CacheWriter, FeatureCache, shard_paths, split_path
from pipeline.config import ExtractConfig
from pipeline.datasets.base import ImageSplit, open_dataset
from pipeline.datasets.corrections import corrected
from pipeline.device import pick_device, set_up
from pipeline.engines.passport import clear_marks
from pipeline.errors import DataError
from pipeline.extraction.agreement import agree
from pipeline.extraction.growing import grow
from pipeline.extraction.in_both import images_in_both
from pipeline.extraction.jobs import Job, announce, plan
from pipeline.extraction.overlap import write_missing
from pipeline.extraction.parity import check_parity
from pipeline.extraction.ranks import Rank, own_gpu, rank_of, workers_for
from pipeline.extraction.refresh import refresh, refuse_changed_images
from pipeline.extraction.scales import scales_for
from pipeline.extraction.shards import file_of, missing_files, publish
from pipeline.extraction.stamp import Files
from pipeline.extraction.together import together
from pipeline.images.decode import ImageError
from pipeline.images.pool import Decoders
from pipeline.progress import say, silent
from pipeline.trunks import TRUNKS, layer_lines, load_trunk, load_trunks
from pipeline.trunks.base import Trunk
from pipeline.trunks.loading import joint
from pipeline.trunks.prepare import PreparedTrunk

WORTH_A_WORKER = 4096
"""Images from which another GPU is worth the seconds of its start; fewer are done sooner without."""


def extract(config: ExtractConfig) -> Path:
    """Write CACHE/train.h5 and CACHE/test.h5 and give the folder; of a split in several files, train.json.

    Several layers have folders in it, CACHE/LAYER/train.h5 and so on. For --trunk SPEC@? only print them.
    With --shard do one worker's share of it.

    Raises: DataError (an image), WeightsError, StaleCacheError (a cache of something else is in the way),
        CacheError (disk full, another extraction at work), WorkerError (a worker was killed).
    """
    if config.lists_layers:
        print(*layer_lines(config.trunk, **config.transform), sep="\n")
        return config.cache_dir
    rank = rank_of(config.shard) if config.shard else None
    workers = rank.of if rank else workers_for(config)
    if rank:
        own_gpu(rank)
    grows = rank is None or rank.number == 0
    with opened(config, workers, is_worker=bool(rank), grows=grows) as work:
        workers = work.workers
        announce(config, work.prepared, work.jobs, workers)
        if rank or workers == 1 or all(job.is_there for job in work.jobs):
            lines = share(work, *(rank or Rank(0, 1)))
        else:
            lines = together(config, work.jobs, workers, extract_shard)
        for line in lines:
            say(line)
        if not rank:
            finish(work)
    return config.cache_dir


def extract_shard(config: ExtractConfig, rank: int, count: int) -> str:
    """Do a worker's share of an extraction: of each split every file whose number is `rank`, `rank` + `count`
    and so on; gives lines about them. Shows nothing meanwhile.

    Raises: as `extract`.
    """
    with silent(), opened(config, count) as work:
        return "\n".join(share(work, rank, count))


@dataclasses.dataclass(frozen=True)
class Work:
    """An extraction whose images and trunk are there."""

    config: ExtractConfig
    splits: Sequence[Sequence[tuple[Job, Trunk]]]
    """The jobs of each split, one for each layer, with its trunk."""
    prepared: PreparedTrunk
    decoders: Decoders
    workers: int

    @property
    def jobs(self) -> list[Job]:
        return [job for pairs in self.splits for job, _ in pairs]


@contextlib.contextmanager
def opened(
    config: ExtractConfig, workers: int, *, is_worker: bool = True, grows: bool = False
) -> Iterator[Work]:
    """Open images and trunk, and plan what there is to do for so many workers. Raises: as `extract`.

    is_worker: whether images are decoded here, and not by others. grows: see `plan`.
    """
    # A mistyped model or layer is refused before images are looked for; a short name was checked before.
    early = () if config.trunk in TRUNKS else trunks_of(config)
    splits = open_dataset(
        config.dataset,
        test_fraction=config.test_fraction,
        seed=config.split_seed,
        label_separator=config.label_separator,
        label_column=config.label_column,
    )
    if config.labels:
        splits = corrected(splits, config.labels)
    if not (is_worker or config.workers):  # as many as there are GPUs, which wait for their start
        workers = max(1, min(workers, sum(map(len, splits.values())) // WORTH_A_WORKER))
    # A published cache has nothing to decode: it is up to date, or refused.
    decodes = is_worker or workers == 1 or config.on_bad_image == "skip"
    to_decode = [split for split in splits.values() if decodes and has_to_be_decoded(split, config)]
    # First of all, so that processes start while the trunk and the device do.
    with Decoders(to_decode, config.decoders) as decoders:
        trunks, device = early or trunks_of(config), pick_device(config.device)
        set_up(device, tf32=False)
        prepared = prepare(trunks, device, config.precision)
        for folder in config.cache_dirs:
            folder.mkdir(parents=True, exist_ok=True)
        scales = scales_for(config, trunks, prepared, splits["train"], decoders)
        planned = [
            [
                (
                    plan(
                        config, trunk, prepared, split, decoders, layer, workers, scales[layer], grows=grows
                    ),
                    trunk,
                )
                for layer, trunk in enumerate(trunks)
            ]
            for split in splits.values()
        ]
        yield Work(config, planned, prepared, decoders, workers)


def share(work: Work, rank: int, count: int) -> Iterator[str]:
    """Do what worker `rank` of `count` has to do, and yield a line about each file. Raises: as `extract`."""
    for pairs in work.splits:
        there = [(job, trunk) for job, trunk in pairs if job.is_there]
        missing = [(job, trunk) for job, trunk in pairs if not job.is_there]
        if there and rank == 0:
            yield from run(work, there)
        for job, _ in missing:
            if job.shards > 1:
                agree(job.path, job.header, job.shards)
        numbers = range(max((job.shards for job, _ in missing), default=0))[rank::count]
        if not numbers and rank:
            yield f"{pairs[0][0].path}: nothing to do for worker {rank}"
        for number in numbers:
            yield from run(work, [(file_of(job, number, work.config), trunk) for job, trunk in missing])
    for job in work.jobs:
        if job.shards > 1 and (work.config.shard or not missing_files(job)):
            yield publish(job)


def finish(work: Work) -> None:
    """What is left to do where all files are there. Raises: CacheError."""
    for job in work.jobs:
        if job.shards > 1:
            job.files.write(FeatureCache(job.path))
            for path in shard_paths(job.path, job.shards):
                path.with_suffix(".h5.stamp").unlink(missing_ok=True)
    for folder in work.config.cache_dirs:
        clear_marks(folder)
    for folder in work.config.cache_dirs:
        if shared := images_in_both(*(FeatureCache(split_path(folder, name)) for name in ("train", "test"))):
            print(shared)
            break


def run(work: Work, pairs: Sequence[tuple[Job, Trunk]]) -> Iterator[str]:
    """Make a file of each of some layers, or check those that are there; yields a line about each."""
    missing = [(job, trunk) for job, trunk in pairs if not job.is_there]
    grown = [(job, trunk) for job, trunk in pairs if job.growth]
    yield from grow(grown, functools.partial(compute, work), work.config.decoders)
    for job, _ in pairs:
        if job.status in ("complete", "relabel"):
            yield refresh(job)
    if not missing:
        return
    summary = compute(work, missing, work.decoders)
    for job, trunk in missing:
        worst = check_parity(job.path, job.split, trunk, job.views)
        job.files.write(FeatureCache(job.path))
        rounded = " (half a step of int8, more where saturated)" if job.header.scales is not None else ""
        yield f"{job.path}: {summary}; equal to the live trunk within {worst:.1g}{rounded}"


def compute(work: Work, pairs: Sequence[tuple[Job, Trunk]], decoders: Decoders) -> str:
    """Make a file of each of some layers, in one pass; gives a summary. Raises: as `make`."""
    config, prepared = work.config, work.prepared
    if len(pairs) < len(config.cache_dirs):
        prepared = prepare(tuple(trunk for _, trunk in pairs), prepared.device, config.precision)
    return make([job for job, _ in pairs], prepared, decoders, config.batch)


def has_to_be_decoded(split: ImageSplit, config: ExtractConfig) -> bool:
    """Whether images of a split will have to be decoded, as far as can be said before the trunk is there."""
    paths = [split_path(folder, split.split) for folder in config.cache_dirs]
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
    split, views, numbers = jobs[0].split, jobs[0].views, 0
    with contextlib.ExitStack() as stack:
        writers = [stack.enter_context(CacheWriter(job.path, job.header)) for job in jobs]
        for job, writer in zip(jobs, writers, strict=True):
            if not writer.is_locked:
                say(f"{job.path}: this file system has no locks; don't extract to it twice at a time")
            refuse_changed_images(job, writer.image_digests, decoders)
            numbers += sum(map(len, writer.missing)) * math.prod(job.header.shape[1:])
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
    if jobs[0].header.dtype == "int8":
        share = sum(writer.saturated for writer in writers) / max(numbers, 1)
        summary += f"; {share:.2g} of the numbers lay beyond the range of int8 and were saturated"
    return summary
