"""`evaluate.py --show-regions N`: where a head looked, as a picture of N test images and as JSON of all.

run folder → RUN/eval/{regions.png, regions.json}
"""

from pathlib import Path
from typing import Any

import numpy as np

from pipeline.config import EvaluateConfig
from pipeline.evaluation.predict import open_test
from pipeline.evaluation.regions.geometry import labels_of_steps
from pipeline.evaluation.regions.hits import HitRate
from pipeline.evaluation.regions.look import Images, Looked, look, rate
from pipeline.evaluation.regions.sheet import AT_MOST, Picture, contact_sheet
from pipeline.files import read_json, write_json
from pipeline.runs.folder import load_head

REGIONS = ("regions.png", "regions.json")
UNITS = {
    "regions": "x0, y0, x1, y1 in pixels of the image, per crop and step; they may reach beyond the image",
    "adds": "classes with a score above 0 whose highest score over the shown crop's regions is this region's",
    "hits": "per cent of the predicted and present classes of an image on one of whose boxes the centre of a "
    "region lies",
    "chance": "the same of windows of the regions' sizes, placed at random inside the image",
}


def has_regions(folder: Path) -> bool:
    """Whether a run's head looks at regions."""
    return read_json(folder / "config.json").get("head") == "recurrent-attention"


def show_regions(config: EvaluateConfig, folder: Path) -> None:
    """Write both files and print the rate of hits where boxes are known.

    Raises: RunError when the head looks at no regions; DataError, StaleCacheError when its images are gone.
    """
    looked = look(folder, cache=config.cache, batch=config.batch, device=config.device)
    images = Images(open_test(Path(config.cache or load_head(folder).config.cache) / "test.h5", folder))
    rows = np.linspace(0, len(looked.paths) - 1, min(config.show_regions, len(looked.paths), AT_MOST))
    pictures = [picture(looked, images, int(row)) for row in np.unique(rows.astype(np.int64))]
    sheet, listed = (folder / "eval" / name for name in REGIONS)
    sheet.parent.mkdir(exist_ok=True)
    contact_sheet(sheet, pictures)
    found = rate(looked, images)
    facts: dict[str, Any] = {"units": UNITS, "shown_crop": looked.crop}
    if found is not None:
        facts |= found._asdict() if found.pairs else {"pairs": 0}
        print(f"{folder}: {said(found)}")
    facts["images"] = [as_json(looked, images, row) for row in range(len(looked.paths))]
    write_json(listed, facts)


def said(found: HitRate) -> str:
    """In a sentence."""
    if not found.pairs:
        return "no object that is there was predicted, so there is no rate of regions on objects"
    return (
        f"a region lies on {found.hits:.1f} % of {found.pairs:,} predicted objects, "
        f"random windows on {found.chance:.1f} %"
    )


def picture(looked: Looked, images: Images, row: int) -> Picture:
    """A test image with the shown crop's regions."""
    path = looked.paths[row]
    pixels = images.read(path)
    names = [name for name, present in zip(looked.classes, looked.present[row], strict=True) if present]
    boxes = looked.on_image(row, (pixels.shape[0], pixels.shape[1]))[looked.crop]
    return Picture(f"{path}: {', '.join(names) or '–'}", pixels, boxes, added(looked, row))


def added(looked: Looked, row: int) -> list[list[str]]:
    """Names of the classes that each region of the shown crop adds."""
    scores = looked.step_logits[row, looked.crop]
    steps = labels_of_steps(scores, scores.max(0))
    return [[looked.classes[k] for k in step] for step in steps]


def as_json(looked: Looked, images: Images, row: int) -> dict[str, Any]:
    """One image's regions, and what each adds."""
    path = looked.paths[row]
    height, width = images.size(path)
    boxes = looked.on_image(row, (height, width))
    return {
        "path": path,
        "size": [width, height],
        "adds": added(looked, row),
        "regions": np.round(boxes, 2).tolist(),
    }
