"""A folder whose images have changed: its cache becomes equal to one made anew, and computes what is new."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.extracting import settings
from support.samples import extract as write
from support.samples import header
from support.sharded import extract_shards

from cache import CacheWriter, FeatureCache, generations, shard_header, split_path, write_manifest
from cache.__main__ import main
from pipeline.errors import StaleCacheError
from pipeline.extraction import make
from pipeline.extraction.growing import mend
from pipeline.extraction.stage import extract


def picture(path: Path, seed: int, size: int = 40) -> Path:
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size, 3), np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def assert_equal_to_anew(cache: Path, anew: Path, tolerance: float = 0.0) -> None:
    for split in ("train", "test"):
        one, other = FeatureCache(split_path(cache, split)), FeatureCache(split_path(anew, split))
        for name in ("key", "images_digest", "classes", "identity", "shape", "dtype", "multi_label"):
            assert getattr(one, name) == getattr(other, name), name
        assert one.paths == other.paths
        assert np.array_equal(one.labels, other.labels)
        assert np.array_equal(one.image_digests, other.image_digests)
        rows = np.arange(len(one))
        np.testing.assert_allclose(one.take(rows, None), other.take(rows, None), rtol=0, atol=tolerance)
        one.verify()


def state(cache: Path) -> dict[str, tuple[bytes, int]]:
    """The files of maps, and when each was written."""
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in cache.glob("*.h5")}


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The images whose maps are computed from now on."""
    paths, write_missing = list[str](), make.write_missing

    def watched(writers, split, *rest):
        paths.extend(split.paths[row] for rows in writers[0].missing for row in rows)
        return write_missing(writers, split, *rest)

    monkeypatch.setattr(make, "write_missing", watched)
    return paths


def add(photos: Path) -> list[str]:
    names = ["train/a b/00x.png", "train/ü/zz.png", "test/ü/55.png"]
    for number, name in enumerate(names):
        picture(photos / name, 900 + number)
    return names


def remove(photos: Path) -> list[str]:
    for name in ("train/a b/03.png", "train/ü/07.png", "test/ü/02.png"):
        (photos / name).unlink()
    return []


def move(photos: Path) -> list[str]:
    (photos / "train/a b/03.png").rename(photos / "train/a b/zz.png")
    (photos / "train/ü/01.png").rename(photos / "train/a b/from ü.png")  # and relabelled
    return []


def copy(photos: Path) -> list[str]:
    shutil.copy(photos / "train/a b/03.png", photos / "train/ü/copy.png")
    return []


def change(photos: Path) -> list[str]:
    picture(photos / "train/ü/04.png", 77, size=48)
    return ["train/ü/04.png"]


def new_class(photos: Path) -> list[str]:
    names = [f"{split}/a new class/{i}.png" for split in ("train", "test") for i in range(3)]
    for number, name in enumerate(names):
        picture(photos / name, 500 + number)
    return names


def everything(photos: Path) -> list[str]:
    found = new_class(photos) + change(photos)
    (photos / "train/a b/05.png").unlink()
    (photos / "train/a b/06.png").rename(photos / "train/a new class/06.png")
    return found


CHANGES: list[Callable[[Path], list[str]]] = [add, remove, move, copy, change, new_class, everything]


@pytest.mark.parametrize("changed", CHANGES)
def test_a_cache_that_grew_equals_one_extracted_anew(
    changed: Callable[[Path], list[str]], photos: Path, weights: Path, tmp_path: Path, computed: list[str]
) -> None:
    cache, anew = tmp_path / "c", tmp_path / "anew"
    extract(settings(photos, weights, cache))
    before = state(cache)
    names = changed(photos)
    computed.clear()
    extract(settings(photos, weights, cache))
    assert sorted(computed) == sorted(names)
    after = state(cache)
    assert {name: after[name] for name in before} == before
    extract(settings(photos, weights, anew))
    assert_equal_to_anew(cache, anew)
    computed.clear()
    written = {path: path.stat().st_mtime_ns for path in cache.iterdir() if path.suffix != ".stamp"}
    extract(settings(photos, weights, cache))
    assert not computed
    assert {path: path.stat().st_mtime_ns for path in written} == written


