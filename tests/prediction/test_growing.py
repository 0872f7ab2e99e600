"""A file that grows is whole, or continues after its last rows, and never mixes two things."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.errors import RunError
from pipeline.prediction import growing
from pipeline.prediction.growing import GrowingFile

ROOT = Path(__file__).parents[2]
ABOUT = {"run": "a", "images": "b"}


def write(path: Path, rows: range, total: int = 10, about: dict[str, str] = ABOUT) -> GrowingFile:
    with GrowingFile(path, about, total) as file:
        assert file.done == rows.start
        for row in rows:
            file.add(f"row {row}\n", 1, bad=row == 3)
    return file


def text(rows: int) -> str:
    return "".join(f"row {row}\n" for row in range(rows))


def test_it_continues_behind_the_rows_that_are_there(tmp_path: Path) -> None:
    path = tmp_path / "new/scores.csv"
    write(path, range(4))
    assert not path.exists()
    assert path.with_name("scores.csv.part").read_text() == text(4)
    write(path, range(4, 10))
    assert path.read_text() == text(10)
    assert not path.with_name("scores.csv.part").exists()
    with GrowingFile(path, ABOUT, 10) as file:
        assert (file.is_finished, file.done, file.bad) == (True, 10, 1)
    assert path.read_text() == text(10)


@pytest.mark.parametrize("torn", ["row", "row 4\nrow 5\nro", ""])
def test_what_a_kill_left_half_written_is_cut_off(tmp_path: Path, torn: str) -> None:
    path, part = tmp_path / "scores.csv", tmp_path / "scores.csv.part"
    write(path, range(4))
    part.write_text(text(4) + torn)
    write(path, range(4, 10))
    assert path.read_text() == text(10)


def test_rows_that_the_disk_lost_are_written_again(tmp_path: Path) -> None:
    path, part = tmp_path / "scores.csv", tmp_path / "scores.csv.part"
    write(path, range(4))
    part.write_text(text(4)[:-1])
    write(path, range(10))
    assert path.read_text() == text(10)


def test_an_exception_leaves_what_is_continued(tmp_path: Path) -> None:
    path = tmp_path / "scores.csv"

    def interrupted() -> None:
        with GrowingFile(path, ABOUT, 3) as file:
            for row in range(3):
                file.add(f"row {row}\n", 1)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not path.exists()
    write(path, range(3, 3), total=3)
    assert path.read_text() == text(3)


@pytest.mark.parametrize("rows", [4, 10])
@pytest.mark.parametrize("name", ["run", "images"])
def test_a_file_about_something_else_is_refused_and_stays(tmp_path: Path, rows: int, name: str) -> None:
    path = tmp_path / "scores.csv"
    write(path, range(rows))
    there = path if rows == 10 else tmp_path / "scores.csv.part"
    with pytest.raises(RunError) as caught:
        write(path, range(rows, 10), about=ABOUT | {name: "c"})
    assert str(caught.value) == (
        f"{there}: holds predictions with other {name}; give another --out, or delete it"
    )
    assert there.read_text() == text(rows)


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "scores.csv"
    path.write_text("mine")
    with pytest.raises(RunError, match=r"scores\.csv: is no file of predict\.py's; give another --out"):
        write(path, range(0))
    assert path.read_text() == "mine"


def test_two_processes_never_write_one_file(tmp_path: Path) -> None:
    with (
        GrowingFile(tmp_path / "scores.csv", ABOUT, 3) as first,
        pytest.raises(RunError, match="another process is writing it"),
        GrowingFile(tmp_path / "scores.csv", ABOUT, 3),
    ):
        pass
    assert first.done == 0


@pytest.mark.fault("disk full while predictions are written")
def test_a_full_disk_loses_no_row_that_was_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "scores.csv"
    monkeypatch.setattr(growing, "SAVE_SECONDS", 0)
    fsync = os.fsync

    def full(fd: int) -> None:
        if Path(f"{path}.part").stat().st_size > 20:
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(fd)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left") as caught:
            write(path, range(10))
        assert caught.value.filename == str(path.with_name("scores.csv.part"))
    with GrowingFile(path, ABOUT, 10) as file:
        assert file.done == 3
    write(path, range(3, 10))
    assert path.read_text() == text(10)


KILLED = """
import os, signal, sys
from pipeline.prediction.growing import GrowingFile
with GrowingFile(sys.modules["pathlib"].Path(sys.argv[1]), {"run": "a", "images": "b"}, 1000) as file:
    print(file.done, flush=True)
    for row in range(file.done, 1000):
        file.add(f"row {row}\\n" * (1 + row % 3), 1)
        if row == int(sys.argv[2]):
            os.kill(os.getpid(), getattr(signal, sys.argv[3]))
"""


@pytest.mark.fault("process killed while predictions are written")
def test_a_killed_process_costs_no_row_and_doubles_none(tmp_path: Path) -> None:
    path = tmp_path / "scores.csv"
    begun = [int(killed(path, row, signal)) for row, signal in [(300, "SIGINT"), (700, "SIGKILL"), (-1, "")]]
    assert begun[:2] == [0, 301]  # Ctrl-C loses nothing
    assert 301 <= begun[2] <= 701
    assert path.read_text() == "".join(f"row {row}\n" * (1 + row % 3) for row in range(1000))


def killed(path: Path, row: int, signal: str) -> str:
    """The rows that were there when a process began, which a signal ended behind a row."""
    command = [sys.executable, "-c", KILLED, path, str(row), signal]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode == 0) == (not signal), done.stderr
    return done.stdout
