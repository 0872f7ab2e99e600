"""The lines of docs/export.md run where this project can't be imported, and say what the run says."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.exporting import make_cache, make_run

from pipeline import load_run
from pipeline.config import ExportConfig
from pipeline.export.stage import export_model
from pipeline.trunks import TRUNKS, TrunkInfo

EXAMPLES = re.findall(
    r"^```python\n(.*?)^```",
    (Path(__file__).parents[2] / "docs" / "export.md").read_text(encoding="utf-8"),
    flags=re.MULTILINE | re.DOTALL,
)
ALONE = """
import importlib.util, sys
sys.path[:] = [place for place in sys.path if place]
assert not any(map(importlib.util.find_spec, ("pipeline", "cache"))), sys.path
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a photo, a run, and its model in both formats."""
    made = tmp_path_factory.mktemp("shipped")
    pixels = np.random.default_rng(1).integers(0, 256, (24, 31, 3), np.uint8)
    Image.fromarray(pixels).save(made / "photo.jpg", quality=95)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(TRUNKS, "tiny", TrunkInfo("support.exporting:tiny", "a toy"))
        run = make_run(make_cache(made / "data"), made / "run", lr=(1.0,), epochs=6)
        for suffix in (".onnx", ".pt2"):
            export_model(ExportConfig(run=str(run), out=str(made / f"model{suffix}")))
        yield made


@pytest.mark.parametrize("example", EXAMPLES, ids=("onnx", "pt2"))
def test_an_example_names_the_class_that_the_run_predicts(folder: Path, example: str) -> None:
    command = [sys.executable, "-I", "-c", ALONE + example]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    name, probability = done.stdout.split()
    found = load_run(folder / "run", device="cpu").predict([str(folder / "photo.jpg")])
    assert name == found.labels[0]
    assert float(probability) == pytest.approx(found.probabilities[0].max(), rel=1e-4)
