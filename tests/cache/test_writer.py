"""Writing: resuming, refusing, relabelling. Kills and failing disks are in test_faults.py."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from samples import IDENTITY, extract, features, header, image_digests

from cache import CacheError, CacheHeader, CacheWriter, FeatureCache, StaleCacheError, relabel

BLOCKS = [range(1024), range(1024, 2048), range(2048, 2500)]


def fill(writer: CacheWriter, made: CacheHeader, blocks: list[range]) -> None:
    for rows in blocks:
        writer.write(rows, features(made, rows), image_digests(rows))


def test_status_goes_from_absent_over_partial_to_complete(tmp_path: Path) -> None:
    path, made = tmp_path / "new" / "train.h5", header()
    assert CacheWriter.status(path, made) == "absent"
    extract(path, made, stop_after=1)
    assert CacheWriter.status(path, made) == "partial"
    assert extract(path, made) == path
    assert CacheWriter.status(path, made) == "complete"
    assert os.listdir(path.parent) == ["train.h5"]


def test_an_unlaid_part_file_is_absent(tmp_path: Path) -> None:
    (tmp_path / "train.h5.part").write_bytes(b"held by process 1 on nowhere")
    assert CacheWriter.status(tmp_path / "train.h5", header()) == "absent"


@pytest.mark.parametrize("stop_after", [0, 1, 2, 3])
def test_resumed_bytes_equal_uninterrupted_ones(stop_after: int, sample: Path, tmp_path: Path) -> None:
    path, made = tmp_path / "train.h5", header()
    extract(path, made, stop_after=stop_after)
    with CacheWriter(path, made) as writer:
        assert writer.missing == BLOCKS[stop_after:]
        fill(writer, made, writer.missing)
        writer.publish()
    assert path.read_bytes() == sample.read_bytes()


def test_blocks_may_come_in_any_order(sample: Path, tmp_path: Path) -> None:
    path, made = tmp_path / "train.h5", header()
    with CacheWriter(path, made) as writer:
        fill(writer, made, [BLOCKS[2], BLOCKS[0]])
        assert writer.missing == [BLOCKS[1]]
    with CacheWriter(path, made) as writer:
        assert writer.missing == [BLOCKS[1]]
        fill(writer, made, [BLOCKS[1]])
        writer.publish()
    assert path.read_bytes() == sample.read_bytes()


@pytest.mark.parametrize("name", ["features", "image_digests", "digests"])
def test_a_damaged_block_of_a_part_file_is_missing_again(name: str, sample: Path, tmp_path: Path) -> None:
    path, made = tmp_path / "train.h5", header()
    extract(path, made, stop_after=3)
    part = path.with_name("train.h5.part")
    with CacheWriter(path, made) as writer:
        extent = writer._layout[name]
    with part.open("r+b") as file:
        middle = extent.offset + extent.nbytes // 2  # in block 1
        file.seek(middle)
        byte = file.read(1)[0]
        file.seek(middle)
        file.write(bytes([byte ^ 4]))
    with CacheWriter(path, made) as writer:
        assert writer.missing == [BLOCKS[1]]
        assert not writer.image_digests[1024:2048].any()
        fill(writer, made, writer.missing)
        writer.publish()
    assert path.read_bytes() == sample.read_bytes()


def test_blocks_without_a_digest_are_not_read_on_resuming(tmp_path: Path) -> None:
    """A large cache that has just begun is taken up at once."""
    path, made = tmp_path / "train.h5", header(200 * 1024)
    extract(path, made, stop_after=1)
    with CacheWriter(path, made) as writer:
        assert len(writer.missing) == 199
        end = writer._layout.end
    read = Path("/proc/self/io")
    if not read.exists():
        pytest.skip("only Linux counts the bytes that a process reads")
    before = int(read.read_text().split()[1])
    with CacheWriter(path, made):
        pass
    header_bytes = end - 200 * 1024 * (16 + 16)
    assert int(read.read_text().split()[1]) - before < 2 * header_bytes + 3 * 1024 * 32 + 100_000


@pytest.mark.parametrize(
    ("value", "dtype", "message"),
    [
        (np.nan, "float16", "the trunk computed nan"),
        (np.inf, "float32", "the trunk computed inf"),
        (-np.inf, "bfloat16", "the trunk computed -inf"),
        (65_520.0, "float16", "65520 is too large for float16 \\(at most 65504\\)"),
        (-1e6, "float16", "-1e\\+06 is too large for float16"),
        (3.4e38, "bfloat16", "3.4e\\+38 is too large for bfloat16"),
    ],
)
def test_a_value_that_can_t_be_stored_is_refused_by_image_and_row(
    value: float, dtype: str, message: str, tmp_path: Path
) -> None:
    path, made = tmp_path / "train.h5", header(dtype=dtype)
    bad = features(made, BLOCKS[1])
    bad[7, 0, 1, 0, 1] = value
    with CacheWriter(path, made) as writer:
        with pytest.raises(CacheError, match=rf"train\.h5: row 1031 \(train/2/01031\.png\): {message}"):
            writer.write(BLOCKS[1], bad, image_digests(BLOCKS[1]))
        assert writer.missing == BLOCKS
    with CacheWriter(path, made) as writer:
        assert writer.missing == BLOCKS


def test_the_largest_float16_is_stored_and_rounding_to_it_too(tmp_path: Path) -> None:
    made = header(2, map_shape=(1, 1, 1))
    with CacheWriter(tmp_path / "train.h5", made) as writer:
        values = np.array([65_504.0, -65_519.0], np.float32).reshape(2, 1, 1, 1, 1)
        writer.write(range(2), values, image_digests(range(2)))
        writer.publish()
    assert FeatureCache(tmp_path / "train.h5").features.ravel().tolist() == [65_504.0, -65_504.0]


@pytest.mark.parametrize("given", [np.float16, np.float32, np.float64])
def test_any_floating_point_is_converted(given: type, tmp_path: Path) -> None:
    made = header(3, dtype="float32")
    values = features(made, range(3)).astype(given)
    with CacheWriter(tmp_path / "train.h5", made) as writer:
        writer.write(range(3), values.transpose(0, 1, 4, 3, 2), image_digests(range(3)))
        writer.publish()
    stored = FeatureCache(tmp_path / "train.h5").features
    assert np.array_equal(stored, values.transpose(0, 1, 4, 3, 2).astype(np.float32))


@pytest.mark.parametrize(
    ("rows", "change", "message"),
    [
        (range(1024), {"features": np.zeros((1024, 1, 2, 2, 1), np.float32)}, "features: expected floating"),
        (range(1024), {"features": np.zeros((1024, 1, 2, 2, 2), np.int16)}, "found int16"),
        (range(1024), {"image_digests": np.zeros((1024, 8), np.uint8)}, "image digests: expected uint8"),
        (range(1024), {"image_digests": np.zeros((1024, 16), np.int32)}, "found int32"),
        (range(1000), {}, "rows 0 to 1000: expected one of the missing blocks"),
        (range(1, 1025), {}, "rows 1 to 1025: expected one of the missing blocks"),
        (range(1024, 2048), {}, "rows 1024 to 2048: expected one of the missing blocks"),
        (range(3072, 4096), {}, "rows 3072 to 4096: expected one of the missing blocks"),
    ],
)
def test_wrong_arrays_and_rows_are_refused(
    rows: range, change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    made = header()
    with CacheWriter(tmp_path / "train.h5", made) as writer:
        fill(writer, made, [BLOCKS[1]])
        arrays = {"features": features(made, rows), "image_digests": image_digests(rows)} | change
        with pytest.raises(CacheError, match=message):
            writer.write(rows, **arrays)
        with pytest.raises(CacheError, match="2 of 3 blocks are missing"):
            writer.publish()


OTHERS = {
    r"trunk\.version: 1 → 2": {"identity": IDENTITY | {"trunk": IDENTITY["trunk"] | {"version": 2}}},
    r"trunk\.weights: \S*ab\" → \S*ac\"": {
        "identity": IDENTITY | {"trunk": IDENTITY["trunk"] | {"weights": "ab" * 31 + "ac"}}
    },
    r"transform\.mean: \[0\.5,0\.25\] → \[0\.5,0\.5\]": {
        "identity": IDENTITY | {"transform": {"mean": [0.5, 0.5]}}
    },
    r"views: absent → \"mirror\"": {"identity": IDENTITY | {"views": "mirror"}},
    r"dtype: \"float16\" → \"bfloat16\"": {"dtype": "bfloat16"},
    r"shape: \[3,1,2,2,2\] → \[3,2,2,2,2\]": {"views": 2},
    r"paths: row 3: absent → train/0/00003\.png; shape: \[3,1,2,2,2\] → \[4,1,2,2,2\]": {"rows": 4},
    r"paths: row 0: train/0/00000\.png → b\.png": {"paths": ["b.png", "a.png", "c.png"]},
}


@pytest.mark.parametrize("published", [True, False])
@pytest.mark.parametrize("message", OTHERS)
def test_another_identity_is_refused_and_the_field_named(
    message: str, published: bool, tmp_path: Path
) -> None:
    path = tmp_path / "train.h5"
    extract(path, header(3), stop_after=None if published else 0)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    other = header(**{"rows": 3} | OTHERS[message])
    with pytest.raises(StaleCacheError, match=message) as caught:
        CacheWriter.status(path, other)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)
    with pytest.raises(StaleCacheError, match=message), CacheWriter(path, other):
        pass
    if published:
        with pytest.raises(StaleCacheError, match=message):
            relabel(path, other)
    after = {file.name: file.read_bytes()[: len(before[file.name]) - 128] for file in tmp_path.iterdir()}
    assert after == {name: data[:-128] for name, data in before.items()}


def test_many_different_fields_are_counted(tmp_path: Path) -> None:
    path = extract(tmp_path / "train.h5", header(3, identity={f"f{i:02}": i for i in range(20)}))
    with pytest.raises(StaleCacheError, match=r"f07: 7 → 8; and 12 more; delete it"):
        CacheWriter.status(path, header(3, identity={f"f{i:02}": i + 1 for i in range(20)}))


def test_a_complete_cache_is_not_written_again(sample: Path) -> None:
    before = sample.stat()
    with pytest.raises(CacheError, match="already complete"), CacheWriter(sample, header()):
        pass
    assert sample.stat() == before
    assert os.listdir(sample.parent) == ["train.h5"]


RELABELLED = {
    "labels": {"labels": np.arange(2500)[::-1] % 3},
    "classes": {"classes": ["a much longer name than before, so that offsets move", "dog", "x"]},
    "more classes": {"classes": [f"class {i}" for i in range(2000)], "labels": np.arange(2500) % 2000},
}


@pytest.mark.parametrize("change", RELABELLED)
def test_other_labels_keep_the_features(change: str, copy: Path, tmp_path: Path) -> None:
    made = header(**RELABELLED[change])
    assert CacheWriter.status(copy, made) == "relabel"
    old = FeatureCache(copy)
    mapped = old.features[5:8].copy(), old.features
    assert relabel(copy, made) == copy
    assert CacheWriter.status(copy, made) == "complete"
    assert os.listdir(copy.parent) == ["train.h5"]
    assert np.array_equal(mapped[0], mapped[1][5:8])  # whoever has the old file mapped keeps it
    fresh = extract(tmp_path / "fresh" / "train.h5", made)
    assert copy.read_bytes() == fresh.read_bytes()


def test_relabelling_keeps_the_notes_which_are_about_the_features(copy: Path) -> None:
    relabel(copy, header(labels=np.zeros(2500, int), notes={"skipped": []}))
    assert FeatureCache(copy).notes == header().notes
    assert FeatureCache(copy).labels.max() == 0


def test_relabelling_doesn_t_pass_damage_on(copy: Path) -> None:
    data = bytearray(copy.read_bytes())
    data[-1] ^= 1
    copy.write_bytes(data)
    with pytest.raises(CacheError, match=r"block 2 \(rows 2048 to 2499\) doesn't match its digest"):
        relabel(copy, header(labels=np.zeros(2500, int)))
    assert copy.read_bytes() == bytes(data)


def test_relabelling_what_isn_t_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CacheError, match=r"train\.h5: can't be opened: No such file"):
        relabel(tmp_path / "train.h5", header(3))
    assert not list(tmp_path.iterdir())


def test_an_unfinished_cache_goes_on_under_other_labels(tmp_path: Path) -> None:
    path, made = tmp_path / "train.h5", header(**RELABELLED["more classes"])
    extract(path, header(), stop_after=2)
    assert CacheWriter.status(path, made) == "partial"
    with CacheWriter(path, made) as writer:
        assert writer.missing == [BLOCKS[2]]
        fill(writer, made, writer.missing)
        writer.publish()
    fresh = extract(tmp_path / "fresh" / "train.h5", made)
    assert path.read_bytes() == fresh.read_bytes()


def test_a_second_writer_is_told_who_holds_the_cache(tmp_path: Path) -> None:
    path, made = tmp_path / "train.h5", header(3)
    with (
        CacheWriter(path, made) as writer,
        pytest.raises(CacheError, match=rf"in use by process {os.getpid()} on {os.uname().nodename};"),
        CacheWriter(path, made),
    ):
        writer.publish()
    assert extract(path, made) == path


def test_a_damaged_part_file_is_refused_and_kept(tmp_path: Path) -> None:
    path, made = tmp_path / "train.h5", header()
    extract(path, made, stop_after=2)
    part = path.with_name("train.h5.part")
    data = bytearray(part.read_bytes())
    data[:8] = b"not HDF5"
    part.write_bytes(data)
    for attempt in (lambda: CacheWriter.status(path, made), lambda: extract(path, made)):
        with pytest.raises(CacheError, match=r"train\.h5\.part: no usable feature cache"):
            attempt()
    assert part.read_bytes() == bytes(data)


def test_leftovers_of_a_killed_layout_are_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "train.h5.layout").write_bytes(b"half a file" * 1000)
    (tmp_path / "train.h5.part").touch()
    extract(tmp_path / "train.h5", header(3))
    assert os.listdir(tmp_path) == ["train.h5"]


def test_names_of_any_kind_and_length_are_kept(tmp_path: Path) -> None:
    paths = ["a b/ü.png", "名前/画像.png", "x" * 3000 + ".png", "new\nline", "-", "/../.."]
    made = header(6, paths=paths, classes=["", " ", "名前"])
    path = extract(tmp_path / "mit Leerzeichen ü" / "名前.h5", made)
    assert FeatureCache(path).paths == paths
    assert FeatureCache(path).classes == ("", " ", "名前")


def test_a_folder_that_can_t_be_written_to_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CacheError, match=r"train\.h5: can't be written: (Not a directory|File exists)"):
        extract(tmp_path / "file" / "train.h5", header(3))


def test_the_writer_knows_the_image_digests_of_the_blocks_that_are_there(tmp_path: Path) -> None:
    path, made = tmp_path / "train.h5", header()
    with CacheWriter(path, made) as writer:
        fill(writer, made, [BLOCKS[0], BLOCKS[2]])
    expected = image_digests(range(2500))
    expected[1024:2048] = 0
    with CacheWriter(path, made) as writer:
        assert np.array_equal(writer.image_digests, expected)
