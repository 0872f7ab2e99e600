"""Photos to predict on: found below folders and by patterns in a stable order, each once, without labels."""

import os
from pathlib import Path

import numpy as np
import pytest
from support.folders import PIXELS, write

from pipeline.datasets.unlabelled import photos
from pipeline.errors import DataError


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The working directory has photos, and what else lies among photos."""
    monkeypatch.chdir(tmp_path)
    for i, name in enumerate(("b.png", "a.JPG", "Z.png", "sub/deep/ü c.webp", "sub/a.png", "x[1].png")):
        write(Path("in", name), i)
    for name in ("in/@eaDir/a.png", "in/.hidden.png", "in/._b.png", "in/sub/notes.txt", "in/Thumbs.db"):
        write(Path(name))
    Path("empty").mkdir()


def test_a_folder_gives_all_images_below_it_by_path() -> None:
    found = photos(["in"])
    names = ["Z.png", "a.JPG", "b.png", "sub/a.png", "sub/deep/ü c.webp", "x[1].png"]
    assert list(found.paths) == [f"in/{name}" for name in names]
    assert found.sizes.tolist() == [os.path.getsize(path) for path in found.paths]
    assert found.classes == ()
    assert found.labels.shape == (6, 0)
    assert found.take([4, 0]).paths == ["in/sub/deep/ü c.webp", "in/Z.png"]
    for row, value in enumerate((2, 1, 0, 4, 3, 5)):
        np.testing.assert_array_equal(found.images.read(row).pixels, PIXELS ^ np.uint8(value))
    for left_out in ("1 .txt", "1 @eaDir/", "2 hidden .png", "1 Thumbs.db"):
        assert left_out in found.ignored[0]


@pytest.mark.parametrize("spec", ["in", "in/", "./in", "in//"])
def test_a_folder_may_be_written_in_several_ways(spec: str) -> None:
    assert photos([spec]).paths == photos(["in"]).paths


def test_the_working_directory_is_a_folder_like_any_other() -> None:
    assert photos(["."]).paths == photos(["in"]).paths


def test_what_is_named_first_comes_first_and_each_image_once() -> None:
    found = photos(["in/x[1].png", "in/b.png", "in", str(Path("in/b.png").absolute()), "empty"])
    assert list(found.paths)[:3] == ["in/x[1].png", "in/b.png", "in/Z.png"]
    assert len(found) == 6
    assert "folder without images, empty" in found.ignored[0]


def test_a_file_that_is_named_is_taken_whatever_its_suffix() -> None:
    assert list(photos(["in/sub/notes.txt"]).paths) == ["in/sub/notes.txt"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("in/*.png", ["in/Z.png", "in/b.png", "in/x[1].png"]),
        ("in/**/a.*", ["in/a.JPG", "in/sub/a.png"]),
        ("in/s*", ["in/sub/a.png", "in/sub/deep/ü c.webp"]),
        (
            "in/**",
            ["in/Z.png", "in/a.JPG", "in/b.png", "in/sub/a.png", "in/sub/deep/ü c.webp", "in/x[1].png"],
        ),
        ("in/sub/[a-n]*", ["in/sub/a.png", "in/sub/deep/ü c.webp"]),
    ],
)
def test_patterns_match_photos_and_folders(pattern: str, expected: list[str]) -> None:
    assert sorted(photos([pattern]).paths) == sorted(expected)
    assert len(photos([pattern])) == len(expected)


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ("gone.png", "gone.png: expected a photo, a folder or a pattern, found no such file"),
        ("in/*.tif", r"in/\*.tif: expected a pattern that matches photos or folders, found no match"),
        ("empty", "empty: expected images .* found none"),
        ("in/@eaDir", "found none .not used: 1 @eaDir"),
    ],
)
def test_words_that_mean_no_photo_are_refused(spec: str, problem: str) -> None:
    with pytest.raises(DataError, match=problem) as caught:
        photos([spec])
    assert "\n" not in str(caught.value)


def test_a_pipe_is_refused_and_not_waited_for() -> None:
    os.mkfifo("pipe.png")
    with pytest.raises(DataError, match=r"pipe.png: expected a photo, found a device, pipe or socket"):
        photos(["pipe.png"])
