"""Crops and flips against a loop over images in numpy, and against the counts that chance gives."""

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import CutMix

from pipeline.images import augment
from pipeline.images.views import Views


def crops_by_hand(images: np.ndarray, draws: np.ndarray) -> np.ndarray:
    out = np.empty_like(images)
    pad = images.shape[2] // 8
    for i, (down, right, flip) in enumerate(draws):
        padded = np.pad(images[i], ((0, 0), (pad, pad), (pad, pad)), mode="reflect")
        top, left = down * pad // 4, right * pad // 4
        crop = padded[:, top : top + images.shape[2], left : left + images.shape[3]]
        out[i] = crop[:, :, ::-1] if flip else crop
    return out


def random_images(count: int, size: int = 32) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (count, 3, size, size), np.uint8))


@pytest.mark.parametrize("size", [4, 16, 30, 32, 96])
def test_crops_equal_those_made_one_by_one(size: int) -> None:
    images = random_images(50, size)
    draws = augment.draw(50, "crop-flip", np.random.default_rng(1))
    assert draws[:, :2].min() == 0
    assert draws[:, :2].max() == 8
    expected = crops_by_hand(images.numpy(), draws)
    assert np.array_equal(augment.apply(images, draws).numpy(), expected)
    some = torch.tensor([7, 3, 3, 49])
    expected = crops_by_hand(images[some].numpy(), draws[:4])
    assert np.array_equal(augment.apply(images, draws[:4], some).numpy(), expected)


def test_cut_out_blanks_one_square_of_each_image_as_a_loop_over_pixels_does() -> None:
    images = random_images(200)
    centres = augment.draw_centres(200, 32, 32, np.random.default_rng(1))
    fill = torch.tensor([10, 20, 30], dtype=torch.uint8)
    cut = augment.cut_out(images, torch.from_numpy(centres), 8, fill)
    expected = images.numpy().copy()
    for image, (y, x) in zip(expected, centres, strict=True):
        image[:, max(y - 4, 0) : y + 4, max(x - 4, 0) : x + 4] = np.array([10, 20, 30])[:, None, None]
    assert np.array_equal(cut.numpy(), expected)
    assert cut.dtype == torch.uint8


def test_paste_puts_a_box_of_another_image_into_each_as_a_loop_over_pixels_does() -> None:
    images = random_images(200)
    boxes = augment.draw_boxes(200, 0.7, 32, 32, np.random.default_rng(1))
    mixed, own = augment.paste(images, torch.from_numpy(boxes))
    expected, shares = images.numpy().copy(), []
    for image, (partner, top, bottom, left, right) in zip(expected, boxes, strict=True):
        kept = np.ones((32, 32), bool)
        kept[top:bottom, left:right] = False
        shares.append(kept.mean())
        image[:, ~kept] = images[partner].numpy()[:, ~kept]
    assert np.array_equal(mixed.numpy(), expected)
    assert np.allclose(own.numpy(), shares, atol=1e-6)
    assert mixed.dtype == torch.uint8


def test_a_box_and_its_share_are_those_of_torchvisions_cutmix_around_the_same_middle() -> None:
    """torchvision pastes the first of two images into the second, where it draws a box for all."""
    rng = np.random.default_rng(2)
    for seed in range(50):
        pair = torch.from_numpy(rng.integers(0, 256, (2, 3, 24, 24), np.uint8))
        box = augment.draw_boxes(1, 1.0, 24, 24, np.random.default_rng(seed))
        again = np.random.default_rng(seed)
        again.integers(0, 1, size=1)
        (y, x), area = again.integers(0, (24, 24), size=(1, 2))[0], again.uniform(size=1)[0]
        half = int(0.5 * np.sqrt(area) * 24)
        where = (max(x - half, 0), max(y - half, 0), min(x + half, 24), min(y + half, 24))
        left = 1 - (where[2] - where[0]) * (where[3] - where[1]) / 24**2
        known = {"box": where, "lam_adjusted": left, "labels": torch.tensor([0, 1]), "batch_size": 2}
        cutmix = CutMix(num_classes=2)
        of_both = torch.from_numpy(np.array([[0, 0, 0, 0, 0], [0, *box[0, 1:]]]))
        mixed, own = augment.paste(pair, of_both)
        assert torch.equal(mixed[1], cutmix.transform(pair, known)[1])
        shares = cutmix.transform(known["labels"], known)[1]  # it knows labels by being that object
        assert shares[1].item() == pytest.approx(own[1].item())


