"""A cache of another identity is neither gone on with nor relabelled, and what differs is named."""

from pathlib import Path

import pytest
from support.samples import IDENTITY, extract, header

from cache import CacheWriter, StaleCacheError, relabel

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
    extract(path, header(3), stop_after=None if published else 1)
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


def test_a_field_is_named_with_the_flag_that_the_caller_gave_for_it(tmp_path: Path) -> None:
    path = extract(tmp_path / "train.h5", header(3, notes={"share": 1, "by": "me"}))
    flags = {"dtype": "--kind", "share": "--share", "by": "--by"}
    with pytest.raises(StaleCacheError, match=r'else: dtype: "float16" → "float32" \(--kind\); delete it'):
        CacheWriter.status(path, header(3, dtype="float32", notes={"share": 2}, flags=flags))
    with pytest.raises(StaleCacheError, match=r"else: share: 1 → 2 \(--share\); paths: row 3: [^(]*$"):
        CacheWriter.status(path, header(4, notes={"share": 2}, flags=flags))


def test_a_part_without_blocks_gives_way_to_another_identity(tmp_path: Path) -> None:
    """It holds no work: a run that stopped at its first block must not stand in the way of the next."""
    path, other = tmp_path / "train.h5", header(4, views=2, dtype="float32")
    extract(path, header(), stop_after=0)
    assert CacheWriter.status(path, header()) == "partial"
    assert CacheWriter.status(path, other) == "absent"
    takes = (tmp_path / "train.h5.part").stat().st_size
    assert takes - 8192 < other.nbytes - CacheWriter.bytes_needed(path, other, "absent") <= takes + 4096
    extract(path, other)
    assert [file.name for file in tmp_path.iterdir()] == ["train.h5"]
    whole = extract(tmp_path / "elsewhere" / "train.h5", other)
    assert path.read_bytes() == whole.read_bytes()
