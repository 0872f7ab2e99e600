"""Stage two over several groups: each is a stack of heads that trains in one pass, in turn or on workers."""

from pathlib import Path

from cache import FeatureCache
from pipeline.config import SweepConfig
from pipeline.engines.processes import cores
from pipeline.runs import leaderboard
from pipeline.runs.claim import IMMATERIAL, check, finished, groups_beside, held, make_folder
from pipeline.runs.find_cache import TRAIN
from pipeline.runs.layout import write_config
from pipeline.runs.local_cache import local_split
from pipeline.runs.members import GRID
from pipeline.runs.trackers import load_tracker
from pipeline.training.beginning import beginning
from pipeline.training.groups import Wanted, train_groups
from pipeline.training.stage import describe, parts_of, train


def sweep(config: SweepConfig) -> Path:
    """Train every group, in the run folder if it is the only one; gives the run folder.

    Raises: as `train`; with several groups, RunError at once when the folder holds one with other settings,
    or of other maps or validation images, and once all others are trained, naming those that failed; as
    `open_executor`.
    """
    groups, out = config.groups(), config.run_dir
    if len(groups) == 1 and config.engine is None:
        return train(groups[0])
    if config.log:  # before a group fails for it
        load_tracker(config.log)
    cache = FeatureCache(local_split(config.cache, config.stage, TRAIN))
    train_part, _ = parts_of(groups[0], cache)
    described = [describe(group, cache, train_part, beginning(group, cache)) for group in groups]
    for group, each in zip(groups, described, strict=True):  # before anything that is there is replaced
        check(group.run_dir, each, (*IMMATERIAL, *GRID))
    workers = min(config.workers_wanted or cores(), len(groups))
    engine = config.engine or ("local" if workers > 1 else None)
    wanted = Wanted(cache.key, cache.images_digest)
    if len(groups) == 1:
        train_groups(groups, engine, workers, wanted)
        return out
    make_folder(out)
    with held(out):
        earlier = groups_beside(out, described[0])
        names = list(dict.fromkeys([*earlier, *(group.group_name for group in groups)]))
        write_config(out, {**config.as_json(), "stage": "train", "groups": names})
        train_groups(groups, engine, workers, wanted)
        there = [out / name for name in names if finished(out / name)]
        leaderboard.write(out, [head for folder in there for head in leaderboard.heads_in(folder)])
    return out
