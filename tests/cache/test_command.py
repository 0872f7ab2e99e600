"""`python -m cache`: a line for each file, one on a mistake, and no advice that loses anything."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import pytest
from support.samples import extract, flip, header

from cache import FeatureCache
from cache.__main__ import main

ROOT = Path(__file__).parents[2]


def test_command_verifies_files_and_folders(sample: Path, copy: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["verify", str(sample), str(copy.parent)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" (")[0] for line in lines] == [f"{sample}: good", f"{copy}: good"]


def test_command_reports_each_damaged_file_in_a_line_and_exits_2(
    sample: Path, copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    flip(copy, 8 * copy.stat().st_size - 1)
    (tmp_path / "empty").mkdir()
    words = ["verify", str(copy), str(tmp_path / "no.h5"), str(tmp_path / "empty"), str(sample)]
    assert main(words) == 2
    said = capsys.readouterr()
    assert f"{sample}: good" in said.out
    first, second, third = said.err.splitlines()
    assert first.startswith(f"python -m cache: {copy}: damaged: block 2")
    assert "no.h5: no such file" in second
    assert "empty: no .h5 file in this folder" in third


def test_command_says_what_a_cache_holds(sample: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["info", str(sample)]) == 0
    said = capsys.readouterr().out
    for text in (
        "2,500 images, 1 view, maps of 2×2×2",
        "dtype: float16",
        "blocks: 3 of 3",
        r'classes: 3, ["cat","dog","gr\u00f6\u00dfer"]',
        f"key: {FeatureCache(sample).key}",
        f"images: {FeatureCache(sample).images_digest}",
        "identity.trunk.version: 1",
        'notes.skipped: ["train/0/broken.png"]',
    ):
        assert text in said


def test_command_shows_an_unfinished_cache_too(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    extract(tmp_path / "train.h5", header(), stop_after=2)
    assert main(["info", str(tmp_path / "train.h5.part")]) == 0
    said = capsys.readouterr().out
    assert "blocks: 2 of 3 written" in said
    assert "images: " not in said


def test_an_unfinished_cache_is_not_called_damaged(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Who deletes it loses finished blocks, and an extraction may be at work on it."""
    part = tmp_path / "train.h5.part"
    extract(tmp_path / "train.h5", header(), stop_after=2)
    assert main(["verify", str(part), str(tmp_path)]) == 2
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith(f"python -m cache: {part}: not complete yet")
    assert second.startswith(f"python -m cache: {tmp_path}: no .h5 file in this folder, but train.h5.part")


def test_a_file_of_another_program_is_not_to_be_deleted(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    for name, data in (("notes.h5", b"my own notes"), ("data.h5", None)):
        if data:
            (tmp_path / name).write_bytes(data)
        else:
            h5py.File(tmp_path / name, "w", libver="latest").close()
    assert main(["verify", str(tmp_path)]) == 2
    assert main(["verify", str(tmp_path / "notes.h5")]) == 2
    said = capsys.readouterr().err
    assert said.count("no usable feature cache: the file: expected an HDF5 superblock") == 2
    assert "delete" not in said


def test_a_name_that_is_not_utf8_and_a_reader_that_left_are_survived(sample: Path, tmp_path: Path) -> None:
    odd = tmp_path / os.fsdecode(b"caf\xe9.h5")
    shutil.copy(sample, odd)
    command = [sys.executable, "-m", "cache", "info", str(odd)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(command, cwd=ROOT, stdout=write, stderr=subprocess.PIPE, check=False)
    os.close(write)
    assert done.stderr == b""


@pytest.mark.parametrize("words", [[], ["verify"], ["mend", "x.h5"], ["info", "none.h5"]])
def test_command_line_mistakes_are_one_line_and_exit_code_2(words: list[str]) -> None:
    command = [sys.executable, "-m", "cache", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert not done.stdout


def test_a_check_that_takes_long_says_how_far_it_is(
    sample: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cache.one_file.AT_ONCE", 1)
    monkeypatch.setattr("cache.telling.FIRST_SECONDS", 0.0)
    monkeypatch.setattr("cache.telling.EVERY_SECONDS", 0.0)
    assert main(["verify", str(sample)]) == 0
    said = capsys.readouterr()
    shares = [line.removeprefix(f"{sample}: ").partition(",")[0] for line in said.err.splitlines()]
    assert shares == ["33% checked", "67% checked", "100% checked"]
    assert said.out.startswith(f"{sample}: good")


@pytest.mark.fault("standard output or error that is closed, full or left by its reader")
@pytest.mark.parametrize("command", ["info", "verify"])
@pytest.mark.parametrize(
    ("redirection", "code", "said"),
    [
        (">&- 2>&-", 0, ""),
        ("2>/dev/full", 0, ""),
        ("| true", 0, ""),
        (">/dev/full", 2, "python -m cache: standard output: No space left on device\n"),
    ],
)
def test_output_that_can_t_be_written_is_no_traceback(
    command: str, redirection: str, code: int, said: str, sample: Path
) -> None:
    line = f"set -o pipefail; {sys.executable} -m cache {command} {sample} {redirection}"
    done = subprocess.run(["bash", "-c", line], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (code, said)
