"""docs/notebook.ipynb runs from its first cell to its last, and so do the lines of docs/python.md."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("notebook")


@pytest.fixture(scope="module")
def executed(folder: Path) -> list[str]:
    """What the cells of the notebook give, in order; an empty text of those that give nothing."""
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    notebook = nbformat.read(DOCS / "notebook.ipynb", as_version=4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        place = {"metadata": {"path": str(folder)}}
        nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3", resources=place).execute()
    return results(notebook)


def results(notebook: dict) -> list[str]:
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    given = [[o["data"]["text/plain"] for o in cell["outputs"] if "data" in o] for cell in cells]
    return ["".join(texts) for texts in given]


def test_the_notebook_gives_what_it_shows(executed: list[str]) -> None:
    import nbformat

    shown = results(nbformat.read(DOCS / "notebook.ipynb", as_version=4))
    assert (DOCS / "notebook.ipynb").stat().st_size < 20_000
    for here, there in zip(executed, shown, strict=True):
        if re.fullmatch(r"0\.\d+", there):  # a score
            assert float(here) == pytest.approx(float(there), abs=0.01)
        else:
            assert here == there


def test_the_lines_of_python_run(folder: Path, executed: list[str]) -> None:
    """On the notebook's cache and run."""
    (folder / "artifacts/photos").mkdir()
    for name, made in (("cache", "cache"), ("heads", "run")):
        (folder / "artifacts/photos" / name).symlink_to(folder / "artifacts/notebook" / made)
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(folder / "new.jpg")
    blocks = re.findall(r"^```python\n(.*?)^```", (DOCS / "python.md").read_text(), flags=re.M | re.S)
    assert len(blocks) == 3
    code = "\n".join(blocks) + "\nprint(found.probabilities.shape)"
    code = "if __name__ == '__main__':\n" + re.sub("^", "    ", code, flags=re.M)
    (folder / "lines.py").write_text(code)
    command, environment = [sys.executable, "lines.py"], os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "(1, 10)"
