"""Kill train_head.py at random moments and run it again with --resume, until it was killed often enough.

    PYTHONPATH=.:tests python tests/support/stopping_training.py 50 FOLDER FLAG…

Prints a line of JSON. After each kill the run's folder has to be readable, and in the end to be what an
uninterrupted run leaves.
"""

import json
import random
import sys
from pathlib import Path

import torch

import pipeline.training.epochs
from pipeline.errors import RunError
from pipeline.runs.folder import load_head
from pipeline.runs.tensors import read_tensors
from support.running import Ended, run
from support.trained import assert_same, lines

KILLS_PER_RUN = 10


def train(flags: list[str], out: Path, stop: str = "", after: float = 0) -> Ended:
    """Run stage two, which saves a checkpoint after every step."""

    def prepare() -> None:
        pipeline.training.epochs.CHECKPOINT_SECONDS = 0.0
        pipeline.training.epochs.CHECKPOINT_SHARE = float("inf")

    flags = [*flags, "--out", str(out), "--resume"]
    return run("train_head.py", flags, out.with_suffix(".stderr"), prepare, stop, after)


def check_readable(run: Path) -> None:
    """Of a run that may not be finished."""
    for path in run.rglob("*.json"):
        json.loads(path.read_text())
    for path in run.rglob("metrics.jsonl"):
        assert [line["epoch"] for line in lines(path.parent)] == list(range(1, 1 + len(lines(path.parent))))
    for path in run.rglob("*.safetensors"):
        read_tensors(path)
    try:
        load_head(run)
    except RunError as error:
        assert "no run there" in str(error) or "isn't finished" in str(error), error  # noqa: PT017


def check_equal(run: Path, whole: Path) -> None:
    """The same log, and the same weights to the last bit."""
    assert lines(run) == lines(whole)
    assert_same(run, whole)


def main(wanted: int, folder: Path, flags: list[str]) -> dict[str, float]:
    """Kill runs below FOLDER until `wanted` kills hit one that was still going."""
    torch.empty(1, device="meta").mean()  # imports what takes the children seconds otherwise
    folder.mkdir()
    moments, kills, rounds = random.Random(0), 0, 0
    first = train(flags, folder / "first")
    usual = train(flags, folder / "whole").seconds
    assert first.code == 0, first.said
    check_equal(folder / "first", folder / "whole")
    while kills < wanted:
        out, here, code = folder / f"{rounds}", 0, 1
        while code:
            more = here < KILLS_PER_RUN and kills + here < wanted
            ended = train(flags, out, "SIGKILL" if more else "", moments.uniform(0, usual))
            code = ended.code
            assert code in (0, -9 if more else 0), f"exit code {code}: {ended.said}"
            check_readable(out)
            here += code != 0
        check_equal(out, folder / "whole")
        kills, rounds = kills + here, rounds + 1
    return {"kills": kills, "runs": rounds, "seconds": usual}


if __name__ == "__main__":
    print(json.dumps(main(int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])))
