"""The heads of a run folder: which are there, which are to be trained, and the leaderboard of all.

A folder may get heads of other rates, decays and seeds. Those that are there stay as they are,
for a head ends the same whichever others train with it. A single head then moves into a folder of its own.
"""

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.config import TrainConfig
from pipeline.errors import RunError
from pipeline.files import read_json
from pipeline.runs.layout import CHECKPOINT, CONFIG, LEADERBOARD, SUMMARY, read_config, write_config
from pipeline.runs.stack import NAMES, StackedHead, stack_of
from pipeline.wording import flag

GRID = ("lr", "weight_decay", "seed")
"""The settings that tell the heads of a group apart; a run folder may get other values of them."""
STACK = "stack"
"""The field of config.json with the folders of the heads that trained last."""


class Members(NamedTuple):
    """What a command asks for, of a folder as it is."""

    to_train: list[StackedHead]
    apart: bool
    """Whether each head has a folder of its own in the run's."""


def members(config: TrainConfig) -> Members:
    """The heads to train, in one pass: those that aren't there, or those of the pass that was interrupted.

    Raises: RunError when a pass over other heads was interrupted.
    """
    run_dir, wanted = config.run_dir, stack_of(config)
    found = _described(run_dir)
    apart = len(wanted) > 1 or STACK in found
    apart |= any(found.get(name, own) != own for name, own in config.as_json().items() if name in GRID)
    if not apart:
        return Members(wanted, apart)
    wanted = stack_of(config, apart=True)
    there = {head.folder.name for head in wanted if (head.folder / SUMMARY).exists()}
    if (run_dir / SUMMARY).exists():
        there.add(own_name(found))
    missing = {head.folder.name for head in wanted} - there
    if (run_dir / CHECKPOINT).exists():
        begun = set(found.get(STACK) or [own_name(found)])
        if not missing <= begun or not begun <= {head.folder.name for head in wanted}:
            flags = " ".join(f"{flag(n)} {' '.join(map(str, found[n]))}" for n in GRID if n in found)
            raise RunError(
                f"{run_dir}: holds an unfinished run of other heads; finish it with {flags} --resume, or "
                "give another --out"
            )
        missing = begun
    return Members([head for head in wanted if head.folder.name in missing], apart)


def begin(config: TrainConfig, heads: Members, described: Mapping[str, Any]) -> None:
    """Write config.json for a pass: with the values of all heads that are there or asked for.

    A single head that is there moves into its folder first, its summary last: stopped in between, the rest
    moves next time.
    """
    run_dir, found = config.run_dir, _described(config.run_dir)
    if not heads.apart:
        if not found:
            write_config(run_dir, described)
        return
    if (run_dir / SUMMARY).exists():
        _move(run_dir, run_dir / own_name(found), found)
    values = {name: list(dict.fromkeys([*found.get(name, []), *described[name]])) for name in GRID}
    names = [head.folder.name for head in heads.to_train]
    write_config(run_dir, {**described, **values, STACK: names})


def _described(run_dir: Path) -> dict[str, Any]:
    """What config.json says of a group; nothing where there is none."""
    found = read_config(run_dir, "train") if (run_dir / CONFIG).exists() else {}
    return {} if "groups" in found else found


def _move(run_dir: Path, folder: Path, found: Mapping[str, Any]) -> None:
    folder.mkdir(exist_ok=True)
    write_config(folder, {**found, "out": str(folder)})
    for path in sorted(run_dir.iterdir(), key=lambda path: path.name == SUMMARY):
        if path.name not in (CONFIG, CHECKPOINT, LEADERBOARD, folder.name) and path.name[0] != ".":
            path.rename(folder / path.name)


def own_name(found: Mapping[str, Any]) -> str:
    """The folder's name of the only head that config.json describes."""
    return NAMES.format(*(found[name][0] for name in GRID))


def summaries(run_dir: Path) -> list[dict[str, Any]]:
    """The summaries of all heads that have folders in a run's, for its leaderboard."""
    found = read_config(run_dir, "train")
    names = [NAMES.format(*values) for values in itertools.product(*(found[name] for name in GRID))]
    there = [name for name in names if (run_dir / name / SUMMARY).exists()]
    return [{"folder": name, **read_json(run_dir / name / SUMMARY)} for name in there]
