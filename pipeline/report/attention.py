"""Where a head of recurrent attention looked: regions drawn on test images, with what each one added to the
predicted set, and whether that is right. Out of RUN/eval/regions.json, by evaluate.py --show-regions.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.errors import RunError, UserError
from pipeline.evaluation.scored import Predictions
from pipeline.files import read_json
from pipeline.report.chart import SERIES
from pipeline.report.collect import own
from pipeline.report.markup import Markup, element, name
from pipeline.report.pictures import LARGE, Pictures

REGIONS = "eval/regions.json"
MOST = 12
"""Images that are drawn."""
STEPS = 16
"""Regions of an image that are drawn at most."""


class Seen(NamedTuple):
    """A test image, and the shown crop's regions on it."""

    path: str
    size: tuple[int, int]
    """(width, height) in pixels; regions are in the same ones."""
    regions: list[tuple[float, float, float, float]]
    added: list[list[str]]
    """The classes that each region added."""


def attention(folder: Path, kept: Predictions, pictures: Pictures | None) -> Markup | None:
    """Test images with the regions on them. None where no regions were written, or no image can be shown."""
    path = own(folder, REGIONS)
    if pictures is None or not path.is_file():
        return None
    try:
        seen = read_regions(path, kept)
        cards = [_card(one, kept, row, pictures) for one, row in seen]
    except (UserError, OSError) as error:
        cards = [element("li", name(str(error), 300), class_="problem")]
    return element(
        "section",
        element("h2", "Attention", id="attention"),
        element(
            "p",
            f"What {folder.name} looked at, region by region, and the labels that each one added.",
            class_="muted",
        ),
        element("ul", cards, class_="gallery wide-cards"),
    )


def read_regions(path: Path, kept: Predictions) -> list[tuple[Seen, int]]:
    """Some images, at even distances, with their rows in the predictions.

    Raises: RunError when the file is not what evaluate.py writes.
    """
    facts = read_json(path)
    try:
        images, crop = list(facts["images"]), int(facts["shown_crop"])
        rows = {image: row for row, image in enumerate(kept.paths)}
        step = max(1, len(images) // MOST)
        return [(one := _seen(image, crop), rows[one.path]) for image in images[::step][:MOST]]
    except (KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
        raise RunError(
            f"{path}: can't be read ({error!r}); evaluate.py --show-regions makes it again"
        ) from error


def _seen(image: dict[str, Any], crop: int) -> Seen:
    width, height = (int(side) for side in image["size"])
    regions = [tuple(float(end) for end in region) for region in image["regions"][crop][:STEPS]]
    added = [[str(label) for label in labels] for labels in image["adds"][:STEPS]]
    finite = all(len(region) == 4 and all(map(math.isfinite, region)) for region in regions)
    if not finite or len(added) != len(regions) or not 0 < width < 10**6 or not 0 < height < 10**6:
        raise ValueError("expected four ends and a list of classes for each region")
    return Seen(str(image["path"]), (width, height), regions, added)  # pyright: ignore[reportArgumentType]


def _card(one: Seen, kept: Predictions, row: int, pictures: Pictures) -> Markup:
    labels = _labels(kept, row)
    return element(
        "li",
        _drawn(one, pictures),
        element("div", _said(one.added, labels), element("p", name(one.path, 80), class_="path")),
        class_="card",
    )


def _labels(kept: Predictions, row: int) -> list[str]:
    own = (
        [k for k, value in enumerate(kept.labels[row]) if value == 1]
        if kept.multi_label
        else [kept.labels[row]]
    )
    return [str(kept.classes[k]) for k in own]


def _said(added: Sequence[Sequence[str]], labels: Sequence[str]) -> Markup:
    """The predicted set, region by region, and the labels that are not in it."""
    lines = [
        element(
            "li",
            f"{number}: ",
            name(label, 40),
            element("span", " ✓ right", class_="good")
            if label in labels
            else element("span", " ✕ wrong", class_="bad"),
        )
        for number, own in enumerate(added, 1)
        for label in own[:STEPS]
    ]
    said = {label for own in added for label in own}
    lines += [
        element("li", name(label, 40), element("span", " ✕ missed", class_="bad"))
        for label in labels
        if label not in said
    ]
    return element("ul", lines or [element("li", "no label, rightly", class_="good")], class_="said")


def _drawn(one: Seen, pictures: Pictures) -> Markup:
    pixels = pictures.pixels(one.path)
    width, height = one.size
    if pixels.shape[:2] != (height, width):
        raise RunError(f"{one.path}: has another size than the regions were made for")
    uri = pictures.uri(pixels, LARGE)
    picture = element("image", href=uri, width=width, height=height, class_="small" if width < 64 else None)
    letter = round(max(width, height) / 14, 2)
    shapes = []
    for place, (x0, y0, x1, y1) in enumerate(one.regions):
        style = f"series s{place % SERIES}"
        sides = round(max(x1 - x0, 0), 2), round(max(y1 - y0, 0), 2)
        box = element("rect", x=x0, y=y0, width=sides[0], height=sides[1], class_=style)
        x, y = min(max(x0, 0), width - letter), min(max(y0, 0), height - letter)
        tag = element("rect", x=x, y=y, width=letter, height=letter, class_=f"tag s{place % SERIES}")
        text = element("text", place + 1, x=round(x + letter / 2, 2), y=round(y + 0.82 * letter, 2))
        shapes += [box, tag, text]
    title = f"test image {one.path} with {len(one.regions)} numbered regions"
    return element(
        "svg",
        picture,
        shapes,
        viewBox=f"0 0 {width} {height}",
        role="img",
        aria_label=title,
        class_="regions",
        font_size=round(0.85 * letter, 2),
    )
