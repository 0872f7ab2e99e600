"""Tables and plots: what a reader sees, and that files appear whole or not at all."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.evaluation.plots import plot_ap, plot_confusion
from pipeline.evaluation.table import number, table


def test_table_aligns_names_to_the_left_and_numbers_to_the_right() -> None:
    shown = table(["run", "top-1"], [["a/long/name", "9.50"], ["b", "100.00"]])
    assert shown.splitlines() == ["run           top-1", "a/long/name    9.50", "b            100.00"]


def test_a_missing_value_is_a_dash() -> None:
    assert (number(None), number(3.14159), number(0.5, 3)) == ("-", "3.14", "0.500")


@pytest.mark.parametrize("classes", [1, 2, 10, 50, 200])
def test_confusion_is_a_readable_png_of_bounded_size(classes: int, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "confusion.png"
    names = [f"$class_{i}^with a very long name" for i in range(classes)]
    plot_confusion(path, 80 * np.eye(classes, dtype=int) + 1, names)
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert max(image.size) <= 2400
        assert min(image.size) >= 600
        colours = image.convert("RGB").getcolors(1 << 24)
    assert colours is not None
    assert len(colours) > 50  # not a blank sheet


def test_confusion_with_an_empty_class_is_drawn(tmp_path: Path) -> None:
    plot_confusion(tmp_path / "c.png", [[2, 1], [0, 0]], ["a", "b"])
    assert (tmp_path / "c.png").stat().st_size > 1000


def test_plots_have_the_same_bytes_each_time(tmp_path: Path) -> None:
    for name in ("a", "b"):
        plot_confusion(tmp_path / f"{name}-confusion.png", [[2, 1], [0, 3]], ["a", "b"])
        plot_ap(tmp_path / f"{name}-ap.png", {"a": 50.0, "b": None}, 50.0)
    for kind in ("confusion", "ap"):
        assert (tmp_path / f"a-{kind}.png").read_bytes() == (tmp_path / f"b-{kind}.png").read_bytes()


@pytest.mark.parametrize("classes", [1, 20, 80, 200])
def test_bars_of_average_precision_are_a_readable_png_of_bounded_size(classes: int, tmp_path: Path) -> None:
    values: dict[str, float | None] = {
        f"$class_{i}^with a very long name": 100 * i / 200 for i in range(classes)
    }
    values["none"] = None
    plot_ap(tmp_path / "ap.png", values, 50.0)
    with Image.open(tmp_path / "ap.png") as image:
        assert image.format == "PNG"
        assert max(image.size) <= 2400
        assert min(image.size) >= 350
