"""What a cell sees: the receptive field of networks where it is known, and of made-up gradients."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from support.brightness import write_images
from torch import Tensor, nn

from experiments.crops.field import Field, field_of, measure, seen
from pipeline.config import ExtractConfig
from pipeline.extraction.stage import extract
from pipeline.images.transform import Transform
from pipeline.trunks.base import Trunk

SIDE = 40


def trunk(*layers: nn.Module) -> Trunk:
    transform = Transform(image_px=SIDE, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    return Trunk("toy", 1, nn.Sequential(*layers), transform, "")


def images() -> Tensor:
    return torch.randint(
        256, (3, 3, SIDE, SIDE), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )


@pytest.mark.parametrize(
    ("layers", "cells", "pixels"),
    [
        (((3, 1),), None, 3),
        (((3, 1), (3, 1)), None, 5),
        (((3, 2), (3, 2)), None, 7),
        (((5, 2), (3, 1)), None, 9),
        (((1, 1),), 5, 8),  # 40 pixels in 5 cells
        (((3, 1),), 5, 10),
        (((4, 4),), 5, 8),  # 10 cells, of which two are averaged
    ],
)
def test_the_reach_is_the_receptive_field_on_paper(
    layers: tuple[tuple[int, int], ...], cells: int | None, pixels: int
) -> None:
    torch.manual_seed(0)
    widths = (3, 4, 4)
    convs = [
        nn.Conv2d(widths[i], widths[i + 1], size, stride, padding=(size - 1) // 2)
        for i, (size, stride) in enumerate(layers)
    ]
    found = measure(trunk(*convs), images(), cells)
    assert found.reach == pytest.approx(pixels / SIDE)
    assert 0 < found.field <= found.reach


def test_the_field_is_the_square_that_holds_nine_tenths() -> None:
    y, x = np.indices((20, 20))
    ring = np.maximum(abs(y - 9.5), abs(x - 9.5))  # 0.5 for the inner 4 pixels, 9.5 at the rim
    energy = np.where(ring < 3, 89 / 36, 0.0)  # 36 pixels hold 89
    energy += np.where((ring > 3) & (ring < 5), 6 / 64, 0.0)  # a side of 8: 91.6, of 10: 95
    energy += np.where(ring > 9, 5 / 76, 0.0)
    found = seen(energy)
    assert found.reach == 1
    assert found.field == pytest.approx(8 / 20)
    assert seen(np.where(ring < 3, 1.0, 0.0)) == Field(6 / 20, 6 / 20)


def test_a_cell_that_ignores_the_rim_of_its_field_has_a_smaller_field() -> None:
    conv = nn.Conv2d(3, 2, 9, padding=4, bias=False)
    nn.init.constant_(conv.weight, 1e-3)
    with torch.no_grad():
        conv.weight[:, :, 3:6, 3:6] = 1.0
    found = measure(trunk(conv), images())
    assert (found.reach, found.field) == pytest.approx((9 / SIDE, 3 / SIDE))


def test_it_is_measured_once_for_a_cache(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = write_images(tmp_path / "images")
    folder = extract(ExtractConfig(dataset=images, cache=str(tmp_path / "cache"), device="cpu"))
    first = field_of(images, folder)
    assert first.reach > 0.9, "31 of 32 pixels on paper"
    assert first.field < first.reach
    assert "measuring" in capsys.readouterr().out
    assert field_of(images, folder) == first
    assert "measuring" not in capsys.readouterr().out
    kept = folder / "field.json"
    kept.write_text(json.dumps(json.loads(kept.read_text()) | {"cache_key": "of another"}))
    assert field_of(images, folder) == first
    assert "measuring" in capsys.readouterr().out
