"""The demo's photographs: which cells are taken, and that neighbours are never in two splits."""

import zipfile
from collections import defaultdict
from pathlib import Path

import pytest

from experiments.solar_cells import NEIGHBOURS, CellsConfig, unpack
from pipeline.errors import DataError

CELLS = 2624
SURE = ("0.0", "1.0")


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    """A table of the real one's form; a photo's bytes are its number."""
    lines = []
    path = tmp_path / "elpv_dataset-1.0.0.post1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as file:
        for cell in range(CELLS):
            name = f"images/cell{cell + 1:04}.png"
            lines.append(f"{name}  {('0.0', '0.3333333333333333', '1.0')[cell * 7 % 3]}   mono\n")
            file.writestr(f"elpv_dataset/data/{name}", str(cell))
        file.writestr("elpv_dataset/data/labels.csv", "".join(lines))
    return path


def test_neighbours_stay_together_and_only_sure_labels_are_taken(wheel: Path, tmp_path: Path) -> None:
    out = unpack(CellsConfig(wheel=str(wheel), out=str(tmp_path / "cells")))
    splits, taken = defaultdict[int, set[str]](set), 0
    for photo in out.glob("*/*/*.png"):
        cell, (split, kind) = int(photo.read_bytes()), photo.parts[-3:-1]
        assert photo.name == f"cell{cell + 1:04}.png"
        assert kind == {0: "functional", 2: "defective"}[cell * 7 % 3]
        splits[cell // NEIGHBOURS].add(split)
        taken += 1
    assert len(splits) == CELLS // NEIGHBOURS
    assert all(len(found) == 1 for found in splits.values())
    assert taken == sum(cell * 7 % 3 != 1 for cell in range(CELLS))
    runs = [sum(found == {split} for found in splits.values()) for split in ("train", "val", "test")]
    assert runs == [40, 8, 16]


def test_photos_that_are_there_are_left_as_they_are(wheel: Path, tmp_path: Path) -> None:
    config = CellsConfig(wheel=str(wheel), out=str(tmp_path / "cells"))
    times = {path: path.stat().st_mtime_ns for path in unpack(config).rglob("*.png")}
    (lost := next(iter(times))).unlink()
    unpack(config)
    assert {p: p.stat().st_mtime_ns for p in times if p != lost} == {p: times[p] for p in times if p != lost}
    assert lost.exists()


@pytest.mark.parametrize("there", [None, b"no wheel"])
def test_another_file_is_refused_by_name(there: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "other.whl"
    if there:
        path.write_bytes(there)
    with pytest.raises(DataError, match=rf"^{path}: .*(No such file|expected the wheel of elpv-dataset)"):
        unpack(CellsConfig(wheel=str(path), out=str(tmp_path / "cells")))
