"""Files of a run folder on a disk that is full: the old one stays as it was, and nothing lies beside it."""

import errno
import os
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from support.no_room import no_room

from cache import Paths
from pipeline.errors import WeightsError
from pipeline.evaluation.plots import save
from pipeline.evaluation.scored import Predictions
from pipeline.files import append_line, keep_lines, replacing, write_json, write_text
from pipeline.runs.tensors import write_tensors

ROOM, OLD = 100, "old\n" * 100
NOISE = np.random.default_rng(0).normal(size=(100, 3)).astype(np.float32)  # (N, K)


def predictions() -> Predictions:
    return Predictions(
        NOISE,
        NOISE.argmax(1),
        Paths(map(str, range(100))),
        np.array(["a", "b", "c"]),
        np.zeros(100, "V16"),
    )


WRITERS: dict[str, Callable[[Path], object]] = {
    "JSON": lambda path: write_json(path, NOISE.tolist()),
    "log": lambda path: keep_lines(path, 50),
    "predictions": lambda path: predictions().save(path, {}),
    "tensors": lambda path: write_tensors(path, {"noise": torch.from_numpy(NOISE)}),
    "picture": lambda path: save(Figure(), path),
}


@pytest.mark.parametrize("what", WRITERS)
def test_a_full_disk_leaves_the_old_file_and_nothing_else(what: str, tmp_path: Path) -> None:
    path, write = tmp_path / "file", WRITERS[what]
    path.write_text(OLD)
    with no_room(ROOM), pytest.raises((OSError, WeightsError), match="File too large") as caught:
        write(path)
    assert str(path) in str(caught.value)
    if isinstance(caught.value, OSError):
        assert (caught.value.errno, caught.value.filename) == (errno.EFBIG, str(path))
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_text() == OLD
    write(path)
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() != OLD.encode()


@pytest.mark.parametrize("stop", [KeyboardInterrupt, ValueError])
def test_a_write_that_is_stopped_leaves_the_old_file_and_nothing_else(
    stop: type[BaseException], tmp_path: Path
) -> None:
    path = tmp_path / "file"
    path.write_text(OLD)

    def write() -> None:
        with replacing(path) as part:
            part.write_text("half")
            raise stop

    with pytest.raises(stop):
        write()
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_text() == OLD


def test_the_next_write_removes_what_a_killed_one_left(tmp_path: Path) -> None:
    path, here = tmp_path / "file", os.uname().nodename
    others = {tmp_path / f"file.{name}.part" for name in ("elsewhere-1", f"{here}-{os.getppid()}")}
    for other in others:
        other.touch()
    if not (killed := os.fork()):
        try:
            with replacing(path) as part:
                part.write_text("half")
                os.kill(os.getpid(), signal.SIGKILL)
        finally:
            os._exit(1)
    os.waitpid(killed, 0)
    assert {tmp_path / f"file.{here}-{killed}.part", *others} == {*tmp_path.iterdir()}
    write_text(path, "whole")
    assert {*tmp_path.iterdir()} == {path, *others}


def test_a_full_disk_is_reported_with_the_name_of_the_log(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    with no_room(ROOM), pytest.raises(OSError, match="File too large") as caught:
        append_line(path, {"noise": NOISE.tolist()})
    assert caught.value.filename == str(path)
