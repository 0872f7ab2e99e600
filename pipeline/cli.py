"""From flags to a stage and back to an exit code.

    0    done
    2    what the user can fix, a wrong flag or a full disk: one line on stderr, no traceback
    130  Ctrl-C        143  SIGTERM

Output that can't be written, because it is closed, its disk is full or its reader left, stops no stage: the
work is done, and the exit code is 0. Only evaluate.py and predict.py were asked for what they print: when a
disk is too full for the table, a line on stderr says so, and the exit code is 2. What went to files is there
all the same.

torch takes seconds to import, so a stage's module is imported only once its flags are known to be good.
"""

import argparse
import dataclasses
import gc
import inspect
import os
import shutil
import signal
import sys
import textwrap
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from pkgutil import resolve_name
from types import FrameType
from typing import Any, NoReturn, TypeVar

from pipeline import __version__
from pipeline.checks import Checked, Kind, OneOf, did_you_mean, flag, kinds, one_of, short, texts
from pipeline.config import (
    EvaluateConfig,
    ExportConfig,
    ExtractConfig,
    PredictConfig,
    PretrainConfig,
    SweepConfig,
)
from pipeline.errors import ConfigError, UserError, out_of_memory
from pipeline.progress import lost, secure_output

C = TypeVar("C", bound=Checked)
AGAIN = "run the same command again"
SMALLER = "give a smaller --batch, then run the same command again"


COMMANDS: dict[str, tuple[Any, ...]] = {
    "extract": (ExtractConfig, "pipeline:extract"),
    "train": (
        *(SweepConfig, "pipeline:train_heads"),
        "add --resume to continue from the last checkpoint, which is written every 30 s",
        "give smaller --hidden-shapes or fewer heads at once, and another --out",
    ),
    "evaluate": (EvaluateConfig, "pipeline:evaluate"),
    "predict": (PredictConfig, "pipeline:predict"),
    "export": (ExportConfig, "pipeline:export_model"),
    "pretrain": (PretrainConfig, "pipeline:pretrain"),
}
"""The commands of `tencrop`, each of which is a script as well: name → arguments of `main`."""


FOLDERS = {"extract": "cache_dir", "train": "run_dir", "pretrain": "out_dir"}
"""The commands that write a folder, and the property of the configuration that names it."""


class Terminated(BaseException):
    """SIGTERM, raised where the program stands so that files are closed on the way out."""


def tencrop() -> int:
    """Run the console command: `tencrop COMMAND [--FLAG VALUE ...]`. Returns the exit code."""
    secure_output()
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    sys.argv[:2] = [f"tencrop {name}"]
    if name in COMMANDS:
        return main(*COMMANDS[name])
    if name == "where":
        command = sys.argv[1] if len(sys.argv) > 1 else ""
        if command in FOLDERS:
            sys.argv[:2] = [f"tencrop where {command}"]
            return main(COMMANDS[command][0], "pipeline.cli:show_folder")
        print(f"tencrop where: {one_of(FOLDERS, command)}", file=sys.stderr)
        return 2
    if name == "runs":
        return resolve_name("pipeline.runs.__main__:main")(program="tencrop runs")
    if name == "cache":
        code = resolve_name("cache.__main__:main")(program="tencrop cache")
        if code == 0 and (error := lost(sys.stdout)):
            print(f"tencrop cache: standard output: {error.strerror}", file=sys.stderr)
            return 2
        return code
    if name == "--version":
        print(f"tencrop {__version__}")
    elif name in ("-h", "--help"):
        print("usage: tencrop COMMAND [--FLAG VALUE ...]\n\ncommands:")
        for command, (config_class, *_) in COMMANDS.items():
            print(f"  {command:10}{_about(config_class).splitlines()[0]}")
        print("  runs      List, compare, repeat and remove runs.")
        print("  cache     Check caches and say what they hold.")
        print("  where     Say which folder a command would write: tencrop where COMMAND [--FLAG VALUE ...]")
        print("\ntencrop COMMAND --help lists the flags of a command, tencrop --version prints the version.")
    else:
        problem = one_of([*COMMANDS, "runs", "cache", "where"], name) if name else "expected a command"
        print(f"tencrop: {problem}; see tencrop --help", file=sys.stderr)
        return 2
    return 0


