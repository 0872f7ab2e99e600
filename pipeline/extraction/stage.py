"""Stage one: run a frozen trunk once over every image and store its maps.

    decode (threads, processes) → uint8 block → views, trunk (a batch per stream) → maps → cache (a thread)

Decoding, computing and writing overlap; the summary says which of them the others waited for.
"""

import functools
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

from cache import FeatureCache, split_path
from pipeline.config import ExtractConfig
from pipeline.engines.executors import ENGINES
from pipeline.engines.passport import clear_marks
from pipeline.extraction.agreement import agree
from pipeline.extraction.announce import announce
from pipeline.extraction.growing import grow
from pipeline.extraction.in_both import images_in_both
from pipeline.extraction.jobs import Job
from pipeline.extraction.listing import LIST, listing, share_listing, shared_listing, shared_path
from pipeline.extraction.make import make
from pipeline.extraction.parity import check_parity
from pipeline.extraction.ranks import Rank, own_gpu, rank_of, workers_for
from pipeline.extraction.refresh import compare, refresh
from pipeline.extraction.shards import file_of, missing_files, publish
from pipeline.extraction.together import together
from pipeline.extraction.work import Work, images_of, kept_open, opened, prepare
from pipeline.images.pool import Decoders
from pipeline.progress import say, silent
from pipeline.trunks import layer_lines
from pipeline.trunks.base import Trunk


def extract(config: ExtractConfig) -> Path:
    """Write CACHE/train.h5 and CACHE/test.h5 and give the folder; of a split in several files, train.json.

    Several layers have folders in it, CACHE/LAYER/train.h5 and so on. For --trunk SPEC@? only print them.
    With --shard do one worker's share of it, or list the images for all of them.

    Raises: DataError (an image), WeightsError, StaleCacheError (a cache of something else is in the way),
        CacheError (disk full, another extraction at work), WorkerError (a worker was killed).
    """
    if config.lists_layers:
        print(*layer_lines(config.trunk, **config.transform), sep="\n")
        return config.cache_dir
    if config.shard == LIST:
        share_listing(config, images_of(config))
        return config.cache_dir
    rank = rank_of(config.shard) if config.shard else None
    workers = rank.of if rank else workers_for(config)
    if rank:
        own_gpu(rank)
    grows = rank is None or rank.number == 0
    listed = shared_listing(config) if rank else None
    with opened(config, workers, listed, is_worker=bool(rank), grows=grows) as work:
        workers = work.workers
        announce(config, work.prepared, work.jobs, workers)
        if rank or workers == 1 or all(job.is_there for job in work.jobs):
            lines = share(work, *(rank or Rank(0, 1)))
        else:
            lines = by_workers(work, workers)
        for line in itertools.chain(whole(work) if grows else (), lines):
            say(line)
        if not rank:
            finish(work)
        elif listed and all(split_path(job.path.parent, job.split.split).exists() for job in work.jobs):
            listed.unlink(missing_ok=True)
    return config.cache_dir


def by_workers(work: Work, workers: int) -> Iterator[str]:
    """Have workers of the engine do it, and yield what they say. Raises: as `together`."""
    with listing(work.config.cache_dirs[0], work.images) as listed:
        keeps = ENGINES[work.config.engine].is_own and listed is not None
        task = functools.partial(extract_shard, listed=listed, keeps=keeps)
        yield from together(work.config, work.jobs, workers, task)


def extract_shard(
    config: ExtractConfig, rank: int, count: int, listed: Path | None = None, *, keeps: bool = False
) -> str:
    """Do a worker's share of an extraction: of each split every file whose number is `rank`, `rank` + `count`
    and so on; gives lines about them. Shows nothing meanwhile.

    listed: a file of `listing`; without it the images are looked for. keeps: whether this process may have
    more tasks of the same command, and ends with it.

    Raises: as `extract`.
    """
    kept = kept_open(config, count, listed) if keeps and listed else opened(config, count, listed)
    with silent(), kept as work:
        return "\n".join(share(work, rank, count))


def whole(work: Work) -> Iterator[str]:
    """Grow, relabel or leave the caches that are there, whose images were compared when that was planned;
    yields a line about each. For one process alone. Raises: as `extract`."""
    for pairs in work.splits:
        if there := [(job, trunk) for job, trunk in pairs if job.is_there]:
            yield from run(work, there)


def share(work: Work, rank: int, count: int) -> Iterator[str]:
    """Do what worker `rank` of `count` has to do of splits that aren't there, and yield a line about each
    file. Raises: as `extract`."""
    for pairs in work.splits:
        missing = [(job, trunk) for job, trunk in pairs if not job.is_there]
        for job, _ in missing:
            if job.shards > 1:
                agree(job.path, job.header, job.shards)
        numbers = range(max((job.shards for job, _ in missing), default=0))[rank::count]
        if not numbers and rank:
            yield f"{pairs[0][0].path}: nothing to do for worker {rank}"
        for number in numbers:
            yield from run(work, [(file_of(job, number, work), trunk) for job, trunk in missing])
    for job in work.jobs:
        if job.shards > 1 and (work.config.shard or not missing_files(job)):
            yield publish(job)


def finish(work: Work) -> None:
    """What is left to do where all files are there. Raises: CacheError."""
    for job in work.jobs:
        if job.shards > 1:
            job.files.write(FeatureCache(job.path))
            # and what a worker that was killed began to write of one
            for left in job.path.parent.glob(f"{job.path.stem}-*-of-{job.shards:05}.h5.stamp*"):
                left.unlink(missing_ok=True)
    shared_path(work.config).unlink(missing_ok=True)
    for folder in work.config.cache_dirs:
        clear_marks(folder)
    for folder in work.config.cache_dirs:
        if shared := images_in_both(*(FeatureCache(split_path(folder, name)) for name in ("train", "test"))):
            print(shared)
            break


def run(work: Work, pairs: Sequence[tuple[Job, Trunk]]) -> Iterator[str]:
    """Make a file of each of some layers, or check those that are there; yields a line about each."""
    missing = [(job, trunk) for job, trunk in pairs if not job.is_there]
    there = [job for job, _ in pairs if job.status in ("complete", "relabel")]
    compare(there, work.decoders)
    grown = [(job, trunk) for job, trunk in pairs if job.growth]
    yield from grow(grown, functools.partial(compute, work), work.config.decoders)
    for job in there:
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
