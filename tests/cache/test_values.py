"""Values on their way into a cache: converted to its dtype, or refused by image and row."""

from pathlib import Path

import numpy as np
import pytest
from support.samples import BLOCKS, features, header, image_digests

from cache import CacheError, CacheWriter, FeatureCache


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