def test_the_plan_says_in_counts_what_has_changed_before_it_begins(
    photos: Path,
    weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    extract(settings(photos, weights, tmp_path / "c"))
    before = state(tmp_path / "c")
    picture(photos / "train/ü/new.png", 1)
    picture(photos / "train/ü/new too.png", 2)
    (photos / "train/ü/00.png").unlink()
    (photos / "train/ü/01.png").rename(photos / "train/a b/moved.png")
    change(photos)
    capsys.readouterr()
    with monkeypatch.context() as patch:
        patch.setattr(make, "write_missing", None)
        with pytest.raises(TypeError):
            extract(settings(photos, weights, tmp_path / "c"))
    said = capsys.readouterr().out
    assert "2 new, 1 removed, 1 moved, 1 changed, 1 relabelled, 77 as they were" in said
    assert state(tmp_path / "c") == before
    extract(settings(photos, weights, tmp_path / "c"))
    assert "train.json: 81 images in 2 files; 3 images in " in capsys.readouterr().out


def test_a_cache_grows_again_and_again_and_what_it_was_can_be_opened(
    photos: Path, weights: Path, tmp_path: Path, computed: list[str]
) -> None:
    cache, keys = tmp_path / "c", list[str]()
    extract(settings(photos, weights, cache))
    for day in range(3):
        keys.append(FeatureCache(split_path(cache, "train")).key)
        names = [f"train/ü/day {day} {i}.png" for i in range(day + 1)]
        for number, name in enumerate(names):
            picture(photos / name, 100 * day + number)
        (photos / f"train/a b/{day:02}.png").unlink()
        computed.clear()
        before = state(cache)
        extract(settings(photos, weights, cache))
        assert computed == names
        assert {name: state(cache)[name] for name in before} == before
    found = generations(cache, "train")
    assert len(found) == 4
    assert {FeatureCache(path).key for path in found[1:]} == set(keys)
    extract(settings(photos, weights, tmp_path / "anew"))
    assert_equal_to_anew(cache, tmp_path / "anew")


def test_an_image_that_comes_back_is_computed_once_for_each_content(
    photos: Path, weights: Path, tmp_path: Path, computed: list[str]
) -> None:
    """Of the same name and size each time, so that the key doesn't tell."""
    cache, path = tmp_path / "c", photos / "train/ü/04.png"
    first = path.read_bytes()
    extract(settings(photos, weights, cache))
    for number in range(2):
        changed = bytearray(Path(picture(tmp_path / "x.bmp", number)).read_bytes())
        path.write_bytes(changed)
        computed.clear()
        extract(settings(photos, weights, cache))
        assert computed == ["train/ü/04.png"]
    path.write_bytes(first)
    computed.clear()
    extract(settings(photos, weights, cache))
    extract(settings(photos, weights, tmp_path / "anew"))
    assert_equal_to_anew(cache, tmp_path / "anew")


def test_of_a_file_that_is_gone_the_images_are_computed_again(
    photos: Path, weights: Path, tmp_path: Path, computed: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    cache = tmp_path / "c"
    extract(settings(photos, weights, cache))
    new = [name for name in add(photos) if name.startswith("train/")]
    move(photos)
    extract(settings(photos, weights, cache))
    extract(settings(photos, weights, tmp_path / "anew"))
    first = [path for path in FeatureCache(cache / "train.json").paths if path not in new]
    (grown,) = cache.glob("train-*.h5")
    for gone, images in ((grown, new), (cache / "train.h5", first)):
        gone.unlink()
        computed.clear()
        extract(settings(photos, weights, cache))
        assert f"train.json: {gone.name} is gone; the images in it are computed" in capsys.readouterr().out
        assert sorted(path for path in computed if path.startswith("train/")) == sorted(images)
        assert_equal_to_anew(cache, tmp_path / "anew", tolerance=1e-5)


def test_of_shares_that_grew_the_rows_in_those_that_are_there_stay(tmp_path: Path) -> None:
    path = extract_shards(tmp_path / "train.json", header(), 3)
    whole, shards = header(2505), sorted(tmp_path.glob("*-of-*.h5"))
    new = write(tmp_path / "train-0123456789ab.h5", shard_header(whole, range(2500, 2505)))
    backwards = np.arange(2505)[::-1]
    labels, paths = whole.labels[backwards], [whole.paths[row] for row in backwards]
    write_manifest(path, header(2505, labels=labels, paths=paths), [*shards, new], backwards)
    before = FeatureCache(path)
    kept = (backwards < 1024) | (backwards >= 2048)
    maps, digests = before.take(np.flatnonzero(kept)), before.image_digests[kept]
    shards[1].unlink()
    mend(path)
    after = FeatureCache(path)
    after.verify()
    assert list(after.paths) == [name for name, stays in zip(paths, kept, strict=True) if stays]
    assert np.array_equal(after.labels, labels[kept])
    assert np.array_equal(after.take(np.arange(len(after))), maps)
    assert np.array_equal(after.image_digests, digests)


@pytest.mark.parametrize("views", ["mirror", "augment:2"])
def test_views_that_are_drawn_together_are_refused_and_mirrored_ones_grow(
    views: str, photos: Path, weights: Path, tmp_path: Path
) -> None:
    """The test split of augmented ones is plain, and could grow; nothing is changed when one can't."""
    cache = tmp_path / "c"
    extract(settings(photos, weights, cache, views=views))
    before = state(cache)
    add(photos)
    if views == "mirror":
        extract(settings(photos, weights, cache, views=views))
        extract(settings(photos, weights, tmp_path / "anew", views=views))
        assert_equal_to_anew(cache, tmp_path / "anew")
        return
    said = r"train\.h5: made from other images, 80, now there are 82; --views augment:2 draws .* together"
    with pytest.raises(StaleCacheError, match=said):
        extract(settings(photos, weights, cache, views=views))
    assert state(cache) == before
    for name in ("train/a b/00x.png", "train/ü/zz.png"):
        (photos / name).unlink()
    path = photos / "train/ü/07.png"
    path.write_bytes(path.read_bytes()[::-1])
    with pytest.raises(
        StaleCacheError, match=r"train\.h5: made .*, the bytes of train/ü/07\.png have changed; "
    ):
        extract(settings(photos, weights, cache, views=views))
    assert state(cache) == before


def test_images_that_the_draw_of_the_test_split_puts_on_the_other_side_are_not_computed_again(
    photos: Path, weights: Path, tmp_path: Path, computed: list[str]
) -> None:
    """A folder without a test split of its own: each draw is over all images, as of a cache made anew."""
    cache, folder = tmp_path / "c", photos / "train"
    extract(settings(folder, weights, cache))
    sides = [set(FeatureCache(cache / f"{split}.h5").paths) for split in ("train", "test")]
    before = state(cache)
    names = ["ü/new 1.png", "ü/new 2.png", "a b/new 3.png"]
    for number, name in enumerate(names):
        picture(folder / name, number)
    computed.clear()
    extract(settings(folder, weights, cache))
    assert sorted(computed) == sorted(names)
    after = [set(FeatureCache(split_path(cache, split)).paths) for split in ("train", "test")]
    assert sides[0] & after[1]
    assert sides[1] & after[0]
    assert {name: state(cache)[name] for name in before} == before
    extract(settings(folder, weights, tmp_path / "anew"))
    assert_equal_to_anew(cache, tmp_path / "anew")


def test_layers_grow_together_and_one_that_was_ahead_alone(
    photos: Path, weights: Path, tmp_path: Path, computed: list[str]
) -> None:
    layers = {"trunk": "alexnet-cifar@2,5"}
    cache = tmp_path / "c"
    extract(settings(photos, weights, cache, **layers))
    names = add(photos)
    one = {"trunk": "alexnet-cifar@5"}
    extract(settings(photos, weights, cache / "5", **one))
    computed.clear()
    extract(settings(photos, weights, cache, **layers))
    assert sorted(computed) == sorted(names)
    more = new_class(photos)
    computed.clear()
    extract(settings(photos, weights, cache, **layers))
    assert sorted(computed) == sorted(more), "both layers come out of one pass"
    extract(settings(photos, weights, tmp_path / "anew", **layers))
    for layer in ("2", "5"):  # in other batches, where sums differ in their last digit
        assert_equal_to_anew(cache / layer, tmp_path / "anew" / layer, tolerance=1e-6)


def test_another_dataset_is_refused_and_a_folder_that_moved_is_not(
    photos: Path, weights: Path, tmp_path: Path
) -> None:
    cache = tmp_path / "c"
    extract(settings(photos, weights, cache))
    before = state(cache)
    other = tmp_path / "other"
    for number, name in enumerate(
        f"{s}/{c}/{i}.png" for s in ("train", "test") for c in "xy" for i in range(3)
    ):
        picture(other / name, 300 + number)
    said = r"train\.h5: made from other images, of dataset .*photos: of its 80 images 0 are among the 6 of"
    with pytest.raises(StaleCacheError, match=said):
        extract(settings(other, weights, cache))
    assert state(cache) == before
    add(photos)
    photos.rename(tmp_path / "moved")
    extract(settings(tmp_path / "moved", weights, cache))
    extract(settings(tmp_path / "moved", weights, tmp_path / "anew"))
    assert_equal_to_anew(cache, tmp_path / "anew")


def test_what_is_no_matter_of_images_is_refused_as_ever(photos: Path, weights: Path, tmp_path: Path) -> None:
    cache = tmp_path / "c"
    extract(settings(photos, weights, cache))
    before = state(cache)
    add(photos)
    for field, other in {
        "image_px": 40,
        "dtype": "float16",
        "views": "mirror",
        "precision": "bfloat16",
    }.items():
        with pytest.raises(StaleCacheError, match=rf"made from something else: .*{field}"):
            extract(settings(photos, weights, cache, **{field: other}))
    assert state(cache) == before


def test_bad_images_are_left_out_of_what_grows(
    photos: Path, weights: Path, tmp_path: Path, computed: list[str]
) -> None:
    skip = {"on_bad_image": "skip"}
    (photos / "train/ü/05.png").write_bytes(b"no picture")
    cache = tmp_path / "c"
    extract(settings(photos, weights, cache, **skip))
    names = add(photos)
    (photos / "train/a b/bad.png").write_bytes(b"nor this")
    computed.clear()
    extract(settings(photos, weights, cache, **skip))
    assert sorted(computed) == sorted(names)
    extract(settings(photos, weights, tmp_path / "anew", **skip))
    assert_equal_to_anew(cache, tmp_path / "anew")
    one, other = (FeatureCache(split_path(c, "train")).notes for c in (cache, tmp_path / "anew"))
    assert one["skipped"] == other["skipped"]
    assert len(one["skipped"]) == 2


def test_a_growth_that_was_stopped_goes_on_where_it_was(
    photos: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, computed: list[str]
) -> None:
    """Before the new file is published, and between that and the manifest."""
    cache = tmp_path / "c"
    extract(settings(photos, weights, cache))
    before = state(cache)
    add(photos)
    publish = CacheWriter.publish
    for step in (stopped(), stopped(publish)):
        computed.clear()
        monkeypatch.setattr(CacheWriter, "publish", step)
        with pytest.raises(KeyboardInterrupt):
            extract(settings(photos, weights, cache))
        assert split_path(cache, "train") == cache / "train.h5"
        assert {name: state(cache)[name] for name in before} == before
    monkeypatch.setattr(CacheWriter, "publish", publish)
    assert not computed
    computed.clear()
    extract(settings(photos, weights, cache))
    assert computed == ["test/ü/55.png"], "maps that were there were computed again"
    extract(settings(photos, weights, tmp_path / "anew"))
    assert_equal_to_anew(cache, tmp_path / "anew")
    assert not list(cache.glob("*.part"))


def stopped(step: Callable[..., object] = print) -> Callable[..., None]:
    """A step, after which the user presses a key."""

    def then(*arguments: object) -> None:
        step(*arguments)
        raise KeyboardInterrupt

    return then


def test_joined_a_grown_cache_is_the_file_of_one_made_anew(
    photos: Path, weights: Path, tmp_path: Path
) -> None:
    """With the rows of images that are gone left out; of notes, those of what began it."""
    extract(settings(photos, weights, tmp_path / "c"))
    everything(photos)
    extract(settings(photos, weights, tmp_path / "c"))
    extract(settings(photos, weights, tmp_path / "anew"))
    (tmp_path / "joined").mkdir()
    for split in ("train", "test"):
        assert main(["join", str(tmp_path / f"c/{split}.json"), "--to", str(tmp_path / "joined")]) == 0
        assert (tmp_path / f"joined/{split}.h5").read_bytes() == (tmp_path / f"anew/{split}.h5").read_bytes()


def test_a_file_of_which_no_image_is_left_is_no_longer_listed(
    photos: Path, weights: Path, tmp_path: Path
) -> None:
    cache = tmp_path / "c"
    extract(settings(photos, weights, cache))
    for number, name in enumerate("xyz"):
        picture(photos / f"train/ü/{name}.png", number)
        extract(settings(photos, weights, cache))
    listed = list(FeatureCache(cache / "train.json").shards)
    (photos / "train/ü/x.png").unlink()
    extract(settings(photos, weights, cache))
    assert list(FeatureCache(cache / "train.json").shards) == [listed[0], *listed[2:]]
    extract(settings(photos, weights, tmp_path / "anew"))
    assert_equal_to_anew(cache, tmp_path / "anew")
