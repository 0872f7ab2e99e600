"""Checked fields for the stage configurations: the range of a number stands beside its type.

    batch: Annotated[int, Range(1, 65_536)] = 512

`Checked.__post_init__` tests every field, and every element of a tuple, so no stage starts work on a value
that would fail an hour later. `pipeline.cli` makes flags from the same fields and the texts under them.
"""

import ast
import dataclasses
import functools
import itertools
import json
import linecache
import os
import sys
import types
import typing
from collections.abc import Collection
from typing import Annotated, Any, Literal

from pipeline.errors import ConfigError
from pipeline.wording import one_of, short


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
        return f"above {low}, at most {high}" if self.above else f"from {low} to {high}"


@dataclasses.dataclass(frozen=True, eq=False)  # hashable, though a registry is not
class OneOf:
    """One of some names: a tuple of strings, or a registry. With `paths`, NAME:PATH is one as well."""

    choices: Collection[str]
    paths: bool = False

    def __contains__(self, value: str) -> bool:
        return (value.partition(":")[0] if self.paths else value) in self.choices

    def refusal(self, value: Any) -> str:
        """What was expected instead of a value that is none of them."""
        return one_of(self.choices, value)


@dataclasses.dataclass(frozen=True)
class AnyPath:
    """A path, absolute or from the working directory; with `urls`, the URL of a store is one as well. A ~ at
    its beginning is the home folder, which a shell puts there in `--cache ~/c`, but neither in `--cache=~/c`
    nor in `folder:~/photos`."""

    urls: bool = False

    def __contains__(self, value: str) -> bool:
        return bool(value) and (self.urls or "://" not in value)

    def __str__(self) -> str:
        return "that names a file or folder" + ("" if self.urls else " on a disk")


FilePath = Annotated[str, AnyPath()]
Place = Annotated[str, AnyPath(urls=True)]
Device = Literal["auto", "cpu", "cuda", "mps"]
Count = Annotated[int, Range(1, 1_000_000)]
Fraction = Annotated[float, Range(0, 0.95)]
Seed = Annotated[int, Range(0, 2**31 - 1)]
Workers = Annotated[int, Range(1, 1024)] | None


@dataclasses.dataclass(frozen=True)
class Kind:
    """The values that a field takes, as its annotation says."""

    type: type
    rule: Range | OneOf | AnyPath | None = None
    many: bool = False
    optional: bool = False

    def problem(self, value: Any) -> str:
        """What was expected instead of a value from Python; nothing if it is right."""
        if value is None and self.optional:
            return ""
        if self.many and not isinstance(value, tuple):
            advice = f"; give {short((value,))}" if self.takes(value) else ""
            return f"expected a tuple of values, found {short(value)}{advice}"
        values = value if self.many and isinstance(value, tuple) else (value,)
        return next((self.refusal(v) for v in values if not self.takes(v)), "")

    def takes(self, value: Any) -> bool:
        """Whether one value has the type and obeys the rule."""
        right = isinstance(value, int | float if self.type is float else self.type)
        return (
            right and isinstance(value, bool) == (self.type is bool) and (not self.rule or value in self.rule)
        )

    def at_home(self, value: Any) -> Any:
        """A value that is right, with the home folder for a ~ where a path begins."""
        is_name = isinstance(self.rule, OneOf) and self.rule.paths
        if value is None or not (is_name or isinstance(self.rule, AnyPath)):
            return value
        if self.many:
            return tuple(map(_at_home, value))
        name, colon, path = value.partition(":") if is_name else ("", "", value)
        return name + colon + _at_home(path)

    def refusal(self, value: Any) -> str:
        """What was expected instead of one value, and the nearest of the choices if there are any."""
        if isinstance(self.rule, OneOf):
            return self.rule.refusal(value)
        names = {int: "a whole number", float: "a number", str: "text", bool: "True or False"}
        expected = f"{names[self.type]} {self.rule}" if self.rule else names[self.type]
        return f"expected {expected}, found {short(value)}"


def _at_home(path: str) -> str:
    """Raises: ValueError when the path begins with the home folder of a user that there is not."""
    expanded = os.path.expanduser(path)
    if expanded.startswith("~"):
        raise ValueError(
            f"expected the path of a file or folder, found {short(path)}, whose {path.partition('/')[0]} is "
            f"no user's home; write ./{path} if it is a name"
        )
    return expanded


@dataclasses.dataclass(frozen=True, kw_only=True)
class Checked:
    """Base of every stage's configuration.

    Raises:
        ConfigError: when a field has another type or lies outside its range, or a tuple that needs an element
            is empty.
    """

    prints_results = False  # whether the stage is run for what it prints
    foremost = tuple[str, ...]()  # fields that --help shows before the others
    positional = "", ""  # the field that takes words without a flag, and what the usage calls one of them

    def __init_subclass__(cls) -> None:
        """Python keeps no docstrings of fields: `help()` finds them as a list in the class's own."""
        if cls.__doc__ and (own := texts(cls)):
            fields = "".join(f"\n        {name}: {text}" for name, text in own.items())
            cls.__doc__ = f"{cls.__doc__.rstrip()}\n\n    Attributes:{fields}\n    "

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            kind = kinds(type(self))[field.name]
            problem = kind.problem(value)
            if value == () != field.default:
                problem = "expected at least one value, found none"
            if problem:
                raise self.refused(field.name, problem)
            try:
                object.__setattr__(self, field.name, kind.at_home(value))  # the one change to a frozen value
            except ValueError as error:
                raise self.refused(field.name, str(error)) from error

    def refused(self, field: str, problem: str) -> ConfigError:
        """An error about a field: Python shows TrainConfig.weight_decay, the command line --weight-decay."""
        return ConfigError(problem, f"{type(self).__name__}.{field}")

    def refuse_twins(self, *fields: str) -> None:
        """Raises: ConfigError when one of these tuples has a value twice."""
        for field in fields:
            values = getattr(self, field) or ()
            if len(set(values)) < len(values):
                raise self.refused(field, "expected values that differ, found one twice")

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


@functools.cache
def kinds(config_class: type[Checked]) -> dict[str, Kind]:
    """What each field takes, in the order of the fields."""
    hints = typing.get_type_hints(config_class, include_extras=True)
    return {field.name: _kind(hints[field.name]) for field in dataclasses.fields(config_class)}


def _kind(hint: Any) -> Kind:
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return Kind(str, OneOf(inner))
    if origin is Annotated:
        return dataclasses.replace(_kind(inner[0]), rule=inner[1])
    if origin is tuple:
        return dataclasses.replace(_kind(inner[0]), many=True)
    if origin in (typing.Union, types.UnionType):  # X | None
        return dataclasses.replace(_kind(inner[0]), optional=True)
    return Kind(hint)


def texts(config_class: type) -> dict[str, str]:
    """The docstring under each field, as one line; none where the source is not there."""
    found: dict[str, str] = {}
    for base in reversed(config_class.__mro__):
        found |= _texts(base.__module__).get(base.__name__, {})
    return found


@functools.cache
def _texts(module: str) -> dict[str, dict[str, str]]:
    """Class → field → text, from the source of a module."""
    source = linecache.getlines(getattr(sys.modules[module], "__file__", None) or "")
    found: dict[str, dict[str, str]] = {}
    for node in ast.parse("".join(source)).body:
        if isinstance(node, ast.ClassDef):
            own = found.setdefault(node.name, {})
            for field, text in itertools.pairwise(node.body):
                match field, text:
                    case ast.AnnAssign(target=ast.Name(name)), ast.Expr(ast.Constant(str(line))):
                        own[name] = " ".join(line.split())
    return found
