"""Photographs of solar cells as a folder per split and class, out of the wheel that holds them.

    python -m experiments.solar_cells --wheel elpv_dataset-1.0.0.post1-py3-none-any.whl --out cells

elpv-dataset (Buerhop-Lutz, Deitsch and others, 2018; CC BY-NC-SA 4.0: not for commercial use) has 2,624
electroluminescence photographs of 300×300 pixels out of 44 solar modules, and how likely experts found each
cell to be defective: 0, 1/3, 2/3 or 1. The 401 in between are left out: 1,508 functional and 715 defective
cells are left.

Cells of one module look alike. The table doesn't say which cells are of one, but most neighbours in it are.
So 41 neighbours stay together, and no run of them is in two splits: a quarter of the runs is for testing, an
eighth for validation.
"""

import dataclasses
import sys
import zipfile
from collections import Counter
from pathlib import Path

from pipeline.checks import Checked, FilePath
from pipeline.cli import main
from pipeline.errors import DataError, cant_open

DATA = "elpv_dataset/data/"
CLASSES = {"0.0": "functional", "1.0": "defective"}
NEIGHBOURS = 41
SPLITS = ("train", "train", "train", "test", "train", "val", "train", "test")
"""Of eight runs of neighbours, one after the other."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class CellsConfig(Checked):
    """Unpack elpv-dataset's photographs of solar cells (CC BY-NC-SA 4.0), a folder per split and class."""

    wheel: FilePath = "artifacts/photos/elpv_dataset-1.0.0.post1-py3-none-any.whl"
    """The package as pip downloads it."""
    out: FilePath = "artifacts/photos/cells"
    """Folder to make; photographs that it holds already are left as they are."""


def unpack(config: CellsConfig) -> Path:
    """Make OUT/{train,val,test}/{functional,defective}/*.png; gives OUT. Raises: DataError."""
    out, counts = Path(config.out), Counter[str]()
    try:
        with zipfile.ZipFile(config.wheel) as wheel:
            lines = wheel.read(f"{DATA}labels.csv").decode().splitlines()
            for number, (name, probability, _) in enumerate(map(str.split, lines)):
                if probability in CLASSES:
                    split = SPLITS[number // NEIGHBOURS % len(SPLITS)]
                    photo = out / split / CLASSES[probability] / Path(name).name
                    _write_once(photo, wheel.read(DATA + name))
                    counts[f"{split}/{photo.parent.name}"] += 1
    except (zipfile.BadZipFile, KeyError, ValueError) as error:
        raise DataError(
            f"{config.wheel}: expected the wheel of elpv-dataset 1.0.0.post1 ({error})"
        ) from error
    except FileNotFoundError as error:
        raise DataError(cant_open(Path(config.wheel), error)) from error
    print("solar cells by elpv-dataset, licensed CC BY-NC-SA 4.0: to try things out, not for commercial use")
    print(f"{out}: " + ", ".join(f"{name} {count:,}" for name, count in sorted(counts.items())))
    return out


def _write_once(path: Path, content: bytes) -> None:
    if not path.exists() or path.stat().st_size != len(content):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


if __name__ == "__main__":
    sys.exit(main(CellsConfig, "experiments.solar_cells:unpack"))