def main(config_class: type[Checked], stage: str, again: str = AGAIN, smaller: str = SMALLER) -> int:
    """Parse `sys.argv` into a configuration and run `stage`, given as "module:function".

    `again` says how to continue after an interruption, `smaller` what takes less memory.
    Returns the exit code.
    """
    program = _program()
    secure_output()
    os.environ["MPLBACKEND"] = "agg"  # pictures are files, whatever is set there for windows, or mistyped
    try:
        signal.signal(signal.SIGTERM, _terminate)
        config = parse(config_class, program, sys.argv[1:])
        made = load(stage)(config)
        error = lost(sys.stdout) if config_class.prints_results else None
        if error is None:
            return 0
        remedy = f"what should be there is beside {made}" if made else "give a file with --out"
        message = f"standard output: {error.strerror}; {remedy}"
    except (KeyboardInterrupt, Terminated) as stop:
        print(f"\n{program}: interrupted; {again}", file=sys.stderr)
        return 143 if isinstance(stop, Terminated) else 130
    except ConfigError as error:
        message = f"{flag(error.field.partition('.')[2])}: {error.problem}" if error.field else str(error)
    except UserError as error:
        message = str(error)
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        message = f"out of memory; {smaller}"
    except OSError as error:
        if not error.strerror:
            raise
        where = f"{error.filename}: " if error.filename else ""
        message = f"{where}{error.strerror}; fix that, then {again}"
        if out_of_memory(error):
            message = f"out of memory; {smaller}"
    print(f"{program}: {' '.join(map(str.strip, message.splitlines()))}", file=sys.stderr)
    return 2


def show_folder(config: Checked) -> None:
    """Print which folder a stage would write."""
    print(next(getattr(config, name) for name in FOLDERS.values() if hasattr(config, name)))


def load(stage: str) -> Callable[..., Any]:
    """Import a stage's function. What torch's modules hold stays until the end of the program: to look for
    garbage in it, while it is imported and at the exit, would take half a second.
    """
    gc.disable()
    try:
        return resolve_name(stage)
    finally:
        gc.freeze()
        gc.enable()


def parse(config_class: type[C], program: str, flags: Sequence[str]) -> C:
    """Flags → configuration. Raises: ConfigError on a wrong one; SystemExit after --help."""
    width = max(20, shutil.get_terminal_size().columns - 2)
    about = [textwrap.fill(" ".join(part.split()), width) for part in _about(config_class).split("\n\n")]
    words, metavar = config_class.positional
    parser = _Parser(
        prog=program,
        usage=f"{program} {f'{metavar} ... ' if words else ''}[--FLAG VALUE ...]",
        description="\n\n".join(about),
        formatter_class=_Formatter,
        allow_abbrev=False,
    )
    known: list[str] = []
    help_texts = texts(config_class)
    fields = dataclasses.fields(config_class)
    for field in sorted(fields, key=lambda field: field.name not in vars(config_class)):  # its own first
        kind = kinds(config_class)[field.name]
        text = _help(help_texts.get(field.name, ""), kind, field.default)
        action = parser.add_argument(flag(field.name), default=argparse.SUPPRESS, help=text, **_options(kind))
        known += action.option_strings
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
    return config_class.from_json(vars(given))  # which makes tuples of lists


def _about(config_class: type[Checked]) -> str:
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


def _program() -> str:
    """The name that the user typed: train_head.py, or python -m experiments.crops."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    name = Path(sys.argv[0]).name
    return f"python -m {spec.parent}" if spec and name == "__main__.py" else name


def _terminate(signum: int, frame: FrameType | None) -> None:
    raise Terminated
