"""Training images of an epoch: as torchvision makes them of the same draws, which are as chance has them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.pretraining import settings
from torch import Tensor
from torchvision.transforms import functional as vision

from pipeline.images.transform import Transform
from pipeline.pretraining import batches as room
from pipeline.pretraining.batches import Batches

SIDE, CUTOUT_PX, BATCH = 24, 5, 8
TRANSFORM = Transform(image_px=SIDE, mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3))
GREY = torch.tensor([102, 127, 153], dtype=torch.uint8)
ROWS = np.array([r for r in range(40) if r % 7])


def made(device: str = "cpu", rows: np.ndarray = ROWS, **other: Any) -> tuple[Tensor, Batches]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (int(rows.max()) + 1, SIDE, SIDE, 3), dtype=torch.uint8, generator=generator)
    images = images.permute(0, 3, 1, 2)
    config = settings(Path(), Path(), batch=BATCH, **{"seed": 3, "cutout_px": CUTOUT_PX, **other})
    labels = torch.arange(len(images))
    return images, Batches(images, labels, rows, len(images), config, TRANSFORM, torch.device(device))


def by_torchvision(image: Tensor, down: int, right: int, flip: int, y: int, x: int) -> Tensor:
    pad = SIDE // 8
    padded = vision.pad(image, [pad] * 4, padding_mode="reflect")
    out = vision.crop(padded, down * pad // 4, right * pad // 4, SIDE, SIDE)
    out = vision.hflip(out) if flip else out
    top, left = max(y - CUTOUT_PX // 2, 0), max(x - CUTOUT_PX // 2, 0)
    height, width = y - CUTOUT_PX // 2 + CUTOUT_PX - top, x - CUTOUT_PX // 2 + CUTOUT_PX - left
    return vision.erase(out, top, left, min(height, SIDE), min(width, SIDE), GREY[:, None, None])


def test_each_image_is_the_one_that_torchvision_makes_of_its_draw() -> None:
    images, batches = made()
    drawn = batches._draw(4)
    found = list(batches.epoch(4))
    assert [len(labels) for _, labels in found] == [8, 8, 8, 8, 2]
    assert torch.equal(torch.cat([labels for _, labels in found]), torch.from_numpy(drawn[:, 0]))
    expected = torch.stack([by_torchvision(images[row], *draw) for row, *draw in drawn[:, :6].tolist()])
    inputs = torch.cat([inputs for inputs, _ in found])
    assert torch.equal(inputs, expected)
    assert inputs.dtype == torch.uint8
    assert all(batch.is_contiguous(memory_format=torch.channels_last) for batch, _ in found)


def test_draws_come_as_often_as_chance_has_it_and_independently() -> None:
    """Every image once an epoch; shifts, sides and centres uniform; none predicts another."""
    _, batches = made(rows=np.arange(3000))
    first, second = batches._draw(0), batches._draw(1)
    assert np.array_equal(first, batches._draw(0))
    for drawn in (first, second):
        assert np.array_equal(np.sort(drawn[:, 0]), np.arange(3000))
        for column, kinds in ((1, 9), (2, 9), (3, 2), (4, SIDE), (5, SIDE)):
            counts = np.bincount(drawn[:, column], minlength=kinds)
            assert len(counts) == kinds
            chi_square = float(((counts - 3000 / kinds) ** 2 / (3000 / kinds)).sum())
            assert chi_square < kinds - 1 + 5 * np.sqrt(2 * kinds)
    first, second = first[:, :6], second[:, :6]
    both = np.hstack([first[np.argsort(first[:, 0])], second[np.argsort(second[:, 0]), 1:]])
    assert np.abs(np.corrcoef(both.T) - np.eye(11)).max() < 0.1
    assert np.abs(np.corrcoef(first[:, 0], second[:, 0])[0, 1]) < 0.1


def test_mixed_images_carry_the_shares_of_both_labels_and_the_rest_stays_as_it_was() -> None:
    images, batches = made(cutmix=0.5)
    _, plain = made()
    drawn, start = batches._draw(4), 0
    for inputs, shares in batches.epoch(4):
        part = drawn[start : start + len(inputs)]
        start += len(inputs)
        unmixed = torch.stack([by_torchvision(images[row], *draw) for row, *draw in part[:, :6].tolist()])
        for i, (row, (partner, top, bottom, left, right)) in enumerate(
            zip(part[:, 0], part[:, 6:11].tolist(), strict=True)
        ):
            expected, shared = unmixed[i].clone(), torch.zeros(len(images))
            expected[:, top:bottom, left:right] = unmixed[partner, :, top:bottom, left:right]
            pasted = (bottom - top) * (right - left) / SIDE**2
            shared[row] += 1 - pasted
            shared[part[partner, 0]] += pasted
            assert torch.equal(inputs[i], expected)
            assert torch.allclose(shares[i], shared, atol=1e-6)
    assert start == len(ROWS)
    assert {labels.dtype for _, labels in plain.epoch(4)} == {torch.int64}
    assert np.array_equal(plain._draw(0)[:8, :6], batches._draw(0)[:8, :6])  # other batches' draws come later


@pytest.mark.parametrize("cutmix", [0, 0.5])
def test_rotated_images_have_classes_of_their_own(cutmix: float) -> None:
    images, batches = made(rotate=0.7, cutmix=cutmix)
    drawn, start, classes = batches._draw(1), 0, len(images)
    for inputs, labels in batches.epoch(1):
        part = drawn[start : start + len(inputs)]
        start += len(inputs)
        alone = np.flatnonzero(part[:, 6:11].any(1) == 0) if cutmix else np.arange(len(inputs))
        for i in alone:
            row, turns = part[i, 0], part[i, 11]
            upright = by_torchvision(images[row], *part[i, 1:6].tolist())
            assert torch.equal(inputs[i], upright.rot90(int(turns), (1, 2)))
            label = int(labels[i].argmax() if cutmix else labels[i])
            assert label == row + turns * classes
        assert not cutmix or labels.shape == (len(inputs), 4 * classes)
    assert set(drawn[:, 11]) == {0, 1, 2, 3}


@pytest.mark.parametrize("policy", ["plain", "flip"])
def test_a_weaker_policy_moves_no_image(policy: str) -> None:
    images, batches = made(train_images=policy, cutout_px=0)
    for inputs, labels in batches.epoch(0):
        same = (inputs == images[labels]).flatten(1).all(1)
        assert (same | (inputs == images[labels].flip(3)).flatten(1).all(1)).all()
        assert same.all() == (policy == "plain")


def test_images_that_do_not_fit_are_sent_batch_by_batch_and_are_the_same() -> None:
    _, here = made()
    _, sent = made()
    sent.images_are_here = False
    for (inputs, labels), (expected, known) in zip(sent.epoch(2), here.epoch(2), strict=True):
        assert torch.equal(inputs, expected)
        assert torch.equal(labels, known)


def test_a_device_without_room_for_the_images_is_told_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    needed = 40 * 3 * SIDE * SIDE
    monkeypatch.setattr(room, "free_bytes", lambda device: 2 * needed)
    assert made("meta")[1].images_are_here
    assert capsys.readouterr().out == ""
    monkeypatch.setattr(room, "free_bytes", lambda device: 2 * needed - 1)
    batches = made("meta")[1]
    assert not batches.images_are_here
    said = capsys.readouterr().out
    assert said == (
        "images stay in memory and are sent batch by batch: 0 MB are more than 50% of the 0 MB that are "
        "free on meta\n"
    )
    assert {inputs.device.type for inputs, _ in batches.epoch(0)} == {"meta"}