def test_boxes_come_as_often_as_chance_has_it() -> None:
    """A share of the images has one; areas are uniform before the rim cuts them; partners are any image."""
    height, width = 4000, 3000
    boxes = augment.draw_boxes(100_000, 0.6, height, width, np.random.default_rng(3))
    partners, top, bottom, left, right = boxes.T
    areas = (bottom - top) * (right - left) / (height * width)
    assert abs((areas > 0).mean() - 0.6) < 0.01
    assert (np.abs(np.bincount(partners // 10_000, minlength=10) - 10_000) < 500).all()
    inside = (top > 0) & (bottom < height) & (left > 0) & (right < width) & (areas > 0)
    # an area is uniform, and so its side s has the density 2s; it lies inside with the chance (1 - s)²
    side = np.linspace(0, 1, 1001)
    expected = np.cumsum(side * (1 - side) ** 2)
    found = np.searchsorted(np.sort(np.sqrt(areas[inside])), side) / inside.sum()
    assert np.abs(found - expected / expected[-1]).max() < 0.02


def test_rotated_images_are_turned_left_as_numpy_turns_them() -> None:
    images = random_images(40)
    turns = augment.draw_turns(40, 0.7, np.random.default_rng(1))
    rotated = augment.rotate(images, torch.from_numpy(turns))
    expected = [np.rot90(image, turn, (1, 2)) for image, turn in zip(images.numpy(), turns, strict=True)]
    assert np.array_equal(rotated.numpy(), np.stack(expected))
    assert rotated.dtype == torch.uint8
    assert rotated.is_contiguous(memory_format=torch.channels_last)


def test_a_share_of_the_images_is_rotated_by_each_angle_alike() -> None:
    counts = np.bincount(augment.draw_turns(20_000, 0.6, np.random.default_rng(1))) / 20_000
    assert np.abs(counts - [0.4, 0.2, 0.2, 0.2]).max() < 0.015


def test_plain_draws_leave_images_alone() -> None:
    images = random_images(5)
    draws = augment.draw(5, "plain", np.random.default_rng(1))
    assert torch.equal(augment.apply(images, draws), images)


def test_flip_mirrors_about_half_of_the_images_and_crops_none() -> None:
    draws = augment.draw(10_000, "flip", np.random.default_rng(1))
    assert (draws[:, :2] == 4).all()
    assert abs(draws[:, 2].mean() - 0.5) < 0.02


def test_mirror_views_are_the_image_and_its_mirror() -> None:
    images = random_images(3)
    views = Views("mirror", 3, seed=0).of(images, range(3)).unflatten(0, (3, 2))
    assert torch.equal(views[:, 0], images)
    assert torch.equal(views[:, 1], images.flip(3))


def test_augmented_views_start_with_the_plain_image_and_do_not_depend_on_blocks() -> None:
    images = random_images(40)
    views = Views("augment:3", 40, seed=5)
    whole = views.of(images, range(40)).unflatten(0, (40, 4))
    again = Views("augment:3", 40, seed=5).of(images[30:37], range(30, 37)).unflatten(0, (7, 4))
    assert torch.equal(whole[:, 0], images)
    assert torch.equal(whole[30:37], again)
    assert not torch.equal(whole[:, 1], whole[:, 2])
    other = Views("augment:3", 40, seed=6).of(images, range(40)).unflatten(0, (40, 4))
    assert not torch.equal(whole[:, 1], other[:, 1])


def test_draws_differ_from_image_to_image_and_from_view_to_view() -> None:
    """Any shift and either side come as often as chance has it, whatever the image or view before had."""
    spots = torch.zeros(2000, 1, 8, 8, dtype=torch.uint8).expand(-1, 3, -1, -1).clone()
    spots[:, :, 3, 2] = 255
    views = Views("augment:2", 2000, seed=5).of(spots, range(2000)).unflatten(0, (2000, 3))[:, 1:, 0]
    row, column = views.amax(3).argmax(2).numpy(), views.amax(2).argmax(2).numpy()  # (2000, 2) each
    for found in (row[:, 0], row[:, 1], column[:, 0], column[:, 1]):
        assert np.unique(found).size >= 3
        assert abs(np.corrcoef(found[1:], found[:-1])[0, 1]) < 0.1
    assert abs(np.corrcoef(np.concatenate([row.T, column.T])) - np.eye(4)).max() < 0.1


def test_nothing_is_drawn_before_a_view_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a million images the draws take a while, and a cache that is up to date needs none."""
    images, calls = random_images(3), []
    draw = augment.draw
    monkeypatch.setattr(augment, "draw", lambda *given: (calls.append(given), draw(*given))[1])
    for spec in ("plain", "mirror"):
        Views(spec, 3, seed=0).of(images, range(3))
    views = Views("augment:4", 3, seed=0)
    assert calls == []
    views.of(images, range(3))
    views.of(images, range(3))
    assert len(calls) == 5


def test_golden_draws_of_augmented_views() -> None:
    """What a key stands for doesn't change: shifts and sides of three images, as they were first drawn."""
    rng = np.random.default_rng(7)
    rng.integers(0, (9, 9, 2), size=(3, 3))
    images = random_images(3)
    expected = [images.numpy()] + [
        crops_by_hand(images.numpy(), rng.integers(0, (9, 9, 2), size=(3, 3))) for _ in range(2)
    ]
    found = Views("augment:2", 3, seed=7).of(images, range(3)).unflatten(0, (3, 3))
    assert np.array_equal(found.numpy(), np.stack(expected, 1))


def test_augmented_views_are_shifted_and_mirrored_independently_of_each_other() -> None:
    """Each view of each image is found among all 81 shifts, mirrored or not, and all kinds occur."""
    ramp = torch.arange(32 * 32, dtype=torch.int32).view(1, 1, 32, 32).expand(1, 3, 32, 32).float()
    views = Views("augment:60", 1, seed=5).of(ramp, range(1))[1:]
    kinds = np.stack(np.meshgrid(range(9), range(9), range(2), indexing="ij"), -1).reshape(-1, 3)
    known = crops_by_hand(np.repeat(ramp.numpy(), len(kinds), 0), kinds)
    found = [int(np.flatnonzero((known == view.numpy()).all((1, 2, 3)))[0]) for view in views]
    down, right, flip = kinds[found].T
    assert set(down) == set(right) == set(range(9))
    assert 15 < flip.sum() < 45
    assert abs(np.corrcoef([down, right, flip]) - np.eye(3)).max() < 0.5
