"""`tencrop runs`, also `python -m pipeline.runs`: list, compare, merge, repeat and remove runs.

    tencrop runs [FOLDER ...] [--where head=csra] [--sort test] [--format csv]
    tencrop runs best | show | diff | merge | rerun | rename | rm

Exit code 2 and one line on a mistake. A run that is not finished, or broken, is a line of the list.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from pipeline.errors import RunError, UserError
from pipeline.runs.ledger import Entry, entries, run_in
from pipeline.runs.listing import chosen, fields_of, listing, ordered, plain
from pipeline.runs.table import table

FOLDER = "artifacts"
HELP = {
    "list": "every run under some folders, the best validation score first; the word may be left out",
    "best": "the run with the best validation score, and how many can't be told apart from it",
    "show": "all that is known of a run",
    "diff": "the settings and scores in which two runs differ",
    "merge": "copy the heads of several sweeps over the same images into one sweep, with one leaderboard",
    "rerun": "train a run again with other flags: rerun RUN --lr 0.05",
    "rename": "move a run to another name",
    "rm": "remove runs and what was scored with them",
}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def main(words: Sequence[str] | None = None, program: str = "python -m pipeline.runs") -> int:
    """Run the command line, under the name of a program. Returns the exit code."""
    words = list(sys.argv[1:] if words is None else words)
    if not words or words[0] not in (*HELP, "-h", "--help"):
        words = ["list", *words]
    try:
        if words[0] == "rerun":  # whose further flags are those of training
            from pipeline.runs.changes import rerun

            return rerun(words[1:], program)
        given = _parser(program).parse_args(words)
        print(ACTIONS[given.command](given))
    except UserError as error:
        print(f"{program}: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except OSError as error:
        if not error.strerror:
            raise
        where = f"{error.filename}: " if error.filename else ""
        print(f"{program}: {where}{error.strerror}; fix that, then run it again", file=sys.stderr)
        return 2
    return 0


def _parser(program: str) -> _Parser:
    parser = _Parser(prog=program, description="List, compare, merge, repeat and remove runs.")
    commands = parser.add_subparsers(dest="command", required=True)
    added = {name: commands.add_parser(name, help=text, description=text) for name, text in HELP.items()}
    for name in ("list", "best"):
        added[name].add_argument("folder", nargs="*", type=Path, default=[Path(FOLDER)])
        added[name].add_argument(
            "--where",
            action="append",
            default=[],
            metavar="NAME=VALUE",
            help="only runs of which this holds; also != < > <= >=; may be given several times",
        )
    added["list"].add_argument("--sort", default="score", metavar="NAME", help="a column or a setting")
    added["list"].add_argument("--format", choices=("table", "csv", "json", "markdown"), default="table")
    added["show"].add_argument("run", type=Path)
    added["show"].add_argument("--format", choices=("table", "json"), default="table")
    added["diff"].add_argument("run", nargs=2, type=Path)
    added["merge"].add_argument("run", nargs="+", type=Path, help="sweeps, runs, and folders with runs below")
    added["merge"].add_argument("--to", type=Path, required=True, metavar="FOLDER", help="the new sweep")
    added["rename"].add_argument("run", type=Path)
    added["rename"].add_argument("to", type=Path)
    added["rm"].add_argument("run", nargs="+", type=Path)
    return parser


def _list(given: argparse.Namespace) -> str:
    found = _found(given)
    return listing(ordered(found, given.sort), given.format)


def _best(given: argparse.Namespace) -> str:
    from pipeline.runs.ranking import in_words  # which takes numpy, as a list doesn't

    return in_words(_found(given))


def _found(given: argparse.Namespace) -> list[Entry]:
    """Raises: RunError when there are no runs at all."""
    found = [entry for folder in given.folder for entry in entries(folder)]
    if not found:
        where = ", ".join(map(str, given.folder))
        raise RunError(f"{where}: no run there; name the folder that holds them, or make one: train_head.py")
    if not (kept := chosen(found, given.where)):
        raise RunError(f"--where {' '.join(given.where)}: none of {len(found):,} runs is like that")
    return kept


def _show(given: argparse.Namespace) -> str:
    fields = fields_of(run_in(given.run))
    if given.format == "json":
        return json.dumps(fields, indent=1)
    return "\n".join(f"{name:22}{plain(value)}".rstrip() for name, value in fields.items())


def _diff(given: argparse.Namespace) -> str:
    one, other = (fields_of(run_in(run)) for run in given.run)
    names = [name for name in {**one, **other} if name != "run" and one.get(name) != other.get(name)]
    rows = [[name, _value(one, name), _value(other, name)] for name in names]
    return table(["", *map(str, given.run)], rows) if rows else "no difference"


def _value(fields: dict[str, Any], name: str) -> str:
    return plain(fields[name]) if fields.get(name) is not None else "-"


def _merge(given: argparse.Namespace) -> str:
    from pipeline.runs.merging import merge

    return merge(given.run, given.to)


def _rename(given: argparse.Namespace) -> str:
    from pipeline.runs.changes import rename

    return rename(given.run, given.to)


def _rm(given: argparse.Namespace) -> str:
    from pipeline.runs.changes import remove

    return "\n".join(remove(run) for run in given.run)


ACTIONS = {
    **{"list": _list, "best": _best, "show": _show, "diff": _diff},
    **{"merge": _merge, "rename": _rename, "rm": _rm},
}

if __name__ == "__main__":
    sys.exit(main())
