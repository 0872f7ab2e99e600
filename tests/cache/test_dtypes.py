"""Storage dtypes against torch's conversions and HDF5's own."""

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from support.samples import extract, features, header

from cache import DTYPES, FeatureCache

FLOATS = [name for name, dtype in DTYPES.items() if dtype.raw.kind != "i"]
ANY_FLOAT32 = hnp.arrays(np.float32, st.integers(1, 200), elements=st.floats(width=32))


def bits(values: np.ndarray) -> np.ndarray:
    return values.view(f"u{values.itemsize}")


@given(ANY_FLOAT32)
@pytest.mark.parametrize("name", FLOATS)
def test_encoding_rounds_as_torch_does(name: str, values: np.ndarray) -> None:
    raw = DTYPES[name].encode(values)
    expected = torch.from_numpy(values).to(getattr(torch, name))
    again = torch.from_numpy(DTYPES[name].decode(raw))
    assert torch.equal(again.nan_to_num(nan=7.0), expected.float().nan_to_num(nan=7.0))
    assert np.array_equal(DTYPES[name].finite(raw), expected.isfinite().numpy())
    assert DTYPES[name].all_finite(raw) == expected.isfinite().all()


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_every_short_pattern_among_others_is_finite_or_not_as_in_torch(name: str) -> None:
    patterns = np.arange(65_536, dtype=np.uint16)
    expected = torch.from_numpy(patterns.view(np.int16)).view(getattr(torch, name)).isfinite().tolist()
    among = np.zeros((2, 3), np.uint16)
    for pattern, is_finite in zip(patterns, expected, strict=True):
        among[1, 1] = pattern
        assert DTYPES[name].all_finite(among.view(DTYPES[name].raw)) == is_finite, hex(pattern)


@pytest.mark.parametrize("sign", [0, 1 << 31])
def test_long_patterns_around_infinity_are_finite_or_not_as_in_torch(sign: int) -> None:
    for pattern in (0, 1, 0x7F7FFFFF, 0x7F800000, 0x7F800001, 0x7FC00000, 0x7FFFFFFF):
        raw = np.array([0, sign | pattern], np.uint32).view(np.float32)
        assert DTYPES["float32"].all_finite(raw) == torch.from_numpy(raw).isfinite().all(), hex(pattern)


@pytest.mark.parametrize("name", FLOATS)
def test_no_numbers_are_all_finite(name: str) -> None:
    assert DTYPES[name].all_finite(np.zeros((0, 2), DTYPES[name].raw))


def test_every_bfloat16_pattern_decodes_as_in_torch() -> None:
    raw = np.arange(65_536, dtype=np.uint16)
    dtype = DTYPES["bfloat16"]
    expected = torch.from_numpy(raw.view(np.int16)).view(torch.bfloat16)
    assert np.array_equal(bits(dtype.decode(raw)), bits(expected.float().numpy()))
    assert np.array_equal(dtype.finite(raw), expected.isfinite().numpy())


def test_bfloat16_rounds_halves_to_even_at_every_pattern() -> None:
    """Halfway between two neighbours, and a little to either side of it, for all positive finite patterns."""
    lower = np.arange(0x7F80, dtype=np.uint32) << 16
    for offset in (0x7FFF, 0x8000, 0x8001):
        values = (lower + np.uint32(offset)).view(np.float32)
        expected = torch.from_numpy(values).to(torch.bfloat16).view(torch.int16).numpy().view(np.uint16)
        assert np.array_equal(DTYPES["bfloat16"].encode(values), expected)


@pytest.mark.parametrize("name", FLOATS)
def test_largest_is_the_last_finite_value(name: str) -> None:
    dtype = DTYPES[name]
    largest = np.array([dtype.largest], np.float64)
    assert dtype.decode(dtype.encode(largest))[0] == dtype.largest
    assert dtype.finite(dtype.encode(largest)).all()
    assert not dtype.finite(dtype.encode(largest * 1.01)).any()


@pytest.mark.parametrize("name", DTYPES)
def test_plain_h5py_reads_what_the_format_says(name: str, tmp_path: Path) -> None:
    made = header(5, dtype=name)
    path = extract(tmp_path / "train.h5", made)
    raw = made.storage.encode(features(made, range(5)))
    expected = raw if name == "int8" else made.storage.decode(raw)
    with h5py.File(path) as file:
        dataset = file["features"]
        assert isinstance(dataset, h5py.Dataset)
        assert dataset.dtype == (np.float32 if name == "bfloat16" else np.dtype(name))
        assert np.array_equal(dataset[...], expected)


@pytest.mark.parametrize("name", DTYPES)
def test_the_file_s_bytes_are_the_raw_numbers(name: str, tmp_path: Path) -> None:
    path = extract(tmp_path / "train.h5", header(5, dtype=name))
    with h5py.File(path) as file:
        dataset = file["features"]
        assert isinstance(dataset, h5py.Dataset)
        offset, nbytes = dataset.id.get_offset(), dataset.id.get_storage_size()
    in_file = path.read_bytes()[offset : offset + nbytes]
    assert in_file == FeatureCache(path).features.tobytes()
