"""Contents of the header that make no sense, under a digest that is right."""

import json
import struct
from pathlib import Path

import pytest
from support.samples import extract, header, several_labels

from cache import CacheError, FeatureCache
from cache.contents import opened, read_contents
from cache.digests import header_digest
from cache.format import DIGEST_BYTES, HEADER_DATASETS, HEADER_DIGESTS

pytestmark = pytest.mark.fault("hostile HDF5: false bytes with right checksums")


def tamper(path: Path, dataset: str, content: bytes) -> None:
    """Change a dataset of the header, of the same length, and make the header's digest right again."""
    with opened(path) as fd:
        layout = read_contents(fd, str(path)).layout
    data = bytearray(path.read_bytes())
    extent = layout[dataset]
    assert len(content) == extent.nbytes
    data[extent.offset : extent.end] = content
    parts = {name: bytes(data[layout[name].offset : layout[name].end]) for name in HEADER_DATASETS}
    at = layout[HEADER_DIGESTS].offset
    data[at : at + DIGEST_BYTES] = header_digest(layout, parts)
    path.write_bytes(data)


PADDED = {"pad": "x" * 40_000}
LENGTH = len(json.dumps({"identity": {}, "notes": PADDED}, separators=(",", ":")))


@pytest.mark.parametrize(
    ("dataset", "content", "message"),
    [
        ("labels", struct.pack("<3q", 0, 1, 3), "labels: expected 0 to 2, found 3 in row 2"),
        ("labels", struct.pack("<3q", 0, -1, 2), "labels: expected 0 to 2, found -1 in row 1"),
        ("paths", b"a.png\0" * 2 + b"b.png\0", "paths: 'a.png' stands there twice"),
        ("paths", b"a.png\0" + b"\0" + b"bbbb.png.p\0", "path 1, '', is empty"),
        ("paths", b"a.png\0" + b"b\0png\0" + b"c.png\0", "paths: expected 3, one for each image, found 4"),
        ("paths", b"a.png\0" + b"b.png+" + b"c.png\0", "paths: expected 3, one for each image, found 2"),
        ("paths", b"a.png\0" + b"b\0png\0" + b"c.png+", "paths: expected a zero byte behind each"),
        ("paths", b"a.png\0" + b"\xff.png\0" + b"c.png\0", "can't decode byte 0xff"),
        ("paths", b"a.png\0" + b"b.pn\xc3\0" + b"\xa4.png\0", "can't decode byte 0xc3"),
        ("paths", b"a.png\0" + b"\xed\xa0\x80ng\0" + b"c.png\0", "can't decode byte 0xed"),
        ("classes", b"a" * 3, "classes: 'a' stands there twice"),
        ("provenance", b"[" * LENGTH, "recursion"),
        ("provenance", b" " * LENGTH, "Expecting value"),
        ("provenance", b"9" * LENGTH, "Exceeds the limit"),
        ("provenance", b"\xff" * LENGTH, "codec can't decode|can't decode byte"),
        ("provenance", b'{"identity":{},"notes":{}}'.ljust(LENGTH), "expected canonical JSON"),
        ("provenance", b'{"a":{},"notes":{}}'.ljust(LENGTH), "expected canonical JSON"),
        ("provenance", b'{"identity":{},"notes":{"a":NaN}}'.ljust(LENGTH), "a is nan"),
        (
            "provenance",
            (b'{"identity":[],"notes":"' + b"x" * LENGTH)[: LENGTH - 2] + b'"}',
            "expected a dict",
        ),
    ],
)
def test_a_header_that_makes_no_sense_is_refused(
    dataset: str, content: bytes, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "train.h5"
    made = header(3, paths=["1.png", "2.png", "3.png"], classes=["a", "b", "c"], identity={}, notes=PADDED)
    extract(path, made)
    tamper(path, dataset, content)
    with pytest.raises(CacheError, match=message) as caught:
        FeatureCache(path)
    assert str(caught.value).startswith(f"{path}: no usable feature cache: ")
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("value", [2, -2, 127, -128])
def test_a_multi_label_that_is_none_is_refused(value: int, tmp_path: Path) -> None:
    labels = several_labels(3)
    path = extract(tmp_path / "train.h5", header(3, labels=labels))
    labels[2, 1] = value
    tamper(path, "labels", labels.tobytes())
    with pytest.raises(CacheError, match=rf"or -1 .*, found {value} in row 2 for class 1, 'dog'; delete it"):
        FeatureCache(path)
