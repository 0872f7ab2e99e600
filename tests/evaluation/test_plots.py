"""Tables and plots: what a reader sees, and that files appear whole or not at all."""

import contextlib
import csv
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager
from matplotlib.patches import Patch
from numpy.typing import ArrayLike
from PIL import Image

from pipeline.evaluation import fonts, plots
from pipeline.evaluation.class_names import drawn_names, shortened
from pipeline.evaluation.confusion import SHADES, SPREAD, TICKS, plot_confusion
from pipeline.evaluation.fonts import fonts_for
from pipeline.evaluation.plots import COLOURS, plot_ap, save
from pipeline.runs.table import number, table


def sparse(confusion_KK: ArrayLike) -> dict[str, list[int]]:
    counts = np.asarray(confusion_KK)
    labels, predictions = np.nonzero(counts)
    found = counts[labels, predictions]
    return {"label": labels.tolist(), "prediction": predictions.tolist(), "count": found.tolist()}


def test_table_aligns_names_to_the_left_and_numbers_to_the_right() -> None:
    shown = table(["run", "top-1"], [["a/long/name", "9.50"], ["b", "100.00"]])
    assert shown.splitlines() == ["run           top-1", "a/long/name    9.50", "b            100.00"]


def test_a_missing_value_is_a_dash() -> None:
    assert (number(None), number(3.14159), number(0.5, 3)) == ("-", "3.14", "0.500")


