"""The runs of several folders become one sweep: `tencrop runs merge A B --to ALL`.

    A/{linear,csra}, B/{linear,knn} → ALL/{linear,csra,knn}, ALL/leaderboard.json

Heads are copied, each to where it would be if one command had trained them all. They lie in a hidden folder
beside ALL until the last one is there, so ALL is whole or not there.
"""

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.errors import RunError
from pipeline.files import read_json
from pipeline.runs import leaderboard
from pipeline.runs.claim import FACTS, IMMATERIAL, held
from pipeline.runs.draws import DRAWS
from pipeline.runs.find_cache import find_cache, places_of
from pipeline.runs.layout import HEAD, SUMMARY, read_config, write_config
from pipeline.runs.ledger import entries
from pipeline.runs.members import GRID, STACK, own_name
from pipeline.runs.ranking import SHARED
from pipeline.wording import flag

KEPT = ("cache", "cache_path", "dataset", "cache_identity", "map_shape", "multi_label", *SHARED)
"""What config.json says of all groups. Settings are in each group's own."""


class Member(NamedTuple):
    """A finished head."""

    folder: Path
    config: dict[str, Any]
    group: str

    @property
    def name(self) -> str:
        """What its folder is called among several of its group; nothing for a fitted head, which is the only
        one."""
        return own_name(self.config) if all(self.config.get(setting) for setting in GRID) else ""


Groups = dict[str, dict[str, Member]]
"""Heads by group and name."""


def merge(folders: Sequence[Path], to: Path) -> str:
    """Copy the heads in and below some folders into a new sweep, and print its leaderboard; gives a line.

    Raises: RunError when one isn't finished, heads were validated on other images or maps, two of one name
        differ, or `to` is there; OSError naming the file.
    """
    if to.exists():
        raise RunError(f"{to}: is there already; give another --to")
    for folder in folders:
        if Path(os.path.realpath(to)).is_relative_to(os.path.realpath(folder)):
            raise RunError(f"{to}: lies in {folder}, which is merged; give another --to")
    groups = _gathered(member for folder in folders for member in _members(folder))
    staging = to.with_name(f".{to.name}.merging")
    staging.mkdir(parents=True, exist_ok=True)
    with held(staging, otherwise="give another --to"):
        try:
            for path in staging.iterdir():  # what a merge left that was killed
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            _fill(staging, groups, to)
            os.rename(staging, to)
        except shutil.Error as error:  # of several files
            *_, why = error.args[0][0]
            raise RunError(f"{to}: can't be written: {why}; all is as it was: merge again") from error
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    count = sum(map(len, groups.values()))
    return f"{', '.join(map(str, folders))} → {to}: {count} heads in {len(groups)} groups"


def _members(folder: Path) -> Iterator[Member]:
    """The heads in and below a folder. Raises: RunError when one isn't finished, or there is none."""
    found = list(entries(folder))
    if not found:
        raise RunError(f"{folder}: no run there; tencrop runs lists them")
    for entry in found:
        if problem := entry.facts.get("problem"):
            raise RunError(f"{problem}; or remove it: tencrop runs rm {entry.folder}")
        if not (entry.folder / SUMMARY).exists():
            raise RunError(
                f"{entry.folder}: is {entry.state}; finish it by train_head.py --resume, or remove it: "
                f"tencrop runs rm {entry.folder}"
            )
        config, group = read_config(entry.folder, "train"), read_json(entry.folder / SUMMARY).get("group")
        if not isinstance(group, str) or not group or "/" in group or group.startswith("."):
            raise RunError(f"{entry.folder / SUMMARY}: expected the name of a group, found {group!r}")
        yield Member(entry.folder, config, group)


def _gathered(found: Iterable[Member]) -> Groups:
    """Heads by group and name. Raises: RunError when two can't stand in one leaderboard, or in one place."""
    groups: Groups = {}
    first: Member | None = None
    for member in found:
        first = first or member
        _refuse_other(member, first, SHARED, "can't be compared with")
        own = groups.setdefault(member.group, {})
        one = next(iter(own.values()), member)
        names = {**one.config, **member.config}.keys() - {*IMMATERIAL, *GRID, STACK}
        _refuse_other(member, one, sorted(names), f"is another {member.group} than")
        same = own.setdefault(member.name, member)
        if not _equal(same.folder, member.folder):
            raise RunError(
                f"{member.folder}: {same.folder} has the same settings and other weights, as of another "
                f"device; remove one of them: tencrop runs rm {member.folder}"
            )
    return groups


def _refuse_other(member: Member, first: Member, names: Iterable[str], how: str) -> None:
    """Raises: RunError when two heads differ in one of these fields of config.json."""
    differ = [name for name in names if member.config.get(name) != first.config.get(name)]
    if differ:
        words = ", ".join(FACTS[n].rpartition(" the ")[2] if n in FACTS else flag(n) for n in differ[:4])
        raise RunError(
            f"{member.folder}: {how} {first.folder}, which has other {words}; leave one of them out"
        )


def _equal(one: Path, other: Path) -> bool:
    """Whether two heads are the same: their weights, and their scores on draws."""
    pairs = [[folder / name for folder in (one, other)] for name in (HEAD, DRAWS)]
    return all(_bytes(a) == _bytes(b) for a, b in pairs)


def _bytes(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None


def _fill(staging: Path, groups: Groups, to: Path) -> None:
    """Copy the heads, and write config.json and leaderboard of each group and of all."""
    every = [member for own in groups.values() for member in own.values()]
    cache = _cache_of(every)
    board = []
    for group, own in groups.items():
        inside = Path("." if len(groups) == 1 else group)
        write = leaderboard.write if len(groups) == 1 else leaderboard.save
        heads = []
        for name, member in own.items():
            below = inside / name if len(own) > 1 else inside
            shutil.copytree(member.folder, staging / below, symlinks=True, dirs_exist_ok=True)
            write_config(staging / below, {**member.config, **_places(member.config, cache, to / below)})
            heads.append({"folder": name, **read_json(staging / below / SUMMARY)})
        board += [
            {**head, "folder": str(inside / head["folder"] if len(own) > 1 else inside)} for head in heads
        ]
        if len(own) > 1:
            settings = next(iter(own.values())).config | _values(own)
            write_config(staging / inside, {**settings, **_places(settings, cache, to / inside)})
            write(staging / inside, heads)
    if len(groups) > 1:
        shared = {n: every[0].config[n] for n in KEPT if len({str(m.config.get(n)) for m in every}) == 1}
        places = _places(shared, cache, to)
        write_config(staging, {**shared, **places, "stage": "train", "groups": list(groups)})
        leaderboard.write(staging, board)


def _cache_of(found: Sequence[Member]) -> Path | None:
    """Where the cache of all is now, if one of them knows."""
    places = {str(member.config.get("cache_path")): member.folder for member in found}
    searches = map(find_cache, places.values())
    return next((search.folder for search in searches if search.training is not None), None)


def _values(own: Mapping[str, Member]) -> dict[str, Any]:
    """The settings that tell the heads of a group apart, with all their values."""
    values = {name: sorted({v for member in own.values() for v in member.config[name]}) for name in GRID}
    return {**values, STACK: list(own)}


def _places(config: Mapping[str, Any], cache: Path | None, to: Path) -> dict[str, str]:
    """Where a run is from now on, and its cache as seen from there."""
    place = str(cache) if cache else config.get("cache_path")
    known = {"cache": str(cache)} if cache else {}
    return {"out": str(to), **known, **(places_of(place, to) if isinstance(place, str) else {})}
