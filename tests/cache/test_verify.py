"""Flipped bits are found, by `verify`, by training's first use and by the command line."""

import contextlib
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from samples import extract, header
from tally import Tally

from cache import CacheError, FeatureCache
from cache.__main__ import main

ROOT = Path(__file__).parents[2]
PARTS = ["features", "image_digests", "digests", "labels", "paths", "classes", "provenance", "header_digest"]


def flip(path: Path, bit: int) -> None:
    with path.open("r+b") as file:
        file.seek(bit // 8)
        byte = file.read(1)[0]
        file.seek(bit // 8)
        file.write(bytes([byte ^ 1 << bit % 8]))


def extents(path: Path) -> dict[str, range]:
    """Which bytes hold which dataset, according to h5py."""
    with h5py.File(path) as file:
        found = {name: (d.id.get_offset(), d.id.get_storage_size()) for name, d in file.items()}
    return {name: range(offset, offset + size) for name, (offset, size) in found.items()}


def values(path: Path) -> list[object]:
    cache = FeatureCache(path)
    arrays = [cache.features, cache.labels, cache.image_digests]
    rest = [cache.shape, cache.dtype, cache.paths, cache.classes, cache.identity, cache.notes, cache.key]
    return [array.tobytes() for array in arrays] + rest


def flip_bits(path: Path, bits: list[int], tally: Tally) -> None:
    """Flip each in turn: verify raises, or not a value is changed. In a dataset, verify raises."""
    expected = values(path)
    held = {byte for extent in extents(path).values() for byte in extent}
    for bit in bits:
        flip(path, bit)
        with tally("bit flipped in a dataset" if bit // 8 in held else "bit flipped elsewhere"):
            if bit // 8 in held:
                with pytest.raises(CacheError, match=rf"^{path}: .+$"):
                    FeatureCache(path).verify()
            else:
                with contextlib.suppress(CacheError):
                    FeatureCache(path).verify()
                    assert values(path) == expected, f"bit {bit}"
        flip(path, bit)
    assert values(path) == expected


@pytest.mark.fault
@pytest.mark.parametrize("part", PARTS)
def test_a_bit_flipped_in_any_part_is_found(part: str, copy: Path, tally: Tally) -> None:
    extent, seed = extents(copy)[part], random.Random(part)
    bits = [8 * extent[0], 8 * extent[-1] + 7, *(8 * seed.choice(extent) + 3 for _ in range(10))]
    flip_bits(copy, bits, tally)


@pytest.mark.fault
def test_a_bit_flipped_anywhere_is_found_or_changes_nothing(tiny: Path, tmp_path: Path, tally: Tally) -> None:
    path = Path(shutil.copy(tiny, tmp_path))
    flip_bits(path, random.Random(0).sample(range(8 * path.stat().st_size), 200), tally)


@pytest.mark.faults
def test_flips_in_every_byte(tiny: Path, copy: Path, tmp_path: Path, tally: Tally) -> None:
    (tmp_path / "tiny").mkdir()
    path, seed = Path(shutil.copy(tiny, tmp_path / "tiny")), random.Random(0)
    flip_bits(path, [8 * byte + seed.randrange(8) for byte in range(path.stat().st_size)], tally)
    flip_bits(copy, seed.sample(range(8 * copy.stat().st_size), 1000), tally)


def test_the_message_names_file_and_block(copy: Path) -> None:
    flip(copy, 8 * (extents(copy)["features"][0] + 1500 * 16))
    with pytest.raises(CacheError, match=r"train\.h5: damaged: block 1 \(rows 1024 to 2047\) doesn't match"):
        FeatureCache(copy).verify()


def test_a_header_that_was_damaged_since_the_file_was_opened_is_found(copy: Path) -> None:
    cache = FeatureCache(copy)
    flip(copy, 8 * extents(copy)["labels"][0])
    with pytest.raises(CacheError, match="labels, paths, classes and provenance don't match"):
        cache.verify()


def test_only_the_blocks_of_the_rows_are_checked(copy: Path) -> None:
    flip(copy, 8 * (extents(copy)["features"][0] + 1500 * 16))
    cache = FeatureCache(copy)
    cache.verify([0, 1023, 2048, 2499])
    cache.verify([])
    with pytest.raises(CacheError, match="block 1 "):
        cache.verify([0, 1024])


def test_a_block_is_read_once_on_first_use(copy: Path) -> None:
    cache = FeatureCache(copy)
    cache.verify([0, 2499])
    flip(copy, 8 * (extents(copy)["features"][0] + 5 * 16))
    cache.verify([5])  # known to be good when it was first used
    with pytest.raises(CacheError, match="block 0 "):
        cache.verify()
    with pytest.raises(CacheError, match="block 0 "):
        FeatureCache(copy).verify([5])


def test_two_blocks_that_changed_places_are_found(tmp_path: Path) -> None:
    """Features, image digests and block digests alike; the digest depends on the block's number."""
    path = extract(tmp_path / "train.h5", header(2048))
    data = bytearray(path.read_bytes())
    for name in ("features", "image_digests", "digests"):
        extent = extents(path)[name]
        half = len(extent) // 2
        first, second = slice(extent[0], extent[half]), slice(extent[half], extent[-1] + 1)
        data[first], data[second] = data[second], data[first]
    path.write_bytes(data)
    with pytest.raises(CacheError, match="block 0 "):
        FeatureCache(path).verify()


def test_a_file_cut_off_while_it_is_checked_is_an_error(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A map would end in SIGBUS here; pread says that the file ended."""
    cache, real = FeatureCache(copy), os.preadv

    def cut(fd: int, buffers: list[memoryview], offset: int) -> int:
        os.truncate(copy, 8192)
        return real(fd, buffers, offset)

    with cache._opened():
        monkeypatch.setattr(os, "preadv", cut)
        with pytest.raises(CacheError, match=r"can't be read: it was cut off"):
            cache.verify(np.arange(2500))


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
        "2,500 images, 1 views, maps of 2×2×2",
        "dtype: float16",
        "blocks: 3 of 3",
        r'classes: 3, ["cat","dog","gr\u00f6\u00dfer"]',
        f"key: {FeatureCache(sample).key}",
        "identity.trunk.version: 1",
        'notes.skipped: ["train/0/broken.png"]',
    ):
        assert text in said


def test_command_shows_an_unfinished_cache_too(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    extract(tmp_path / "train.h5", header(), stop_after=2)
    assert main(["info", str(tmp_path / "train.h5.part")]) == 0
    assert "blocks: 2 of 3 written" in capsys.readouterr().out


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
