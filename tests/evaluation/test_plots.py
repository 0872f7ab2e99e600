"""Tables and plots: what a reader sees, and that files appear whole or not at all."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib.axes import Axes
from matplotlib.font_manager import fontManager
from numpy.typing import ArrayLike
from PIL import Image

from pipeline.evaluation.fonts import families_for
from pipeline.evaluation.plots import plot_ap, plot_confusion
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


@pytest.mark.parametrize("classes", [1, 2, 10, 50, 200, 1000])
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


@pytest.mark.parametrize("classes", [1, 20, 80, 200, 1000])
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
    yield family
    without(family)


def without(family: str) -> None:
    """Uninstall a font, as matplotlib sees it."""
    fontManager.ttflist[:] = [font for font in fontManager.ttflist if font.name != family]


def test_letters_that_the_usual_font_lacks_are_taken_from_one_that_is_installed(
    new_font: str, tmp_path: Path
) -> None:
    assert families_for("cat Füchse ю") == []
    assert families_for("猫 and 狗, مر, 🐱, ภ") == [new_font]
    plot_confusion(tmp_path / "with.png", sparse(np.eye(2, dtype=int)), ["猫", "狗"])
    without(new_font)
    assert families_for("猫") == []
    plot_confusion(tmp_path / "without.png", sparse(np.eye(2, dtype=int)), ["猫", "狗"])
    assert (tmp_path / "with.png").read_bytes() != (tmp_path / "without.png").read_bytes()


@pytest.mark.filterwarnings("error")
def test_names_that_no_font_has_are_drawn_without_a_word(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    names = ["猫", "قطة", "แมว", "🐱", "\U0010ffff", "a\tb\x07"]
    plot_confusion(tmp_path / "c.png", sparse(np.eye(len(names), dtype=int)), names)
    plot_ap(tmp_path / "a.png", dict.fromkeys(names, 50.0), 50.0)
    assert (tmp_path / "a.png").stat().st_size > 1000
    assert (*capfd.readouterr(), caplog.text) == ("", "", "")
