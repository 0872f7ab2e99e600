"""Flags, and files of settings, → a configuration; --help from the fields and the texts under them."""

import argparse
import dataclasses
import inspect
import shutil
import textwrap
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from pipeline.checks import Checked, Kind, OneOf, kinds, texts
from pipeline.cli.replay import STAGES, settings_in
from pipeline.errors import ConfigError
from pipeline.wording import did_you_mean, flag, short

C = TypeVar("C", bound=Checked)
CONFIG_HELP = """JSON file with settings under the names of these flags{}; flags beside it count more
(default: none)"""


def parse(config_class: type[C], program: str, flags: Sequence[str]) -> C:
    """Flags → configuration. Raises: ConfigError on a wrong one; SystemExit after --help."""
    width = max(20, shutil.get_terminal_size().columns - 2)
    parts = [textwrap.fill(" ".join(part.split()), width) for part in about(config_class).split("\n\n")]
    words, metavar = config_class.positional
    parser = _Parser(
        prog=program,
        usage=f"{program} {f'{metavar} ... ' if words else ''}[--FLAG VALUE ...]",
        description="\n\n".join(parts),
        formatter_class=_Formatter,
        allow_abbrev=False,
    )
    known = ["--config"]
    help_texts = texts(config_class)
    place = {name: at for at, name in enumerate(config_class.foremost)}
    for field in sorted(
        dataclasses.fields(config_class), key=lambda field: place.get(field.name, len(place))
    ):
        kind = kinds(config_class)[field.name]
        text = _help(help_texts.get(field.name, ""), kind, field.default)
        action = parser.add_argument(flag(field.name), default=argparse.SUPPRESS, help=text, **_options(kind))
        known += action.option_strings
    parser.add_argument(
        "--config",
        default=argparse.SUPPRESS,
        metavar="FILE",
        help=CONFIG_HELP.format(", or a run's config.json" if config_class.__name__ in STAGES else ""),
    )
    given, unknown = parser.parse_known_args(flags)
    wrong = [word for word in unknown if word.startswith("-") or not words]
    if wrong:
        word = wrong[0].partition("=")[0]
        problem = (
            f"unknown flag {word[:60]}" if word.startswith("-") else f"expected a flag, found {short(word)}"
        )
        parser.error(problem + did_you_mean(word, known))
    if unknown:
        setattr(given, words, [*getattr(given, words, ()), *unknown])
    settings = vars(given)
    if file := settings.pop("config", None):
        settings = settings_in(Path(file), config_class, settings) | settings
    return config_class.from_json(settings)  # which makes tuples of lists


def about(config_class: type[Checked]) -> str:
    """A configuration's docstring without its list of fields."""
    return inspect.cleandoc(config_class.__doc__ or "").partition("\n\nAttributes:\n")[0]


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Leaves names like alexnet-cifar whole."""

    def _split_lines(self, text: str, width: int) -> list[str]:
        return textwrap.wrap(text, width, break_on_hyphens=False)


class _Parser(argparse.ArgumentParser):
    """Raises what argparse would print, so that every mistake is one line."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message.removeprefix('argument ')[:400]}; see {self.prog} --help")


def _options(kind: Kind) -> dict[str, Any]:
    """What argparse is to know of a field. `Checked` tests ranges and choices."""
    if kind.type is bool:
        return {"action": argparse.BooleanOptionalAction}

    def read(text: str) -> Any:
        try:
            return kind.type(text)
        except ValueError:
            raise argparse.ArgumentTypeError(kind.refusal(text)) from None

    choices, metavar = _choices(kind), {int: "INT", float: "FLOAT", str: "TEXT"}[kind.type]
    if kind.many:
        return {"type": read, "metavar": "NAME" if choices else metavar, "nargs": "+"}
    listed = "NAME" if isinstance(choices, Mapping) else f"{{{','.join(choices)}}}"
    return {"type": read, "metavar": listed if choices else metavar}


def _help(text: str, kind: Kind, default: Any) -> str:
    """A field's text with its choices and its default. The text of a computed default names it itself."""
    text, choices = text.rstrip("."), _choices(kind)
    if isinstance(choices, Mapping):  # a registry, whose entries say what they are
        text += "".join(f". {name}: {entry.summary}" for name, entry in choices.items())
    elif choices and kind.many:
        text += f"; one or more of {', '.join(choices)}"
    if default not in (None, "", ()):
        words = {True: "yes", False: "no"} if kind.type is bool else {}
        values = default if isinstance(default, tuple) else (words.get(default, default),)
        text += f" (default: {' '.join(map(str, values))})"
    return text.replace("%", "%%")


def _choices(kind: Kind) -> Collection[str]:
    return kind.rule.choices if isinstance(kind.rule, OneOf) else ()
