"""Checked fields for the stage configurations: the range of a number stands beside its type.

    batch: Annotated[int, Range(1, 65_536)] = 512

`Checked.__post_init__` tests every annotated field, and every element of a tuple, so no stage starts work on
a value that would fail an hour later. The message names the flag, what was expected and what was found.
"""

import dataclasses
import json
import re
import typing
from collections.abc import Collection, Iterable
from typing import Annotated, Any, Literal

from pipeline.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class Range:
    """A closed interval between finite ends; `above=True` leaves its lower end out. NaN is in none."""

    low: float
    high: float
    above: bool = False

    def __contains__(self, value: float) -> bool:
        return (self.low < value if self.above else self.low <= value) and value <= self.high

    def __str__(self) -> str:
        low, high = f"{self.low:,}", f"{self.high:,}"
        return f"a number above {low}, at most {high}" if self.above else f"a number from {low} to {high}"


@dataclasses.dataclass(frozen=True, eq=False)  # hashable, though a registry is not
class OneOf:
    """One of some names: a tuple of strings, or a registry."""

    choices: Collection[str]

    def __contains__(self, value: str) -> bool:
        return value in self.choices

    def __str__(self) -> str:
        return "one of " + ", ".join(self.choices)


Device = Literal["auto", "cpu", "cuda", "mps"]
Count = Annotated[int, Range(1, 1_000_000)]
Fraction = Annotated[float, Range(0, 0.95)]
Seed = Annotated[int, Range(0, 2**31 - 1)]
Workers = Annotated[int, Range(0, 1024)]


def flag(field: str) -> str:
    """The command line's name of a field: `weight_decay` → `--weight-decay`."""
    return "--" + field.replace("_", "-")


def slug(*parts: str) -> str:
    """A folder name: letters, digits, dots and dashes out of the parts."""
    names = (re.sub(r"[^\w.]+", "-", p.removeprefix("folder:")).strip("-") for p in parts)
    return "-".join(n for n in names if n)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Checked:
    """Base of every stage's configuration.

    Raises:
        ConfigError: when a field lies outside its range, or a tuple that needs an element is empty.
    """

    def __post_init__(self) -> None:
        hints = typing.get_type_hints(type(self), include_extras=True)
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            values: Iterable[Any] = value if isinstance(value, tuple) else (value,)
            for rule in _rules(hints[field.name]):
                for v in values:
                    if v is not None and v not in rule:
                        raise ConfigError(f"{flag(field.name)}: expected {rule}, found {_short(v)}")
                if isinstance(value, tuple) and not value and not _may_be_empty(field):
                    raise ConfigError(f"{flag(field.name)}: expected at least one value, found none")

    def as_json(self) -> dict[str, Any]:
        """The fields as JSON types; `from_json` reads them back."""
        return json.loads(json.dumps(dataclasses.asdict(self)))

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> typing.Self:
        """Raises: ConfigError on an unknown field or a value out of range."""
        known = {f.name for f in dataclasses.fields(cls)}
        if unknown := sorted(set(fields) - known):
            raise ConfigError(f"{cls.__name__}: unknown field {unknown[0]!r}; known are {sorted(known)}")
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()})


def _rules(hint: Any) -> list[Range | OneOf]:
    """Every Range and OneOf inside a type hint, through tuples and Annotated."""
    here = [m for m in getattr(hint, "__metadata__", ()) if isinstance(m, Range | OneOf)]
    return here + [rule for inner in typing.get_args(hint) for rule in _rules(inner)]


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _may_be_empty(field: dataclasses.Field[Any]) -> bool:
    return field.default == ()
