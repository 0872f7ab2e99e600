"""int8 by scales (version 2): encoded as FORMAT.md says, decoded wherever values are asked for."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from support.samples import extract, features, flip, header, image_digests, some_scales
from torch.utils.data import DataLoader

from cache import (
    CacheError,
    CacheHeader,
    CacheWriter,
    FeatureCache,
    StaleCacheError,
    fit_scales,
    relabel,
    shard_header,
    shard_paths,
    shard_ranges,
    write_manifest,
)
from cache.__main__ import main
from cache.identity import canonical, key
from cache.manifest import digest_of
from cache.scales import dequantise, quantise, scales_problem

MAPS = hnp.arrays(np.float32, (3, 4, 2, 2), elements=st.floats(-1e6, 1e6, width=32))


def by_hand(value: Any, scale: Any, zero: int) -> tuple[int, bool]:
    """The text of the format, for one value."""
    whole = int(np.rint(value / scale)) + zero
    return min(max(whole, -128), 127), not -128 <= whole <= 127


def decoded(raw: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """The text of the format in float64, which holds difference and product exactly; rounded once."""
    scale, zero = scales.astype(np.float64)[:, :, None, None]
    return ((raw - zero) * scale).astype(np.float32)


@given(values=MAPS, exponents=st.lists(st.integers(-30, 30), min_size=4, max_size=4))
def test_each_number_is_the_one_of_the_text(values: np.ndarray, exponents: list[int]) -> None:
    scales = some_scales(4) * np.array([[2.0**e for e in exponents], [1] * 4], np.float32)
    raw, saturated = quantise(values, scales)
    expected = [by_hand(values[i], scales[0, i[1]], int(scales[1, i[1]])) for i in np.ndindex(values.shape)]
    assert raw.ravel().tolist() == [number for number, _ in expected]
    assert saturated == sum(beyond for _, beyond in expected)
    again = dequantise(raw, scales)
    assert np.array_equal(again, decoded(raw, scales))
    off = np.abs(again.astype(np.float64) - values) / scales[0, :, None, None]
    inside = ~np.array([beyond for _, beyond in expected]).reshape(off.shape)
    assert off[inside].max(initial=0) <= 0.5 + 1e-4


@pytest.mark.parametrize("zero", [-128, -7, 0, 127])
def test_every_number_decodes_as_the_text_says_and_encodes_to_itself(zero: int) -> None:
    scales = np.array([[0.013, 3.7e-5], [zero, zero]], np.float32)
    raw = np.broadcast_to(np.arange(-128, 128, dtype=np.int8)[:, None, None, None], (256, 2, 1, 1)).copy()
    values = dequantise(raw, scales)
    assert np.array_equal(values, decoded(raw, scales))
    assert not values[raw == zero].any()
    assert np.array_equal(quantise(values, scales)[0], raw)


def test_halves_are_rounded_to_even_and_what_lies_beyond_is_saturated() -> None:
    scales = np.array([[2.0], [1.0]], np.float32)
    values = np.array([1, 3, -1, -3, 252, 253, 255, 1e38, -258, -259, -261, -1e38], np.float32)
    raw, saturated = quantise(values.reshape(-1, 1, 1, 1), scales)
    assert raw.ravel().tolist() == [1, 3, 1, -1, 127, 127, 127, 127, -128, -128, -128, -128]
    assert saturated == 5  # 253 is a half that fits


@given(maps=MAPS)
def test_fitted_scales_cover_their_sample_and_zero(maps: np.ndarray) -> None:
    scales = fit_scales([maps[:1], maps[1:]])
    assert scales_problem(scales, 4) == ""
    raw, _ = quantise(maps, scales)
    off = np.abs(dequantise(raw, scales) - maps).max((0, 2, 3))
    assert (off <= 0.501 * scales[0] + 1e-6 * np.abs(maps).max((0, 2, 3))).all()
    assert not quantise(1.25 * maps, scales)[1]
    assert not quantise(np.zeros_like(maps), scales)[1]


def test_maps_without_negative_numbers_use_all_256(tmp_path: Path) -> None:
    scales = fit_scales([np.array([0, 1, 4.08], np.float32).reshape(3, 1, 1, 1)])
    assert scales.tolist() == [[np.float32(0.02)], [-128]]


def test_a_channel_that_is_always_zero_takes_the_largest_scale_of_the_others() -> None:
    maps = np.zeros((2, 3, 1, 1), np.float32)
    assert fit_scales([maps]).tolist() == [[1, 1, 1], [-128, -128, -128]]
    maps[1, 0], maps[1, 2] = 204, -408
    assert fit_scales([maps])[0].tolist() == [1, 2, 2]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_scales_are_not_fitted_to_what_is_no_number(bad: float) -> None:
    for maps in ([], [np.full((2, 3, 1, 1), bad)]):
        with pytest.raises(ValueError, match="expected a sample of maps of finite numbers"):
            fit_scales(maps)


@pytest.fixture
def cache(tmp_path: Path) -> FeatureCache:
    return FeatureCache(extract(tmp_path / "train.h5", header(1100, views=2, dtype="int8")))


def test_a_cache_gives_integers_and_what_they_stand_for(cache: FeatureCache) -> None:
    made = header(1100, views=2, dtype="int8")
    scales, rows = some_scales(2), np.array([1099, 0, 7, 7])
    values = features(made, range(1100))
    raw = np.array([by_hand(v, scales[0, c], int(scales[1, c]))[0] for *_, c, _, _, v in _each(values)])
    assert cache.scales is not None
    assert np.array_equal(cache.scales, scales)
    assert np.array_equal(cache.features.ravel(), raw)
    expected = decoded(cache.features, scales)
    assert np.array_equal(cache.take(rows, 1), cache.features[rows, 1])
    assert np.array_equal(cache.read(rows, None), cache.features[rows])
    assert np.array_equal(cache.decode(cache.take(rows)), expected[rows, 0])
    assert np.array_equal(cache.decode(cache.take(rows, None)), expected[rows])
    assert np.array_equal(cache[3].features, expected[3, 0])
    assert np.array_equal(cache[[5, 2]].features, expected[[5, 2], 0])
    batches = [batch.features for batch in DataLoader(cache, batch_size=500, num_workers=1)]
    assert np.array_equal(torch.cat(batches).numpy(), expected[:, 0])
    assert cache[[]].features.shape == (0, 2, 2, 2)


def _each(values: np.ndarray) -> Any:
    return ((*i, values[i]) for i in np.ndindex(values.shape))


def test_the_writer_counts_what_it_saturates(tmp_path: Path) -> None:
    made = header(3, map_shape=(2, 1, 1), dtype="int8")
    values = np.zeros(made.shape, np.float32)
    values[1, 0, :, 0, 0] = [8.1, -0.1]  # beyond the ranges 0 to 8, and -7.1 to 0
    with CacheWriter(tmp_path / "train.h5", made) as writer:
        writer.write(range(3), values, image_digests(range(3)))
        assert writer.saturated == 1
        writer.publish()
    assert FeatureCache(tmp_path / "train.h5").features[1].ravel().tolist() == [127, 123]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize(
    ("value", "message"), [(np.nan, "the trunk computed nan"), (-np.inf, "the trunk computed -inf")]
)
def test_what_is_no_number_is_refused_by_image_and_row(
    value: float, message: str, dtype: type, tmp_path: Path
) -> None:
    made = header(3, dtype="int8")
    bad = features(made, range(3)).astype(dtype)
    bad[2, 0, 1, 0, 1] = value
    with CacheWriter(tmp_path / "train.h5", made) as writer:
        with pytest.raises(CacheError, match=rf"row 2 \(train/2/00002\.png\): {message}"):
            writer.write(range(3), bad, image_digests(range(3)))
        bad = bad.astype(np.float64)
        bad[2, 0, 1, 0, 1] = 1e39
        with pytest.raises(CacheError, match="1e\\+39 is too large for float32"):
            writer.write(range(3), bad, image_digests(range(3)))
        assert writer.missing == [range(3)]


def test_other_scales_make_another_cache(tmp_path: Path) -> None:
    path, made = tmp_path / "train.h5", header(1100, dtype="int8")
    other = header(1100, dtype="int8", scales=some_scales(2) * np.array([[2], [1]], np.float32))
    assert other.key != made.key
    extract(path, made, stop_after=1)
    with pytest.raises(
        StaleCacheError, match=r"made from something else: scales: \"[0-9a-f…]+ → \"[0-9a-f…]+; delete"
    ):
        extract(path, other)
    extract(path, made)
    again = header(1100, dtype="int8", classes=["a", "b", "c"])
    assert CacheWriter.status(path, again) == "relabel"
    before = FeatureCache(path).features
    after = FeatureCache(relabel(path, again))
    assert np.array_equal(after.features, before)
    assert (after.classes, after.key) == (("a", "b", "c"), made.key)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scales": None}, "scales: expected those of 2 channels, found none"),
        ({"dtype": "float16"}, "scales: expected none, numbers of type float16 have no scales"),
        ({"scales": some_scales(3)}, r"expected float32 of shape \(2, 2\), found float32 of shape \(2, 3\)"),
        ({"scales": some_scales(2).astype(np.float64)}, r"expected float32 of .*, found float64"),
    ],
)
def test_a_header_has_scales_where_its_dtype_has(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(CacheError, match=message):
        header(**{"rows": 3, "dtype": "int8", "scales": some_scales(2)} | changes)


def test_the_command_looks_after_it(cache: FeatureCache, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(cache.path)]) == main(["verify", str(cache.path)]) == 0
    assert "dtype: int8 (scales from 0.0279 to 0.0314), 0.1 MB" in capsys.readouterr().out
    flip(cache.path, 8 * cache.path.stat().st_size - 1)
    assert main(["verify", str(cache.path)]) == 2
    assert "block 1 (rows 1024 to 1099) doesn't match its digest" in capsys.readouterr().err


def in_shards(folder: Path, made: CacheHeader, *scales: Any) -> list[Path]:
    """Three files of a split, each with scales of its own if there are any."""
    paths, ranges = shard_paths(folder / "train.h5", 3), shard_ranges(made.shape[0], 3)
    for i, (path, rows) in enumerate(zip(paths, ranges, strict=True)):
        own = dataclasses.replace(shard_header(made, rows), **({"scales": scales[i]} if scales else {}))
        with CacheWriter(path, own) as writer:
            for some in writer.missing:
                there = range(rows.start + some.start, rows.start + some.stop)
                writer.write(some, features(made, there), image_digests(there))
            writer.publish()
    return paths


def test_shards_of_int8_are_the_one_file(tmp_path: Path) -> None:
    made = header(2500, dtype="int8")
    whole = FeatureCache(extract(tmp_path / "one" / "train.h5", made))
    cache = FeatureCache(write_manifest(tmp_path / "train.json", made, in_shards(tmp_path, made)))
    cache.verify()
    assert cache.key == whole.key
    assert np.array_equal(cache.scales, made.scales)  # pyright: ignore[reportArgumentType]
    rows = np.random.default_rng(0).permutation(2500)
    assert np.array_equal(cache[rows].features, whole[rows].features)


def test_split_and_joined_it_is_the_same_file(cache: FeatureCache, tmp_path: Path) -> None:
    folder = cache.path.parent
    assert main(["split", str(folder), "--shards", "2", "--to", str(tmp_path / "two")]) == 0
    assert len(list((tmp_path / "two").glob("train-*.h5"))) == 2
    assert main(["join", str(tmp_path / "two"), "--to", str(tmp_path / "one")]) == 0
    assert (tmp_path / "one" / "train.h5").read_bytes() == cache.path.read_bytes()


def test_a_shard_of_other_scales_is_refused_by_name(tmp_path: Path) -> None:
    made, other = header(2500, dtype="int8"), some_scales(2) * np.array([[2], [1]], np.float32)
    shards = in_shards(tmp_path, made, made.scales, other, made.scales)
    with pytest.raises(CacheError, match=r"train-00001-of-00003\.h5: no shard of this cache: .*scales: "):
        write_manifest(tmp_path / "train.json", made, shards)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda scales: scales | {"scale": [1.0, 2.0]},
            r"00000-of-00003\.h5: no shard .* expected the scales",
        ),
        (lambda scales: scales | {"scale": [1.0]}, "expected as many zero points as scales"),
        (lambda scales: {name: [1, 1, 1] for name in scales}, r"of shape \(2, 2\), found float32 of .* 3\)"),
        (lambda scales: scales | {"scale": [1.0, -2.0]}, "scale of channel 1 a number from .*, found -2"),
        (lambda scales: None, "scales: expected an object with int8, found None"),
        (lambda scales: [scales], "expected a list of each, scale and zero_point"),
    ],
)
def test_a_manifest_of_other_scales_is_refused(change: Any, message: str, tmp_path: Path) -> None:
    made = header(2500, dtype="int8")
    path = write_manifest(tmp_path / "train.json", made, in_shards(tmp_path, made))
    fields = json.loads(path.read_text())
    fields["scales"] = change(fields["scales"])
    known = {"shape": fields["shape"], "dtype": "int8", "paths": fields["paths"]}
    fields["key"] = key(fields["identity"] | known | {"scales": key(fields["scales"])})
    path.write_bytes(canonical(fields | {"digest": digest_of(fields)}))
    with pytest.raises(CacheError, match=message):
        FeatureCache(path).take([0])


def test_a_manifest_of_floats_has_no_scales(tmp_path: Path) -> None:
    made = header(2500)
    path = write_manifest(tmp_path / "train.json", made, in_shards(tmp_path, made))
    fields = json.loads(path.read_text()) | {"scales": {"scale": [1, 1], "zero_point": [0, 0]}}
    path.write_bytes(canonical(fields | {"digest": digest_of(fields)}))
    with pytest.raises(CacheError, match=r"scales: expected null with float16, found \{"):
        FeatureCache(path)


def test_it_is_exported_as_float32_and_imported_from_it(cache: FeatureCache, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert main(["export", str(cache.path), "--out", str(out)]) == 0
    exported = np.load(out / "features.npy")
    assert exported.dtype == np.float32
    assert np.array_equal(exported, cache.decode(cache.features))
    assert main(["import", str(out), "--cache", str(tmp_path / "c"), "--dtype", "int8"]) == 0
    again = FeatureCache(tmp_path / "c" / "train.h5")
    assert again.scales is not None
    off = np.abs(again.decode(again.features) - exported).max((0, 1, 3, 4))
    assert (off <= 0.501 * again.scales[0]).all()
    before = again.path.read_bytes()
    again.path.unlink()
    assert main(["import", str(out), "--cache", str(tmp_path / "c"), "--dtype", "int8"]) == 0
    assert again.path.read_bytes() == before


def test_imported_rows_that_are_no_numbers_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    maps = np.ones((5, 3), np.float32)
    maps[3, 1] = np.nan
    np.savez(tmp_path / "a.npz", X=maps, y=np.zeros(5, int))
    words = [str(tmp_path / "a.npz"), "--cache", str(tmp_path / "c"), "--dtype", "int8"]
    assert main(["import", *words]) == 2
    assert "row 3: features: expected finite numbers, found NaN" in capsys.readouterr().err


def test_the_file_holds_what_the_format_says(cache: FeatureCache) -> None:
    import h5py

    with h5py.File(cache.path) as file:
        provenance: Any = file["provenance"]
        said = json.loads(provenance[...].tobytes())["scales"]
        assert np.array_equal(np.float32(said["scale"]), some_scales(2)[0])
        assert said["zero_point"] == [-128, 127]
    assert b"ten-crop-cache/2" in cache.path.read_bytes()[:512]
    floats = extract(cache.path.with_name("f.h5"), header(3))
    assert b"ten-crop-cache/1" in floats.read_bytes()[:512]
