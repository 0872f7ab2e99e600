"""An extraction that is about to begin: its images are found, its trunk is loaded, its jobs are planned."""

import contextlib
import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch

from cache import split_path
from pipeline.config import ExtractConfig
from pipeline.datasets.base import ImageSplit, open_dataset
from pipeline.device import SMALL_PX, pick_device, set_up, threads_for
from pipeline.extraction.begun import files_to_mend
from pipeline.extraction.growing import mend
from pipeline.extraction.jobs import Job, plan
from pipeline.extraction.listing import read_listing
from pipeline.extraction.scales import scales_for
from pipeline.extraction.stamp import Files
from pipeline.images.pool import Decoders
from pipeline.trunks import TRUNKS, load_trunk, load_trunks
from pipeline.trunks.base import Trunk
from pipeline.trunks.loading import joint
from pipeline.trunks.prepare import PreparedTrunk

WORTH_A_WORKER = 4096
"""Images from which another GPU is worth the seconds of its start; fewer are done sooner without."""


@dataclasses.dataclass(frozen=True)
class Work:
    """An extraction whose images and trunk are there."""

    config: ExtractConfig
    splits: Sequence[Sequence[tuple[Job, Trunk]]]
    """The jobs of each split, one for each layer, with its trunk."""
    prepared: PreparedTrunk
    decoders: Decoders
    workers: int
    images: Mapping[str, ImageSplit]
    """The splits as they were listed, before any image is left out."""
    listed_before: bool
    """Whether an earlier command listed them, so that sizes and times of files may be others by now."""

    @property
    def jobs(self) -> list[Job]:
        return [job for pairs in self.splits for job, _ in pairs]


@contextlib.contextmanager
def opened(
    config: ExtractConfig,
    workers: int,
    listed: Path | None = None,
    *,
    is_worker: bool = True,
    grows: bool = False,
) -> Iterator[Work]:
    """Open images and trunk, and plan what there is to do for so many workers. Raises: as `extract`.

    listed: the images, from `listing`. is_worker: whether images are decoded here, and not by others. grows:
    see `plan`.
    """
    # A mistyped model or layer is refused before images are looked for; a short name was checked before.
    early = () if config.trunk in TRUNKS else trunks_of(config)
    found = read_listing(listed) if listed else None
    splits = found or images_of(config)
    if grows:
        for folder, name in itertools.product(config.cache_dirs, splits):
            mend(split_path(folder, name))
    if not (is_worker or config.workers):  # as many as there are GPUs, which wait for their start
        workers = max(1, min(workers, sum(map(len, splits.values())) // WORTH_A_WORKER))
    # A published cache has nothing to decode: it is up to date, or refused.
    decodes = is_worker or workers == 1 or config.on_bad_image == "skip"
    to_decode = [split for split in splits.values() if decodes and has_to_be_decoded(split, config)]
    # First of all, so that processes start while the trunk and the device do.
    with Decoders(to_decode, config.decoders) as decoders:
        with threads_for(SMALL_PX):  # those of short names are read, and little is computed
            trunks = early or trunks_of(config)
        device = pick_device(config.device)
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
        yield Work(config, planned, prepared, decoders, workers, splits, bool(found and config.shard))


_OPEN = dict[tuple[ExtractConfig, int, Path], tuple[contextlib.ExitStack, Work]]()
"""What this process has opened for its tasks."""


@contextlib.contextmanager
def kept_open(config: ExtractConfig, workers: int, listed: Path) -> Iterator[Work]:
    """As `opened`, and left open for this process's next task of the same command, which `listed` tells: to
    read a list of 1e8 images, and load the trunk, would take longer than to make one of 10,000 files.
    """
    asked = config, workers, listed
    if asked not in _OPEN:
        _close()
        stack = contextlib.ExitStack()
        _OPEN[asked] = stack, stack.enter_context(opened(config, workers, listed))
    try:
        yield _OPEN[asked][1]
    except BaseException:
        _close()  # its decoders may be gone
        raise


def _close() -> None:
    while _OPEN:
        _OPEN.popitem()[1][0].close()


def images_of(config: ExtractConfig) -> dict[str, ImageSplit]:
    """The splits of the dataset, with the labels that --labels corrects. Raises: ConfigError, DataError."""
    splits = open_dataset(
        config.dataset,
        test_fraction=config.test_fraction,
        seed=config.split_seed,
        label_separator=config.label_separator,
        label_column=config.label_column,
    )
    if not config.labels:
        return splits
    from pipeline.datasets.corrections import corrected  # few have any

    return corrected(splits, config.labels)


def has_to_be_decoded(split: ImageSplit, config: ExtractConfig) -> bool:
    """Whether images of a split will have to be decoded, as far as can be said before the trunk is there."""
    paths = [split_path(folder, split.split) for folder in config.cache_dirs]
    if not all(path.exists() and not files_to_mend(path) for path in paths):
        return True
    skips = config.on_bad_image == "skip"
    return skips and not Files.of(paths[0], split, rehash=config.rehash).unchanged.all()


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
    with threads_for(first.transform.image_px):
        return PreparedTrunk(whole, device, precision)
