"""The file as FORMAT.md has it, looked at through h5py and byte by byte; no reader of ours involved."""

import hashlib
import json
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from support.building import datasets
from support.samples import IDENTITY, extract, features, header, image_digests

from cache import DTYPES, CacheWriter, FeatureCache
from cache.format import create

NAMES = ["labels", "paths", "classes", "provenance", "header_digests", "digests", "image_digests", "features"]


def test_the_file_holds_these_datasets_and_one_attribute(sample: Path) -> None:
    with h5py.File(sample) as file:
        assert sorted(file) == sorted(NAMES)
        assert dict(file.attrs) == {"format": np.bytes_(b"ten-crop-cache/1")}
        found = {name: (d.shape, d.dtype.str, d.maxshape == d.shape, d.chunks) for name, d in file.items()}
    assert found == {
        "labels": ((2500,), "<i8", True, None),
        "paths": ((2500 * 18,), "|u1", True, None),
        "classes": ((3,), "|S8", True, None),
        "provenance": ((found["provenance"][0][0],), "|u1", True, None),
        "header_digests": ((48,), "|u1", True, None),
        "digests": ((3, 16), "|u1", True, None),
        "image_digests": ((2500, 16), "|u1", True, None),
        "features": ((2500, 1, 2, 2, 2), "<f2", True, None),
    }


def test_h5py_reads_what_was_written(sample: Path) -> None:
    made = header()
    with datasets(sample) as found:
        assert np.array_equal(found["labels"][...], np.arange(2500) % 3)
        assert found["paths"][...].tobytes() == b"".join(f"{p}\0".encode() for p in made.paths)
        assert found["classes"].asstr()[...].tolist() == ["cat", "dog", "größer"]
        assert json.loads(found["provenance"][...].tobytes()) == {
            "identity": IDENTITY,
            "notes": {"skipped": ["train/0/broken.png"]},
        }
        assert np.array_equal(found["features"][...], features(made, range(2500)).astype(np.float16))
        assert np.array_equal(found["image_digests"][...], image_digests(range(2500)))


@pytest.mark.parametrize("rows", [1, 3, 1023, 1024, 1025])
def test_features_lie_last_on_a_page(rows: int, tmp_path: Path) -> None:
    path = extract(tmp_path / "train.h5", header(rows))
    with datasets(path) as found:
        ends = {name: d.id.get_offset() + d.id.get_storage_size() for name, d in found.items()}
        assert found["features"].id.get_offset() % 4096 == 0
        assert (
            max(end for name, end in ends.items() if name != "features") <= found["features"].id.get_offset()
        )
        assert ends["features"] == path.stat().st_size
        assert found["digests"].shape == (-(-rows // 1024), 16)


def test_digests_are_those_that_the_format_prescribes(sample: Path) -> None:
    with datasets(sample) as found:
        for block in range(3):
            rows = slice(1024 * block, 1024 * (block + 1))
            content = found["features"][rows].tobytes() + found["image_digests"][rows].tobytes()
            assert found["digests"][block].tobytes() == xxhash.xxh3_128(content, seed=block).digest()
        text = b"ten-crop-cache/1\nfeatures float16 2500,1,2,2,2\n"
        for name in NAMES[:4]:
            d = found[name]
            text += f"{name} {len(d)} {d.dtype.itemsize}\n".encode() + d[...].tobytes()
        images = hashlib.sha256(found["image_digests"][...].tobytes()).digest()
        assert found["header_digests"][...].tobytes() == xxhash.xxh3_128(text).digest() + images
    assert FeatureCache(sample).images_digest == images.hex()


def test_the_key_is_the_one_that_the_format_prescribes(tiny: Path) -> None:
    with datasets(tiny) as found:
        listed = found["paths"][...].tobytes().decode().split("\0")[:-1]
        paths = json.dumps(listed, separators=(",", ":"))
        full = IDENTITY | {
            "shape": [3, 1, 16, 4, 4],
            "dtype": "float16",
            "paths": hashlib.sha256(paths.encode()).hexdigest(),
        }
    text = json.dumps(full, sort_keys=True, separators=(",", ":"))
    assert FeatureCache(tiny).key == hashlib.sha256(text.encode()).hexdigest()


def test_golden_contents_of_a_small_file(tmp_path: Path) -> None:
    """What the datasets hold, in order; where HDF5 puts them and its own structures is HDF5's affair."""
    path, made = tmp_path / "train.h5", header(3, identity={"a": 1}, notes={})
    with CacheWriter(path, made) as writer:
        maps = np.arange(24, dtype=np.float32).reshape(made.shape) / 7
        writer.write(range(3), maps, np.arange(48, dtype=np.uint8).reshape(3, 16))
        writer.publish()
    with datasets(path) as found:
        contents = hashlib.sha256(b"".join(found[name][...].tobytes() for name in NAMES)).hexdigest()
    assert contents == "ee958f8b6a5598771139d821c7c5b13aa0e0be7ded562a84dde1fb4b1b0c3e1d"
    assert path.read_bytes()[:9] == b"\x89HDF\r\n\x1a\n\x02"


def test_equal_inputs_give_equal_bytes(tmp_path: Path) -> None:
    first = extract(tmp_path / "a" / "train.h5", header(1100)).read_bytes()
    time.sleep(1.1)  # HDF5 keeps times in whole seconds
    second = extract(tmp_path / "b" / "another name.h5", header(1100)).read_bytes()
    assert first == second


def test_what_no_dataset_covers_is_structure_or_zero(tmp_path: Path) -> None:
    """Memory that HDF5 didn't initialise would be neither."""
    structure, layout = create(header(1100))
    for extent in layout.extents.values():
        assert not any(structure[extent.offset : extent.end])
    assert {create(header(1100))[0] for _ in range(5)} == {structure}


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)


@st.composite
def headers(draw: st.DrawFn) -> Any:
    rows = draw(st.integers(1, 40))
    classes = draw(st.lists(TEXT, min_size=1, max_size=5, unique=True))
    several = draw(st.booleans())
    value = st.integers(-1, 1) if several else st.integers(0, len(classes) - 1)
    shape = (rows, len(classes)) if several else (rows,)
    return header(
        rows,
        views=draw(st.integers(1, 3)),
        map_shape=draw(st.tuples(*[st.integers(1, 4)] * 3)),
        dtype=draw(st.sampled_from(sorted(DTYPES))),
        classes=classes,
        labels=draw(arrays(np.int64, shape, elements=value)),
        paths=draw(st.lists(TEXT.filter(len), min_size=rows, max_size=rows, unique=True)),
        identity=draw(st.dictionaries(TEXT, st.integers() | TEXT)),
        notes=draw(st.dictionaries(TEXT, st.integers() | TEXT)),
    )


@given(made=headers())
@settings(max_examples=30, deadline=None)
def test_whatever_a_header_can_hold_comes_back(made: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    cache = FeatureCache(extract(tmp_path_factory.mktemp("any") / "train.h5", made))
    cache.verify()
    assert cache.shape == made.shape
    assert cache.dtype == made.dtype
    assert cache.labels.tolist() == made.labels.tolist()
    assert cache.multi_label == made.multi_label
    assert cache.paths == list(made.paths)
    assert cache.classes == tuple(made.classes)
    assert cache.identity == made.identity
    assert cache.notes == made.notes
    assert cache.key == made.key
    assert np.array_equal(cache.features, made.storage.encode(features(made, range(made.shape[0]))))
    assert np.array_equal(cache.image_digests, image_digests(range(made.shape[0])))
