"""Regions as boxes: by hand, and against where a transformer really samples."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.evaluation.regions.geometry import region_boxes, to_image
from pipeline.evaluation.regions.hits import HitRate, Regions, any_inside, hit_rate, random_centres, rate
from pipeline.evaluation.regions.look import Looked
from pipeline.evaluation.regions.sheet import Picture, contact_sheet
from pipeline.heads.transformer import Transformer
from pipeline.images.transform import Resize, Transform
from pipeline.maps.crops import Box, Crop, crops_of

WHOLE = [Crop(Box(0, 0, 4, 6))]


def test_the_region_one_is_the_whole_crop_and_one_without_extent_a_cell() -> None:
    theta = [[[1, 1, 0, 0], [0, 0, 0, 0], [0, 0, -1, 1], [-0.5, 0.5, 0.2, 0]]]
    # 120 px over 6 columns of 20 px and 4 rows of 30 px
    expected = [[0, 0, 120, 120], [50, 45, 70, 75], [0, 90, 20, 120], [35, 22.5, 105, 97.5]]
    expected[3] = [60 + 0.2 * 50 - 25 - 10, 60 - 22.5 - 15, 60 + 0.2 * 50 + 25 + 10, 60 + 22.5 + 15]
    found = region_boxes(theta, WHOLE, (4, 6), 120)
    assert found.shape == (1, 4, 4)
    np.testing.assert_allclose(found[0], expected)


def test_crops_are_boxes_of_the_map_and_mirrored_ones_are_turned_back() -> None:
    crops = [
        Crop(Box(1, 2, 2, 3)),
        Crop(Box(1, 2, 2, 3), mirrored=True),
        Crop(Box(1, 2, 2, 3), view=1),
    ]
    first_cell = [[[0, 0, -1, -1]]] * 3
    found = region_boxes(first_cell, crops, (4, 6), 12)[:, 0]  # cells of 2 × 3 px
    assert found.tolist() == [[4, 3, 6, 6], [8, 3, 10, 6], [6, 3, 8, 6]]


@pytest.mark.parametrize("kind", ["full", "ten", "ten-image"])
def test_a_box_has_its_centre_where_the_transformer_samples(kind: str) -> None:
    """A map that holds each cell's own place; one point is sampled, at the region's centre."""
    height, width, image_px = 7, 9, 63
    crops = crops_of(kind, (height, width), (4, 5))
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    view = torch.stack([rows, columns]).double() + 0.5  # (C, H, W)
    views = [view, view.flip(-1)][: 1 + max(c.view for c in crops)]
    maps = torch.stack(views)[None].movedim(2, 4).flatten(1, 3)  # (1, V·H·W, C)
    theta = torch.from_numpy(np.random.default_rng(0).uniform(-0.9, 0.9, (1, 1, len(crops), 4)))
    y, x = Transformer(crops, (height, width), (1, 1)).double()(maps, theta)[0, 0].unbind(1)
    boxes = region_boxes(theta[0, 0, :, None].numpy(), crops, (height, width), image_px)[:, 0]
    np.testing.assert_allclose((boxes[:, 0] + boxes[:, 2]) / 2, x * image_px / width)
    np.testing.assert_allclose((boxes[:, 1] + boxes[:, 3]) / 2, y * image_px / height)


def test_boxes_go_back_to_the_image_s_own_pixels() -> None:
    whole, corner = np.array([0.0, 0, 32, 32]), np.array([0.0, 0, 8, 8])
    size = (100, 200)
    assert to_image(whole, "squash", 32, size).tolist() == [0, 0, 200, 100]
    assert to_image(corner, "squash", 32, size).tolist() == [0, 0, 50, 25]
    assert to_image(whole, "shorter-side-then-center-crop", 32, size).tolist() == [50, 0, 150, 100]
    assert to_image(corner, "shorter-side-then-center-crop", 32, (200, 100)).tolist() == [0, 50, 25, 75]
    assert to_image(corner, "exact", 32, (32, 32)).tolist() == corner.tolist()


def seen(step_logits_SK: list[list[float]], boxes_S4: list[list[float]], present: list[int]) -> Looked:
    """One image under one crop; input pixels are those of the image."""
    test: Any = SimpleNamespace(identity={"transform": {"resize": "exact", "image_px": 100}})
    classes, logits = tuple("abcde")[: len(present)], np.array([[step_logits_SK]], np.float32)
    return Looked(test, ["0.png"], classes, np.array([[boxes_S4]]), logits, np.array([present]) == 1)


def test_a_label_belongs_to_the_region_that_scored_it_highest() -> None:
    looked = seen([[1.0, -1, 3, 2], [5.0, -2, 1, 2]], [[0.0] * 4] * 2, [0] * 4)
    assert looked.added(0) == [["c", "d"], ["a"]]


def example(looked: list[list[float]], objects: list[list[float]], *asked: int) -> Regions:
    return Regions(
        (100, 200), np.array(looked, float), np.array(objects, float).reshape(-1, 5), np.array(asked)
    )


def test_hits_by_hand() -> None:
    on, off, box = [90.0, 40, 110, 60], [0.0, 0, 20, 20], [3.0, 100, 50, 120, 60]
    first = example([off, on], [box, [4, 0, 0, 5, 5]], 3, 4)  # 3 is hit at its very corner, 4 is not
    unknown = example([on], [box], 7)  # predicted and present, but nobody said where
    wide = example([on], [[3, 0, 0, 200, 100]], 3)
    found = hit_rate([first, unknown, wide], draws=10)
    assert (found.hits, found.pairs) == (pytest.approx(200 / 3), 3)
    for x, y in ((120, 55), (110, 60)):  # x1 and y1 are exclusive
        edge = example([[x - 10.0, y - 10.0, x + 10.0, y + 10.0]], [box], 3)
        assert hit_rate([edge], draws=10).hits == 0
    assert np.isnan(hit_rate([unknown], draws=10).chance)


def test_chance_is_the_share_of_where_windows_can_lie() -> None:
    # Windows of 20×20 have centres in 180×80; the box holds 45×40 of them: 1/8. Of two windows 1 - (7/8)².
    box, window = [0.0, 10, 10, 55, 50], [50.0, 50, 70, 70]
    one, two = (hit_rate([example([window] * n, [box], 0)], draws=40_000).chance for n in (1, 2))
    assert one == pytest.approx(12.5, abs=0.8)
    assert two == pytest.approx(100 * (1 - (7 / 8) ** 2), abs=1)


def test_windows_lie_inside_and_one_larger_than_the_image_is_centred() -> None:
    looked = np.array([[-10.0, 0, 50, 30], [-50, -50, 350, 20]])
    found = random_centres(looked, (100, 200), 5000, np.random.default_rng(0))
    low, high = found.min(0), found.max(0)
    assert low[0] == pytest.approx([30, 15], abs=0.5)
    assert high[0] == pytest.approx([170, 85], abs=0.5)
    assert (low[1, 0], high[1, 0]) == (100, 100)
    whole = example([[0, 0, 200, 100]], [[0, 90, 40, 110, 60]], 0)
    assert hit_rate([whole], draws=50) == HitRate(100, 100, 1)


def test_the_same_seed_draws_the_same_windows() -> None:
    images = [example([[50, 50, 70, 70]], [[0, 10, 10, 55, 50]], 0)]
    assert hit_rate(images, draws=99, seed=1) == hit_rate(images, draws=99, seed=1)
    assert len({hit_rate(images, draws=99, seed=s).chance for s in range(5)}) > 1


def test_hits_are_asked_of_classes_that_are_predicted_and_present() -> None:
    everywhere = np.array([[label, 0, 0, 100, 100] for label in range(5)], np.float32)
    images: Any = SimpleNamespace(size=lambda path: (100, 100), boxes=lambda path, classes: everywhere)
    looked = seen([[1.0, 0, 2, 3, -1]], [[40.0, 40, 60, 60]], [1, 1, 0, -1, 1])
    assert rate(looked, images) == HitRate(100, 100, 1)  # a alone
    images.boxes = lambda path, classes: None
    assert rate(looked, images) is None


def test_no_point_lies_in_no_box() -> None:
    assert any_inside(np.zeros((5, 2, 2)), np.zeros((0, 4))).tolist() == [False] * 5


def test_a_sheet_is_a_png_with_the_same_bytes_each_time(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pictures = [
        Picture(
            f"$image_{i}^",
            rng.integers(0, 256, (48, 64, 3), np.uint8),
            rng.uniform(-5, 60, (5, 4)),
            [["a", "b"]] * 5,
        )
        for i in range(6)
    ]
    for name in ("a.png", "b.png"):
        contact_sheet(tmp_path / name, pictures)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="1 to 64 images"):
        contact_sheet(tmp_path / "c.png", [])


@pytest.mark.parametrize("resize", ["squash", "shorter-side-then-center-crop"])
@pytest.mark.parametrize("size", [(96, 160), (160, 96), (64, 64), (32, 80), (40, 30)])
def test_a_box_of_the_input_goes_back_to_where_its_pixels_were(resize: Resize, size: tuple[int, int]) -> None:
    """A white rectangle goes through the transform: what is white then is its box in the input."""
    height, width = size
    transform = Transform(image_px=64, resize=resize, mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2))
    x0, y0, x1, y1 = np.rint([0.4 * width, 0.3 * height, 0.65 * width, 0.7 * height]).astype(int)
    image = np.zeros((height, width, 3), np.uint8)
    image[y0:y1, x0:x1] = 255
    seen = transform.apply(image)[0] / 255
    ends = []
    for profile in (seen.max(axis=0), seen.max(axis=1)):  # 1 inside, and a part of it in a pixel that is cut
        centre = (profile * (np.arange(64) + 0.5)).sum() / profile.sum()
        ends.append((centre - profile.sum() / 2, centre + profile.sum() / 2))
    (left, right), (top, bottom) = ends
    there = to_image(np.array([left, top, right, bottom]), resize, 64, size)
    np.testing.assert_allclose(there, [x0, y0, x1, y1], atol=0.5 * max(1, *(side / 64 for side in size)))
