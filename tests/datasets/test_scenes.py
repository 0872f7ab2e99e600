"""Scenes: always the same, their labels and boxes are what is drawn, and nothing is shared between splits."""

import numpy as np
import pytest
from sklearn.datasets import load_digits
from xxhash import xxh3_64_hexdigest

from pipeline.datasets import scenes
from pipeline.datasets.base import ImageSplit

LEVELS, TARGETS = load_digits(return_X_y=True)
INK = ((LEVELS.astype(np.int64) * 255 + 8) // 16).astype(np.uint8).reshape(-1, 8, 8)


def few(name: scenes.SplitName, count: int) -> ImageSplit:
    part = slice(scenes.TRAIN_DIGITS) if name == "train" else slice(scenes.TRAIN_DIGITS, None)
    return scenes.make(name, INK[part], TARGETS[part].tolist(), count)


def digest(split: ImageSplit) -> tuple[str, str]:
    """Of labels with boxes, and of pixels."""
    assert split.boxes is not None
    drawn = split.labels.tobytes() + np.concatenate(split.boxes).astype("<f4").tobytes()
    pixels = b"".join(split.images.digest(row) for row in range(len(split)))
    return xxh3_64_hexdigest(drawn), xxh3_64_hexdigest(pixels)


GOLDEN = {
    "train": ("525e929b042d7998", "2b56de7d269f8d80"),
    "test": ("8a09d99880d48794", "2779d2a1a520a9c8"),
}


@pytest.mark.parametrize("name", ["train", "test"])
def test_every_making_is_the_same(name: scenes.SplitName) -> None:
    assert digest(few(name, 40)) == digest(few(name, 40)) == GOLDEN[name]


def test_a_shorter_making_is_the_beginning_of_a_longer_one() -> None:
    short, long = few("train", 5), few("train", 12)
    assert digest(short) == digest(long.take(range(5)))


def test_labels_say_which_digits_have_a_box() -> None:
    train = few("train", 200)
    assert train.boxes is not None
    assert train.multi_label
    counts = {len(boxes) for boxes in train.boxes}
    assert counts == {1, 2, 3}
    for label, boxes in zip(train.labels, train.boxes, strict=True):
        assert set(np.flatnonzero(label)) == set(boxes[:, 0].astype(int))


def test_a_box_is_tight_around_what_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without noise, on one colour and without clutter, what differs from the background is the digits."""
    flat = scenes.Image.new("RGB", (scenes.SIZE, scenes.SIZE), (60, 60, 60))
    monkeypatch.setattr(scenes, "background", lambda draws: flat.copy())
    monkeypatch.setattr(scenes, "NOISE", 0)
    for name, count in (("DIGITS", (1, 1)), ("FALSE_DIGITS", (0, 0)), ("STROKES", (0, 0))):
        monkeypatch.setattr(scenes, name, count)
    split = few("train", 60)
    assert split.boxes is not None
    for row, boxes in enumerate(split.boxes):
        x0, y0, x1, y1 = boxes[0, 1:].astype(int)
        change = np.abs(split.images.read(row).pixels.astype(int) - 60).max(axis=-1)
        threshold = change.max() * scenes.VISIBLE / 255
        outside = change.copy()
        outside[y0:y1, x0:x1] = 0
        assert outside.max() <= threshold + 2
        for rim in (change[y0, x0:x1], change[y1 - 1, x0:x1], change[y0:y1, x0], change[y0:y1, x1 - 1]):
            assert rim.max() >= threshold - 2


def test_digits_hide_little_of_each_other() -> None:
    train = few("train", 200)
    assert train.boxes is not None
    for boxes in train.boxes:
        for i, (_, ax0, ay0, ax1, ay1) in enumerate(boxes):
            for _, bx0, by0, bx1, by1 in boxes[:i]:
                shared = max(min(ax1, bx1) - max(ax0, bx0), 0) * max(min(ay1, by1) - max(ay0, by0), 0)
                smaller = min((ax1 - ax0) * (ay1 - ay0), (bx1 - bx0) * (by1 - by0))
                assert shared <= smaller / scenes.OVERLAP


def test_sizes_range_from_a_third_to_half_the_scene() -> None:
    boxes = np.concatenate(few("train", 300).boxes or [])
    heights = boxes[:, 4] - boxes[:, 2]
    assert heights.min() >= scenes.SMALLEST - 2
    assert heights.max() <= scenes.LARGEST
    low, middle, high = np.percentile(heights, [10, 50, 90])
    assert low < 24 < middle < 30 < high


def test_clutter_leaves_no_quarter_of_a_digit_in_place() -> None:
    marked = np.repeat(np.repeat(np.array([[1, 2], [3, 4]], np.uint8), 4, axis=0), 4, axis=1)
    draws = scenes.Draws(0)
    seen = set()
    for _ in range(200):
        quarters = scenes.shuffled(marked, draws)[::4, ::4]
        assert sorted(quarters.ravel().tolist()) == [1, 2, 3, 4]
        assert (quarters != [[1, 2], [3, 4]]).all()
        seen.add(tuple(quarters.ravel().tolist()))
    assert len(seen) == 7
    assert not seen & {(3, 4, 1, 2), (2, 1, 4, 3)}, "halves that only change places"


def test_draws_are_even_and_come_from_numpys_raw_words() -> None:
    raw = np.random.PCG64(7).random_raw(4096).tolist()
    draws = scenes.Draws(7)
    found = [draws.below(10) for _ in range(4000)]
    assert found == [word * 10 // 2**64 for word in raw[:4000]]
    assert np.bincount(found).min() > 320


@pytest.mark.parametrize("name", ["train", "test"])
def test_a_split_draws_on_its_own_images_alone(
    name: scenes.SplitName, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What `load` passes on, followed by marking every image."""
    given: dict[str, list[bytes]] = {}
    monkeypatch.setattr(
        scenes, "make", lambda split, ink, digits, count: given.update({split: [i.tobytes() for i in ink]})
    )
    scenes.load("", test_fraction=0.2, seed=0)
    assert len(given["train"]) + len(given["test"]) == len(LEVELS)
    assert not set(given["train"]) & set(given["test"])
