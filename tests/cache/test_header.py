"""What a header can't hold is refused in one line, before anything is written."""

from typing import Any

import numpy as np
import pytest
from support.samples import header, several_labels

from cache import CacheError, CacheHeader


def make(**changes: Any) -> CacheHeader:
    return header(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rows": 0}, "at least one image, found 0"),
        ({"views": 0}, "every size is at least 1"),
        ({"map_shape": (4, 0, 3)}, "every size is at least 1"),
        ({"map_shape": (4, 3)}, "expected \\(images, views, channels, rows, columns\\)"),
        ({"dtype": "int4"}, "expected one of float16, float32, bfloat16, int8, found 'int4'"),
        ({"labels": np.zeros(3)}, "expected 4 integers, found float64 of shape \\(3,\\)"),
        ({"labels": np.zeros(4)}, "expected 4 integers, found float64"),
        ({"labels": np.array([0, 1, 2, 3])}, "expected 0 to 2, found 3 in row 3"),
        ({"labels": np.array([0, -1, 2, 2])}, "expected 0 to 2, found -1 in row 1"),
        ({"labels": np.array([0, 1, 2, 2**64 - 1], np.uint64)}, "found 18446744073709551615 in row 3"),
        ({"labels": several_labels(4, 2)}, "expected .* shape \\(4, 3\\), .* found int8 of shape \\(4, 2\\)"),
        ({"labels": several_labels(4).T}, "expected .* shape \\(4, 3\\), .* found int8 of shape \\(3, 4\\)"),
        (
            {"labels": several_labels(4)[..., None]},
            "expected 4 integers, .*; multi-label .* shape \\(4, 3\\)",
        ),
        ({"labels": np.zeros((4, 3))}, "images × classes, found float64 of shape \\(4, 3\\)"),
        ({"labels": np.zeros((4, 3), bool)}, "images × classes, found bool of shape \\(4, 3\\)"),
        ({"labels": np.eye(4, 3, dtype=int) * 2}, "found 2 in row 0 for class 0, 'cat'"),
        (
            {"labels": np.eye(4, 3, -1, int) * -2},
            "-1 \\(not counted\\), found -2 in row 1 for class 0, 'cat'",
        ),
        ({"labels": np.eye(4, 3, 1, np.int16) * 257}, "found 257 in row 0 for class 1, 'dog'"),
        ({"labels": np.eye(4, 3, 2, np.uint8) * 255}, "found 255 in row 0 for class 2, 'größer'"),
        ({"paths": ["a", "b"]}, "expected 4, one for each image, found 2"),
        ({"paths": ["a", "b", "c", "a"]}, "'a' stands there twice"),
        ({"paths": ["a", "", "c", "d"]}, "path 1, '', is empty"),
        ({"paths": ["a", "b\0", "c", "d"]}, "path 1, .* holds a NUL"),
        ({"paths": ["a", "b\udcff", "c", "d"]}, "path 1, .* is not valid Unicode"),
        ({"paths": ["a", "b", "c", "d" * 65_536]}, "path 3, .* has 65536 bytes"),
        ({"classes": []}, "classes: expected at least one"),
        ({"classes": ["a", "b", "a"]}, "'a' stands there twice"),
        ({"classes": ["a", "b", "\0"]}, "class 2, .* holds a NUL"),
        ({"identity": {"a": float("nan")}}, "a is nan"),
        ({"identity": [1]}, "identity: expected a dict, found a list"),
        ({"notes": "x"}, "notes: expected a dict, found a str"),
        ({"notes": {"text": "x" * (64 << 20)}}, "at most 64 MiB"),
    ],
)
def test_wrong_fields_are_refused_by_name(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(CacheError, match=message) as caught:
        make(**{"rows": 4} | changes)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "dtype"),
    [
        (np.array([0, 1, 2, 0], np.uint8), "int64"),
        (np.array([0, 1, 2, 0]), "int64"),
        (np.eye(4, 3, dtype=np.uint64), "int8"),
        (several_labels(4), "int8"),
        (np.asfortranarray(several_labels(4)), "int8"),
    ],
)
def test_labels_are_a_copy_that_can_t_be_written_to(given: np.ndarray, dtype: str) -> None:
    before = given.tolist()
    made = header(4, labels=given)
    given[0] = 2
    assert made.labels.tolist() == before
    assert made.labels.dtype == dtype
    assert made.labels.flags.c_contiguous
    assert made.multi_label == (dtype == "int8")
    with pytest.raises(ValueError, match="read-only"):
        made.labels[0] = 1


def test_the_key_ignores_labels_classes_and_notes() -> None:
    assert header(4).key == header(4, labels=np.zeros(4, int), classes=["z"], notes={"x": 1}).key


def test_the_key_hangs_on_everything_else() -> None:
    changed = [
        header(4),
        header(5),
        header(4, views=2),
        header(4, dtype="bfloat16"),
        header(4, paths=["b", "a", "c", "d"]),
        header(4, paths=["a", "b", "c", "d"]),
        header(4, identity={"trunk": 2}),
        header(4, identity={}),
    ]
    assert len({made.key for made in changed}) == len(changed)


def test_an_identity_can_t_speak_for_shape_dtype_or_paths() -> None:
    ours = {"shape": [4, 1, 2, 2, 2], "dtype": "float32", "paths": "x"}
    assert header(4, identity=ours).key == header(4, identity={}).key


def test_labels_are_copied_unless_nothing_can_change_them() -> None:
    given = np.array([0, 1, 2, 2])
    kept = make(rows=4, labels=given)
    given[:] = 0
    assert kept.labels.tolist() == [0, 1, 2, 2]
    given.flags.writeable = False
    assert make(rows=4, labels=given).labels is given
    wider = np.array([9, 0, 0, 0, 0])
    view = wider[1:]
    view.flags.writeable = False
    kept = make(rows=4, labels=view)
    wider[:] = 1
    assert not kept.labels.any()