@pytest.mark.no_cover
@pytest.mark.parametrize("classes", [1, 20, 60, 1000])
def test_confusion_is_a_readable_png_of_bounded_size(classes: int, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "confusion.png"
    names = [f"$class_{i}^with a very long name" for i in range(classes)]
    plot_confusion(path, sparse(80 * np.eye(classes, dtype=int) + 1), names)
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert max(image.size) <= 2400
        assert min(image.size) >= 600
        colours = image.convert("RGB").getcolors(1 << 24)
    assert colours is not None
    assert len(colours) > 50  # not a blank sheet


def test_confusion_with_an_empty_class_is_drawn(tmp_path: Path) -> None:
    plot_confusion(tmp_path / "c.png", sparse([[2, 1], [0, 0]]), ["a", "b"])
    assert (tmp_path / "c.png").stat().st_size > 1000


def test_plots_have_the_same_bytes_each_time(tmp_path: Path) -> None:
    for name in ("a", "b"):
        plot_confusion(tmp_path / f"{name}-confusion.png", sparse([[2, 1], [0, 3]]), ["a", "b"])
        plot_ap(tmp_path / f"{name}-ap.png", {"a": 50.0, "b": None}, 50.0)
    for kind in ("confusion", "ap"):
        assert (tmp_path / f"a-{kind}.png").read_bytes() == (tmp_path / f"b-{kind}.png").read_bytes()


@pytest.mark.parametrize("classes", [1, 60, 1000])
def test_bars_of_average_precision_are_a_readable_png_of_bounded_size(classes: int, tmp_path: Path) -> None:
    values: dict[str, float | None] = {
        f"$class_{i}^with a very long name": 100 * i / 1000 for i in range(classes)
    }
    values["none"] = None
    plot_ap(tmp_path / "ap.png", values, 50.0)
    with Image.open(tmp_path / "ap.png") as image:
        assert image.format == "PNG"
        assert max(image.size) <= 2400
        assert min(image.size) >= 350


def test_many_classes_share_cells_and_none_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """21,000 classes: their matrix would be 3.5 GB."""
    seen = []
    monkeypatch.setattr(Axes, "imshow", lambda axes, shown, **_: seen.append(shown) or axes.scatter(0, 0))
    labels = np.repeat(np.arange(21_000), 2)
    wrong = {"label": labels, "prediction": labels - labels % 2, "count": np.ones(len(labels), int)}
    plot_confusion(tmp_path / "c.png", {k: v.tolist() for k, v in wrong.items()}, ["a"] * 21_000)
    (shares,) = seen
    assert shares.shape == (500, 500)
    np.testing.assert_array_equal(shares, 100 * np.eye(500))


@pytest.fixture(autouse=True)
def _fonts_of_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever this machine has besides."""
    own = [font for font in fontManager.ttflist if "mpl-data" in font.fname]
    monkeypatch.setattr(fontManager, "ttflist", own)
    monkeypatch.setattr(fonts, "findSystemFonts", list)


@pytest.fixture
def new_font(tmp_path: Path) -> Iterator[str]:
    """An installed font, as matplotlib sees it, with a letter or two of several scripts, each a square."""
    letters, family = "猫狗مر🐱ภ", "Probe Sans"
    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    for place in ((0, 900), (900, 900), (900, 0)):
        pen.lineTo(place)
    pen.closePath()
    square, builder = pen.glyph(), FontBuilder(1000, isTTF=True)
    names = [".notdef", *(f"u{ord(letter):X}" for letter in letters)]
    builder.setupGlyphOrder(names)
    builder.setupCharacterMap({ord(letter): f"u{ord(letter):X}" for letter in letters})
    builder.setupGlyf(dict.fromkeys(names, square))
    builder.setupHorizontalMetrics(dict.fromkeys(names, (1000, 0)))
    builder.setupHorizontalHeader(ascent=900, descent=-100)
    builder.setupNameTable({"familyName": family, "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(tmp_path / "probe.ttf")
    fontManager.addfont(tmp_path / "probe.ttf")
    fontManager.ttflist[-1] = dataclasses.replace(fontManager.ttflist[-1], weight=380)  # which is logged
    yield family
    without(family)


def without(family: str) -> None:
    """Uninstall a font, as matplotlib sees it."""
    fontManager.ttflist[:] = [font for font in fontManager.ttflist if font.name != family]


def test_letters_that_the_usual_font_lacks_are_taken_from_one_that_is_installed(
    new_font: str,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert fonts_for("cat Füchse ю") == ([], set())
    assert fonts_for("猫 and 狗, مر, 🐱, ภ") == ([new_font], set())
    plot_confusion(tmp_path / "c.png", sparse(np.eye(2, dtype=int)), ["猫", "狗"])
    assert (capfd.readouterr().err, caplog.text) == ("", "")
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".ttf"] == ["c.png"]
    without(new_font)
    assert fonts_for("猫") == ([], {"猫"})
    monkeypatch.setattr(fonts, "findSystemFonts", lambda: [str(tmp_path / "probe.ttf")])
    assert fonts_for("猫") == ([new_font], set())  # installed since matplotlib made its list


@pytest.mark.filterwarnings("error")  # of matplotlib, when it draws a box for a letter
def test_what_no_font_has_is_drawn_as_what_can_be_read_and_said_in_one_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plots, "quietly", contextlib.nullcontext)
    names = ["猫", "قطة", "🦊", "1️⃣ ❤️", "a\tb\x07\u202e", "🦆🦊🦆", "=1", "\udcff"]
    escapes, cut = "a\\tb\\x07\\u202e", "[duck][fo…e][duck]"
    wanted = ["#0", names[1], "[fox face]", "1 ❤", escapes, cut, "=1", "\\udcff"]
    assert list(drawn_names(tmp_path / "c.png", names).values()) == wanted
    said = capfd.readouterr().err
    assert said.startswith(
        f"{tmp_path}/c.png: no installed font has the letters of 猫, 🦊, 🦆🦊🦆; the numbers"
    )
    assert said.count("\n") == 1
    with (tmp_path / "classes.csv").open(encoding="utf-8-sig", newline="") as file:
        table = list(csv.DictReader(file))
    assert [line["number"] for line in table] == [str(k) for k in range(len(names))]
    assert [line["class"] for line in table] == [*names[:6], "'=1", "\\udcff"]
    plot_confusion(tmp_path / "c.png", sparse(np.eye(len(names), dtype=int)), names)
    plot_ap(tmp_path / "a.png", dict.fromkeys(names, 50.0), 50.0)
    figure = Figure()
    figure.text(0, 0, "写真/1.jpg")
    save(figure, tmp_path / "path.png")
    assert [text.get_text() for text in figure.texts] == [r"\u5199\u771f/1.jpg"]


def test_long_names_keep_both_ends_and_equal_ones_are_told_apart(tmp_path: Path) -> None:
    first, second = (f"animalia chordata {middle} felis catus" for middle in ("a", "b"))
    accents = "e\u0301" * 30
    drawn = drawn_names(tmp_path / "c.png", [first, second, accents, "x" * 18])
    assert drawn[0] == "#0 animal…is catus"
    assert drawn[1].startswith("#1 animal")
    assert drawn[2] == "e\u0301" * 9 + "…" + "e\u0301" * 8
    assert drawn[3] == "x" * 18
    assert [shortened("猫" * count) for count in (9, 10)] == ["猫" * 9, "猫猫猫猫…猫猫猫猫"]
    assert (tmp_path / "classes.csv").exists()


def ink(text: str, path: Path) -> list[int]:
    """The width in pixels of each part of a text with nothing above or below it, from left to right."""
    figure = Figure(figsize=(8, 2))
    figure.text(0.05, 0.3, text, fontsize=60)
    save(figure, path)
    with Image.open(path) as image:
        dark = (np.asarray(image.convert("L")) < 128).any(0)
    edges = np.flatnonzero(np.diff(dark.astype(int)))
    return (edges[1::2] - edges[::2]).tolist()


def test_hebrew_runs_from_right_to_left_and_arabic_letters_join(tmp_path: Path) -> None:
    letters = "שון"
    alone = [ink(letter, tmp_path / "a.png")[0] for letter in letters]
    assert max(alone) > 2 * min(alone)
    np.testing.assert_allclose(ink(letters, tmp_path / "all.png"), alone[::-1], atol=2)
    assert [len(ink(text, tmp_path / "b.png")) for text in ("بب", "ب\u200cب")] == [1, 2]


def size(bar: Patch) -> tuple[float, float]:
    box = bar.get_path().get_extents(bar.get_patch_transform())
    return box.width, box.height


def test_the_worst_of_many_classes_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figures = list[Figure]()
    monkeypatch.setattr(Figure, "savefig", lambda figure, part, **_: (figures.append(figure), part.touch()))
    counts = 80 * np.eye(200, dtype=int)
    counts[7, 9], counts[150, 3], counts[9, 7] = 5, 30, 6
    names = [f"class {k}" for k in range(200)]
    plot_confusion(tmp_path / "c.png", sparse(counts), names)
    plot_ap(
        tmp_path / "a.png", {name: 50 + k % 100 / 4 for k, name in enumerate(names)} | {"none": None}, 60.0
    )
    _, pairs, _, predictions = figures[0].axes
    assert [label.get_text() for label in pairs.get_yticklabels()] == ["class 150", "class 9", "class 7"]
    assert [label.get_text() for label in predictions.get_yticklabels()] == ["class 3", "class 7", "class 9"]
    assert [size(bar)[0] for bar in pairs.patches] == [30, 6, 5]
    lowest = [label.get_text() for label in figures[1].axes[1].get_yticklabels()]
    assert lowest == [f"class {k}" for quarter in range(20) for k in (quarter, quarter + 100)]
    assert sum(size(bar)[1] for bar in figures[1].axes[0].patches) == 200
    assert (tmp_path / "classes.csv").read_text(encoding="utf-8-sig").splitlines()[8] == "7,class 7"


SEEN = {  # of linear RGB: Machado, Oliveira, Fernandes 2009, of full severity
    "all": np.eye(3),
    "no red": np.array([[0.1523, 1.0526, -0.2049], [0.1145, 0.7863, 0.0992], [-0.0039, -0.0481, 1.0520]]),
    "no green": np.array([[0.3673, 0.8606, -0.2280], [0.2801, 0.6725, 0.0474], [-0.0118, 0.0429, 0.9689]]),
}


def lab(colours: Sequence[Any], seen: str) -> np.ndarray:
    """CIE Lab of colours, as they are seen by an eye that has all cones, or lacks one kind."""
    rgb = np.array([to_rgb(colour) for colour in colours])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    xyz_of = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    xyz = (linear @ SEEN[seen].T).clip(0, 1) @ np.transpose(xyz_of) / (0.9505, 1, 1.089)
    x, y, z = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116).T
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], 1)


@pytest.mark.parametrize("seen", SEEN)
def test_colours_stay_apart_for_the_colour_blind(seen: str) -> None:
    lines = lab(COLOURS, seen)
    apart = np.linalg.norm(lines[:, None] - lines, axis=2)
    assert apart[~np.eye(len(lines), dtype=bool)].min() > 15
    shades = lab([SHADES(SPREAD(share)) for share in TICKS], seen)
    assert (np.diff(shades[:, 0]) < -3).all()  # each darker than the one before
    assert np.linalg.norm(np.diff(shades, axis=0), axis=1).min() > 5
