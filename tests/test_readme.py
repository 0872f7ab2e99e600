"""README.md holds: its commands and its Python run as written, its table is the one that is printed."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.scripts import run_scripts

from pipeline.checks import Checked
from pipeline.cli import parse
from pipeline.config import ExtractConfig, SweepConfig

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SCRIPTS = ("extract_features.py", "train_head.py", "evaluate.py")
COLOURS = {"ants": (150, 60, 40), "bees": (40, 70, 160)}


def section(title: str) -> str:
    return README.split(f"\n## {title}", 1)[1].split("\n## ", 1)[0]


def block(language: str, text: str) -> str:
    """The first block of code in a language."""
    found = re.search(rf"^```{language}\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    assert found, f"no block of {language}"
    return found[1]


def python(folder: Path, *words: str) -> str:
    """What Python prints, run in a folder."""
    done = subprocess.run([sys.executable, *words], cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the scripts in it, and photos/ of two classes that differ in colour."""
    made, rng = tmp_path_factory.mktemp("readme"), np.random.default_rng(0)
    for script in SCRIPTS:
        (made / script).symlink_to(ROOT / script)  # Python looks for the packages beside the real file
    for split, count in (("train", 20), ("test", 6)):
        for name, colour in COLOURS.items():
            (made / "photos" / split / name).mkdir(parents=True)
            for i in range(count):
                photo = np.clip(rng.normal(colour, 30, (90 + i, 120, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(photo).save(made / "photos" / split / name / f"{i:02}.jpg")
    return made


@pytest.fixture(scope="module")
def said(folder: Path) -> list[str]:
    """What the three commands for one's own photos print."""
    commands = block("sh", section("Your own photos")).splitlines()
    words = [shlex.split(command) for command in commands]
    assert [(first, script) for first, script, *_ in words] == [("python", name) for name in SCRIPTS]
    return run_scripts(folder, [flags for _, *flags in words])


def test_three_commands_lead_from_a_folder_of_photos_to_scores(folder: Path, said: list[str]) -> None:
    best = json.loads((folder / "artifacts/photos/heads/leaderboard.json").read_text())["heads"][0]
    scores = json.loads((folder / f"artifacts/photos/heads/{best['folder']}/eval/metrics.json").read_text())
    assert scores["images"] == 12
    assert scores["top1"] > 90
    assert re.search(
        rf"^artifacts/photos/heads/{best['folder']} +{scores['top1']:.2f} ", said[-1], re.MULTILINE
    )


def test_the_table_of_the_demo_is_the_one_that_is_printed(folder: Path, said: list[str]) -> None:
    heads = [f"artifacts/photos/heads/{name}" for name in ("logistic", "knn")]
    printed = python(folder, "evaluate.py", "--run", *heads).splitlines()
    shown = re.findall(r"^    (.*)", section("See it run").split("```python")[0], flags=re.MULTILINE)
    for first in ("run  +top-1", "top-1 minus", "run  +difference"):
        there, here = (next(line for line in lines if re.match(first, line)) for lines in (shown, printed))
        assert re.sub(r"artifacts\S*|\d+ images| +", " ", there) == re.sub(
            r"artifacts\S*|\d+ images| +", " ", here
        )


def test_the_table_of_the_demo_is_about_the_runs_that_make_demo_compares() -> None:
    compared = re.search(
        r"evaluate\.py --run (.*) --out artifacts/demo/comp", (ROOT / "Makefile").read_text()
    )
    assert compared
    shown = re.findall(r"^    (artifacts/demo/\S+) .*%?", section("See it run"), flags=re.MULTILINE)
    first, *others = compared[1].split()
    assert shown == [first, *others, *others]


def test_the_lines_of_python_run(folder: Path) -> None:
    flags = "--dataset folder:photos --cache artifacts/demo/cache"  # of the default trunk, as the demo's
    python(folder, "extract_features.py", *flags.split())
    lines = block("python", section("See it run"))
    code = f"import sys\nsys.path.insert(0, {str(ROOT)!r})\n{lines}\nprint(maps.shape)"
    printed = python(folder, "-c", code).splitlines()
    assert printed[-1] in lines
    assert any(line.startswith("artifacts/demo/quick") for line in printed)


def test_the_lines_of_python_on_the_photos_run(folder: Path, said: list[str]) -> None:
    """With the imports that docs/python.md has, on the maps and runs that the three commands made."""
    assert said
    (folder / "new").mkdir()
    (folder / "new/photo.jpg").symlink_to(folder / "photos/test/bees/03.jpg")
    loader, classifier, run = block("python", section("Any trunk, any data")).splitlines()
    code = f"""
import sys; sys.path.insert(0, {str(ROOT)!r})
from torch.utils.data import DataLoader
from cache import FeatureCache
from pipeline import TenCropClassifier, load_run
if __name__ == "__main__":
    maps, labels = FeatureCache("artifacts/photos/cache/train.h5")[:]
    others = FeatureCache("artifacts/photos/cache/test.h5")[:].features
    print(sum(len(batch.labels) for batch in {loader}))
    print(({classifier}).shape)
    print(*{run})
"""
    (folder / "lines.py").write_text(code)
    first, second, chosen, last = python(folder, "lines.py").splitlines()
    assert (first, second, last) == ("40", "(12, 2)", "bees")
    assert chosen.startswith("best by validation in artifacts/photos/heads:")


@pytest.mark.parametrize(
    "row", re.findall(r"^\| ([\d,]+ \| `--trunk.*) \|$", README, flags=re.MULTILINE), ids=lambda row: row[:7]
)
def test_the_flags_for_so_many_photos_are_understood_and_the_disk_is_what_they_take(row: str) -> None:
    count, first, maps, disk, second = (cell.strip() for cell in row.split("|"))
    for config, cell in ((ExtractConfig, first), (SweepConfig, second)):
        flags = re.findall(r"`([^`]*)`", cell)
        assert isinstance(parse(config, "script", shlex.split(" ".join(flags))), Checked)
    bytes_taken = 2 * int(count.replace(",", "")) * np.prod([int(n) for n in maps.split("×")])
    assert f"{bytes_taken / 1e9:.1g} GB" == disk or f"{bytes_taken / 1e9:.2g} GB" == disk


def test_the_tree_shows_every_package_and_nothing_else() -> None:
    shown = set(re.findall(r" {2,}(\w+)/", section("The tree"))) - {"docs", "tests"}
    packages = {
        path.parent.name for pattern in ("*", "pipeline/*") for path in ROOT.glob(f"{pattern}/__init__.py")
    }
    assert shown == packages


@pytest.mark.parametrize("path", [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")], ids=lambda path: path.name)
def test_links_lead_to_files(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)[)#]", path.read_text(encoding="utf-8")):
        assert (path.parent / target).exists(), target
