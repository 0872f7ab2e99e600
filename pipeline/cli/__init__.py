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

import gc
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from pkgutil import resolve_name
from types import FrameType
from typing import Any

from pipeline import __version__
from pipeline.checks import Checked
from pipeline.cli.parsing import about, parse
from pipeline.errors import ConfigError, UserError, out_of_memory
from pipeline.progress import lost, secure_output
from pipeline.wording import flag, one_of

AGAIN = "run the same command again"
SMALLER = "give a smaller --batch, then run the same command again"


COMMANDS: dict[str, tuple[str, ...]] = {
    "run": (
        *("pipeline.config:RunConfig", "pipeline:run", AGAIN),
        "give a smaller --trunk-batch, --batch or --hidden-shapes, then run the same command again",
    ),
    "extract": ("pipeline.config:ExtractConfig", "pipeline:extract"),
    "train": (
        *("pipeline.config:SweepConfig", "pipeline:train_heads"),
        "add --resume to continue from the last checkpoint, which is written every 30 s",
        "give smaller --hidden-shapes or fewer heads at once, and another --out",
    ),
    "evaluate": ("pipeline.config:EvaluateConfig", "pipeline:evaluate"),
    "predict": ("pipeline.config:PredictConfig", "pipeline:predict"),
    "export": ("pipeline.config:ExportConfig", "pipeline:export_model"),
    "report": ("pipeline.config:ReportConfig", "pipeline:write_report"),
    "compare-trunks": ("pipeline.config:CompareTrunksConfig", "pipeline:compare_trunks"),
    "pretrain": ("pipeline.config:PretrainConfig", "pipeline:pretrain"),
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
            print(f"  {command:15}{about(resolve_name(config_class)).splitlines()[0]}")
        print("  runs           List, compare, merge, repeat and remove runs.")
        print("  cache          Check caches and say what they hold.")
        print("  where          Say which folder a command would write: tencrop where COMMAND [--FLAG ...]")
        print("\ntencrop COMMAND --help lists the flags of a command, tencrop --version prints the version.")
    else:
        problem = one_of([*COMMANDS, "runs", "cache", "where"], name) if name else "expected a command"
        print(f"tencrop: {problem}; see tencrop --help", file=sys.stderr)
        return 2
    return 0


def main(settings: type[Checked] | str, stage: str, again: str = AGAIN, smaller: str = SMALLER) -> int:
    """Parse `sys.argv` into a configuration and run `stage`, given as "module:function".

    settings: the class of the configuration, or "module:class". `again` says how to continue after an
    interruption, `smaller` what takes less memory.
    Returns the exit code.
    """
    program = _program()
    secure_output()
    config_class: type[Checked] = resolve_name(settings) if isinstance(settings, str) else settings
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


def _program() -> str:
    """The name that the user typed: train_head.py, or python -m experiments.crops."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    name = Path(sys.argv[0]).name
    return f"python -m {spec.parent}" if spec and name == "__main__.py" else name


def _terminate(signum: int, frame: FrameType | None) -> None:
    raise Terminated
