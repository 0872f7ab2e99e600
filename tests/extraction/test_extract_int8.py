"""Extraction to int8: the rounded maps of float32, by scales that all files of a cache share."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support.sharing import config, contents, make_images
from support.toy import write

from cache import CacheHeader, FeatureCache, fit_scales, sample_rows, split_path
from cache import scales as fitting
from cache.scales import quantise
from pipeline.datasets.base import open_dataset
from pipeline.errors import CacheError, DataError, StaleCacheError
from pipeline.extraction import overlap, scales
from pipeline.extraction.parity import check_parity, rounding
from pipeline.extraction.stage import extract
from pipeline.extraction.work import trunk_of
from pipeline.images.views import Views


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_images(tmp_path_factory.mktemp("images"), train=1300)


@pytest.fixture(scope="module")
def whole(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return extract(config(images, tmp_path_factory.mktemp("whole"), dtype="int8"))


def scales_of(folder: Path, split: str = "train") -> np.ndarray:
    found = FeatureCache(split_path(folder, split)).scales
    assert found is not None
    return found


def test_numbers_are_the_rounded_maps_of_float32(images: Path, whole: Path, tmp_path: Path) -> None:
    extract(config(images, tmp_path, dtype="float32"))
    long = FeatureCache(tmp_path / "train.h5")
    expected = fit_scales([long.take(sample_rows(1300))])
    for split in ("train", "test"):
        assert np.allclose(scales_of(whole, split), expected, rtol=1e-5)
        maps, cache = FeatureCache(tmp_path / f"{split}.h5").features, FeatureCache(whole / f"{split}.h5")
        assert np.array_equal(cache.features, quantise(maps, scales_of(whole))[0])
        off = np.abs(cache.decode(cache.features) - maps)
        assert (off <= rounding(maps, cache.scales) + 1e-6).all()
    assert (whole / "train.h5").stat().st_size < 0.52 * long.features.nbytes / 2 + 1300 * 50 + 8192


def test_the_same_extraction_elsewhere_or_again_gives_the_same(
    images: Path, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def settings() -> Any:
        return config(images, tmp_path, dtype="int8")

    extract(settings())
    for name in ("train.h5", "test.h5"):
        assert (tmp_path / name).read_bytes() == (whole / name).read_bytes()
    for gone in (next(tmp_path.glob("int8.scales-*")), tmp_path / "test.h5"):  # which train.h5 remembers
        gone.unlink()
        capsys.readouterr()
        extract(settings())
        assert "fitting" not in capsys.readouterr().out
        assert (tmp_path / "test.h5").read_bytes() == (whole / "test.h5").read_bytes()


@pytest.mark.parametrize("decoders", [1, 2])
def test_an_interrupted_extraction_goes_on_with_the_same_scales(
    decoders: int, images: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, done = overlap.CacheWriter.write, []

    def stops(writer: Any, rows: range, *arrays: Any) -> None:
        if rows.start >= 1024:
            raise KeyboardInterrupt
        write(writer, rows, *arrays)
        done.append(rows)

    with monkeypatch.context() as patch:
        patch.setattr(overlap.CacheWriter, "write", stops)
        with pytest.raises(KeyboardInterrupt):
            extract(config(images, tmp_path, dtype="int8", decoders=decoders))
    assert done
    monkeypatch.setattr(scales, "fit_scales", None)  # they are there
    extract(config(images, tmp_path, dtype="int8"))
    assert (tmp_path / "train.h5").read_bytes() == (whole / "train.h5").read_bytes()


def test_workers_share_the_scales_of_the_first(
    images: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    extract(config(images, tmp_path, dtype="int8", shard="1/2"))
    monkeypatch.setattr(scales, "fit_scales", lambda maps: 2 * fit_scales(maps))  # another machine
    extract(config(images, tmp_path, dtype="int8", shard="0/2"))
    for split in ("train", "test"):
        assert contents(split_path(tmp_path, split)) == contents(whole / f"{split}.h5")


def test_of_workers_that_fit_at_once_the_first_wins(
    images: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While one fits, the other is done: what it wrote is taken."""

    def overtaken(maps: Any) -> np.ndarray:
        found = fit_scales(maps)
        with monkeypatch.context() as patch:
            patch.setattr(scales, "fit_scales", fit_scales)
            extract(config(images, tmp_path, dtype="int8", shard="1/2"))
        return 2 * found

    monkeypatch.setattr(scales, "fit_scales", overtaken)
    extract(config(images, tmp_path, dtype="int8", shard="0/2"))
    assert contents(tmp_path / "train.json") == contents(whole / "train.h5")


def test_one_command_with_two_workers_gives_the_same(images: Path, whole: Path, tmp_path: Path) -> None:
    extract(config(images, tmp_path, dtype="int8", workers=2))
    assert contents(split_path(tmp_path, "train")) == contents(whole / "train.h5")


