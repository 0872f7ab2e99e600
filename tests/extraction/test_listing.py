"""A command lists the images once, for all workers that it starts."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from support.sharing import config, contents, make_images

from pipeline.config import ExtractConfig
from pipeline.datasets.base import ArrayReader, ImageSplit, open_dataset
from pipeline.datasets.files import FileReader
from pipeline.errors import ConfigError, DataError
from pipeline.extraction import work
from pipeline.extraction.listing import listing, read_listing
from pipeline.extraction.stage import extract, extract_shard


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_images(tmp_path_factory.mktemp("images"), 1100)


def assert_equal(one: ImageSplit, other: ImageSplit) -> None:
    for field in dataclasses.fields(ImageSplit):
        ours, theirs = getattr(one, field.name), getattr(other, field.name)
        if isinstance(theirs, np.ndarray):
            assert ours.dtype == theirs.dtype
            assert np.array_equal(ours, theirs)
        elif isinstance(theirs, FileReader):
            assert ours.base == theirs.base
            assert np.array_equal(ours.statuses(), theirs.statuses())
            assert ours.digest(7) == theirs.digest(7)
        else:
            assert ours == (tuple(theirs) if isinstance(theirs, list) else theirs), field.name


def test_workers_get_what_the_command_found(images: Path, tmp_path: Path) -> None:
    (images / "photos/notes.txt").touch()  # which is not used
    table = tmp_path / "table.csv"
    lines = [f"{path},{path.parent.name}|x" for path in sorted((images / "photos/test").rglob("*.png"))]
    table.write_text("\n".join(["image,labels", *(line.removeprefix(f"{images}/") for line in lines)]))
    (images / "table.csv").write_bytes(table.read_bytes())
    for dataset in (f"folder:{images / 'photos'}", f"csv:{images / 'table.csv'}"):
        splits = open_dataset(dataset)
        with listing(tmp_path, splits) as path:
            assert path
            found = read_listing(path)
        assert not path.exists()
        assert found
        assert found.keys() == splits.keys()
        for name in splits:
            assert_equal(found[name], splits[name])


def test_images_in_memory_are_left_to_the_workers(images: Path, tmp_path: Path) -> None:
    splits = open_dataset(f"folder:{images / 'photos'}")
    test = dataclasses.replace(splits["test"], images=ArrayReader(np.zeros((40, 8, 8, 3), np.uint8)))
    with listing(tmp_path, splits | {"test": test}) as path:
        assert path is None
        assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kept", [0, 200, None])
def test_a_listing_that_is_gone_or_cut_off_is_none(images: Path, tmp_path: Path, kept: int | None) -> None:
    with listing(tmp_path, open_dataset(f"folder:{images / 'photos'}")) as path:
        assert path
        data = path.read_bytes()
        path.unlink() if kept is None else path.write_bytes(data[:kept])
        assert read_listing(path) is None


def test_a_worker_looks_for_images_only_without_a_listing(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = extract(config(images, tmp_path / "one"))
    asked = config(images, tmp_path / "two")
    with listing(tmp_path, open_dataset(asked.dataset)) as path:
        with monkeypatch.context() as patch:
            patch.setattr(work, "open_dataset", None)
            extract_shard(asked, 0, 2, path)
        assert path
        path.unlink()
        extract_shard(asked, 1, 2, path)
    assert contents(tmp_path / "two/train.json") == contents(one / "train.h5")


def test_a_worker_that_ends_with_the_command_opens_the_images_once(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = extract(config(images, tmp_path / "one"))
    asked, opened = config(images, tmp_path / "two"), list[Path]()
    reading = work.read_listing
    monkeypatch.setattr(work, "read_listing", lambda path: opened.append(path) or reading(path))
    splits = open_dataset(asked.dataset)
    with listing(tmp_path, splits) as path, listing(tmp_path, splits) as other:
        assert path
        assert other
        for rank in (1, 0):
            extract_shard(asked, rank, 2, path, keeps=True)
        assert opened == [path]
        extract_shard(asked, 0, 2, other, keeps=True)  # another command's: all is there
        assert opened == [path, other]
        (images / "photos/test").rename(images / "photos/gone")
        with pytest.raises(DataError):
            extract_shard(config(images, tmp_path / "three"), 0, 2, path, keeps=True)
        (images / "photos/gone").rename(images / "photos/test")
        extract_shard(config(images, tmp_path / "three"), 0, 2, path, keeps=True)
        assert opened == [path, other, path, path]
    assert contents(tmp_path / "two/train.json") == contents(one / "train.h5")


def test_workers_of_something_else_read_what_one_listed(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = extract(config(images, tmp_path / "one"))
    cache = extract(config(images, tmp_path / "two", shard="list"))
    assert [path.name for path in cache.iterdir()] == ["images.list"]
    with monkeypatch.context() as patch:
        patch.setattr(work, "open_dataset", None)
        for rank in (1, 0):
            assert (cache / "images.list").exists()
            extract(config(images, cache, shard=f"{rank}/2"))
    assert not (cache / "images.list").exists()
    assert contents(cache / "train.json") == contents(one / "train.h5")


def test_a_list_of_other_settings_is_not_used(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    extract(config(images, tmp_path, shard="list"))
    asked = ExtractConfig.from_json(config(images, tmp_path, shard="0/2").as_json() | {"test_fraction": 0.5})
    extract(asked)
    assert "images.list: of other settings, the images are looked for" in capsys.readouterr().out


def test_images_in_memory_are_not_listed(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--shard: list is for datasets of files, found digits"):
        extract(ExtractConfig(dataset="digits", cache=str(tmp_path), shard="list"))
