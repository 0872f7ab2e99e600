"""Crop geometry against torchvision's, and against boxes worked out by hand."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torchvision.transforms import functional as tv

from pipeline.errors import ConfigError
from pipeline.maps.crops import Crop, center_box, crops_of, five_crop_boxes


def cut(map_CHW: Tensor, crop: Crop) -> Tensor:
    """The crop as an array, the slow and plain way."""
    top, left, height, width = crop.box
    cells = map_CHW[:, top : top + height, left : left + width]
    return cells.flip(-1) if crop.mirrored else cells


@st.composite
def sizes(draw: st.DrawFn) -> tuple[tuple[int, int], tuple[int, int]]:
    """((map height, width), (crop height, width)), the crop inside the map."""
    height, width = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    return (height, width), (draw(st.integers(1, height)), draw(st.integers(1, width)))


def test_boxes_of_three_on_five_are_the_corners_and_the_centre() -> None:
    boxes = [(box.top, box.left) for box in five_crop_boxes((5, 5), (3, 3))]
    assert boxes == [(0, 0), (0, 2), (2, 0), (2, 2), (1, 1)]


@given(sizes())
def test_five_and_ten_are_torchvisions_in_its_order(size: tuple[tuple[int, int], tuple[int, int]]) -> None:
    (height, width), (crop_height, crop_width) = size
    cells = torch.arange(2 * height * width).view(2, height, width)
    for kind, theirs in (
        ("five", tv.five_crop(cells, [crop_height, crop_width])),
        ("ten", tv.ten_crop(cells, [crop_height, crop_width])),
        ("center", (tv.center_crop(cells, [crop_height, crop_width]),)),
    ):
        ours = [cut(cells, crop) for crop in crops_of(kind, *size)]
        assert len(ours) == len(theirs)
        for mine, expected in zip(ours, theirs, strict=True):
            assert torch.equal(mine, expected)


@given(sizes())
def test_ten_image_takes_the_same_five_boxes_of_both_views(
    size: tuple[tuple[int, int], tuple[int, int]],
) -> None:
    crops = crops_of("ten-image", *size)
    assert [crop.view for crop in crops] == [0] * 5 + [1] * 5
    assert [crop.box for crop in crops[:5]] == [crop.box for crop in crops[5:]] == five_crop_boxes(*size)
    assert not any(crop.mirrored for crop in crops)


def test_full_is_the_whole_map_whatever_the_crop() -> None:
    assert crops_of("full", (4, 7), (9, 9)) == [Crop((0, 0, 4, 7))]  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("kind", ["center", "five", "ten", "ten-image"])
@pytest.mark.parametrize("crop", [(6, 3), (3, 6), (0, 3)])
def test_a_crop_that_does_not_fit_is_refused_with_both_sizes(kind: str, crop: tuple[int, int]) -> None:
    with pytest.raises(ConfigError, match=rf"--crop-cells: .* 5×5 .* {crop[0]}×{crop[1]}"):
        crops_of(kind, (5, 5), crop)


def test_half_a_cell_is_rounded_to_even() -> None:
    assert center_box((4, 6), (3, 3))[:2] == (0, 2)