def test_a_cache_that_grows_keeps_its_scales(tmp_path: Path) -> None:
    images = make_images(tmp_path / "i", train=1100, test=20)
    settings = config(images, tmp_path / "c", dtype="int8")
    before = FeatureCache(extract(settings) / "train.h5")
    maps, paths = before.features[:, 0].copy(), list(before.paths)
    bright = np.full((8, 8, 3), 255, np.uint8)
    Image.fromarray(bright).save(images / "photos/train/a/0-new.png")  # first of all, and in the sample
    extract(settings)
    after = FeatureCache(tmp_path / "c" / "train.json")
    after.verify()
    assert len(after) == 1101
    assert np.array_equal(scales_of(tmp_path / "c"), before.scales)  # pyright: ignore[reportArgumentType]
    place = {path: row for row, path in enumerate(after.paths)}
    assert np.array_equal(after.take([place[path] for path in paths]), maps)


def test_each_layer_has_scales_of_its_own(images: Path, whole: Path, tmp_path: Path) -> None:
    trunk = f"{images / 'trunk.py'}:trunk@0,1"
    extract(replace(config(images, tmp_path, dtype="int8"), trunk=trunk))
    before, after = scales_of(tmp_path / "0"), scales_of(tmp_path / "1")
    assert (before[1] > -128).all()
    assert (after[1] == -128).all()  # behind a ReLU
    assert np.allclose(after, scales_of(whole), rtol=1e-5)


def test_images_that_can_t_be_decoded_are_no_part_of_the_sample(tmp_path: Path) -> None:
    images = make_images(tmp_path / "i", train=60, test=20)
    broken = sorted((images / "photos/train").rglob("*.png"))
    broken[3].write_bytes(b"no image")
    settings = config(images, tmp_path / "c", dtype="int8", on_bad_image="skip")
    assert len(FeatureCache(extract(settings) / "train.h5")) == 59
    with pytest.raises(DataError, match="--on-bad-image skip"):
        extract(config(images, tmp_path / "d", dtype="int8"))
    for image in broken:
        image.write_bytes(b"no image")
    with pytest.raises(DataError, match="59 other training images: expected one that can be decoded, to fit"):
        extract(config(images, tmp_path / "e", dtype="int8"))


def test_a_trunk_that_computes_no_numbers_is_refused(images: Path, tmp_path: Path) -> None:
    (tmp_path / "trunk.py").write_text(
        "from torch import nn\n\ndef trunk():\n    net = nn.Conv2d(3, 4, 3)\n"
        "    nn.init.constant_(net.bias, float('nan'))\n    return net\n"
    )
    settings = replace(config(images, tmp_path / "c", dtype="int8"), trunk=f"{tmp_path}/trunk.py:trunk")
    with pytest.raises(CacheError, match="--dtype int8: the trunk computed NaN or infinity for one of 1,024"):
        extract(settings)


def test_what_is_saturated_is_counted_and_no_fault(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fitting, "HEADROOM", 0.5)
    extract(config(images, tmp_path / "c", dtype="int8"))
    said = re.findall(r"([\d.e-]+) of the numbers lay beyond the range of int8", capsys.readouterr().out)
    extract(config(images, tmp_path / "f", dtype="float32"))
    for split, share in zip(("train", "test"), said, strict=True):
        maps = FeatureCache(tmp_path / f"f/{split}.h5").features
        beyond = quantise(maps, scales_of(tmp_path / "c"))[1] / maps.size
        assert beyond > 0.001
        assert float(share) == pytest.approx(beyond, rel=0.06)


def test_a_cache_of_another_dtype_is_refused_as_ever(images: Path, tmp_path: Path) -> None:
    extract(config(images, tmp_path))
    with pytest.raises(StaleCacheError, match=r'dtype: "float16" → "int8" \(--dtype\)'):
        extract(config(images, tmp_path, dtype="int8"))
    assert not list(tmp_path.glob("int8*"))


def test_a_number_that_is_off_by_more_than_rounding_is_noticed(
    images: Path, whole: Path, tmp_path: Path
) -> None:
    """Of the row that is compared last, all numbers are one step too large."""
    settings = config(images, tmp_path, dtype="int8")
    split, trunk = open_dataset(settings.dataset)["train"], trunk_of(settings)
    views, good = Views("plain", len(split), 0), FeatureCache(whole / "train.h5")
    assert check_parity(good.path, split, trunk, views) < 0.01
    maps = good.decode(good.features)
    maps[-1] += scales_of(whole)[0, :, None, None]
    header = CacheHeader(
        good.shape, "int8", good.labels, good.paths, good.classes, good.identity, scales=good.scales
    )
    write(tmp_path / "train.h5", header, maps)
    with pytest.raises(CacheError, match=r"differs from the live trunk by .*, expected at most 0\.001"):
        check_parity(tmp_path / "train.h5", split, trunk, views)


def test_rounding_is_half_a_step_and_what_lies_beyond_the_range() -> None:
    maps = np.array([-3, -1, 0, 250, 254, 260], np.float32).reshape(-1, 1, 1, 1)
    off = rounding(maps, np.array([[1], [-127]], np.float32))
    assert off.ravel().tolist() == [2.5, 0.5, 0.5, 0.5, 0.5, 6.5]  # type: ignore[union-attr]
