"""Damaged JPEG files: those are shown, and those refused, that Pillow shows and refuses."""

import numpy as np
import pytest
from support.jpegs import assert_as_pillow, encoded, exif, noise

from pipeline.images.pillow import hush


@pytest.fixture(autouse=True)
def hushed() -> None:
    hush()


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 1}], ids=str)
def test_every_truncation_is_refused_but_that_of_the_end_s_own_two_bytes(options: dict) -> None:
    data = encoded(noise(12, 20), quality=40, **options)
    decoded = [assert_as_pillow(data[:length]) for length in range(1, len(data))]
    assert not any(decoded[:-2])


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 1}], ids=str)
def test_damaged_bytes_come_out_as_pillow_shows_them(options: dict) -> None:
    rng = np.random.default_rng(1)
    sound = encoded(noise(12, 20), quality=40, exif=exif(6), **options)
    behind_exif = sound.index(b"\xff\xdb")  # before it is metadata, which decides less here than in Pillow
    decoded = 0
    for _ in range(1500):
        data = bytearray(sound)
        for at in rng.integers(behind_exif, len(data), rng.integers(1, 4)):
            data[at] = (0, 0xFF, int(rng.integers(256)))[rng.integers(3)]
        decoded += assert_as_pillow(bytes(data))
    assert 0.1 < decoded / 1500 < 0.9
