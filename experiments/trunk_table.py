"""The table of docs/trunks.md: models of random weights, each run over a few images into a cache and checked.

    python -m experiments.trunk_table                     the models of the table, printed anew
    python -m experiments.trunk_table timm:resnet18 ...   others

Exit code 1 when one is refused because its cache differs from the module as written. Everything between image
file and cache is compared, with images of noise, stored in float32.
"""

import contextlib
import io
import re
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from cache import FeatureCache, split_path
from pipeline.config import ExtractConfig
from pipeline.errors import UserError
from pipeline.extraction.stage import extract

TABLE = Path(__file__).parents[1] / "docs" / "trunks.md"
HEADER = "| `--trunk` | default layer | side | map | difference |\n|---|---|---|---|---|"


def main(specs: list[str]) -> int:
    """Print a row for each model. Returns the exit code."""
    specs = specs or re.findall(r"^\| `(\w+:[^`]+)` \|", TABLE.read_text(encoding="utf-8"), re.MULTILINE)
    failed = 0
    print(HEADER, flush=True)
    with tempfile.TemporaryDirectory() as name:
        photos = make_photos(Path(name) / "photos")
        for i, spec in enumerate(specs):
            try:
                print(row(spec, photos, Path(name) / str(i)), flush=True)
            except UserError as error:
                failed += 1
                print(f"{spec}: {error}", file=sys.stderr, flush=True)
    return int(failed > 0)


def make_photos(folder: Path) -> Path:
    """Two images of noise to train on and two to test on, 256×256 pixels."""
    rng = np.random.default_rng(0)
    for place in ("train/a/0", "train/b/1", "test/a/2", "test/b/3"):
        path = folder / f"{place}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (256, 256, 3), np.uint8)).save(path)
    return folder


def row(spec: str, photos: Path, to: Path) -> str:
    """Extract with a model; its row. Raises: UserError, a CacheError when the maps differ."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        made = extract(
            ExtractConfig(
                dataset=f"folder:{photos}",
                trunk=spec,
                weights="none",
                cache=str(to),
                dtype="float32",
                device="cpu",
            )
        )
    cache = FeatureCache(split_path(made, "train"))
    worst = max(map(float, re.findall(r"equal to the live trunk within (\S+)", said.getvalue())))
    side, layer = cache.identity["transform"]["image_px"], cache.identity["trunk"]["layer"]
    maps = "×".join(map(str, cache.shape[2:]))
    for file in made.iterdir():
        file.unlink()
    return f"| `{spec}` | `{layer}` | {side} | {maps} | {worst:.0e} |"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
