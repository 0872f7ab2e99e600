"""Contents of the header that make no sense, under a digest that is right."""

import json
import struct
from pathlib import Path

import pytest
from support import structure
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


def scaled(scale: str = "[0.5,0.25,2]", zero_point: str = "[0,-128,127]") -> bytes:
    text = f'{{"identity":{{}},"notes":{{}},"scales":{{"scale":{scale},"zero_point":{zero_point}}}}}'
    return text.encode()


@pytest.mark.parametrize(
    ("provenance", "message"),
    [
        (scaled("[0,0.25,2]"), "expected as scale of channel 0 a number from 2.-126 to 2.119, found 0"),
        (scaled("[0.5,-1,2]"), "expected as scale of channel 1 .*, found -1"),
        (scaled("[0.5,0.25,1e-38]"), "float32 can hold"),
        (scaled("[0.5,0.25,5.877471754111438e-39]"), "scale of channel 2 .*, found 5.87747e-39"),
        (scaled("[0.5,0.25,1.329227995784916e+36]"), "scale of channel 2 .*, found 1.32923e.36"),
        (scaled("[0.5,0.25,1e400]"), "canonical JSON|nan|inf"),
        (scaled("[0.5,0.25,NaN]"), "is nan"),
        (scaled("[0.5,0.25,0.1]"), "expected numbers that float32 can hold"),
        (scaled("[0.5,0.25]"), "expected as many zero points as scales"),
        (
            scaled("[0.5,0.25]", "[0,1]"),
            r"expected float32 of shape \(2, 3\), found float32 of shape \(2, 2\)",
        ),
        (scaled("[]", "[]"), r"found float32 of shape \(2, 0\)"),
        (scaled("[0.5,0.25,true]"), "expected a list of numbers as scale"),
        (scaled("[0.5,0.25,[2]]"), "expected a list of numbers as scale"),
        (scaled("{}"), "expected a list of numbers as scale"),
        (
            scaled(zero_point="[0,-129,1]"),
            "zero point of channel 1 a whole number from -128 to 127, found -129",
        ),
        (scaled(zero_point="[0,0,128]"), "zero point of channel 2 .*, found 128"),
        (scaled(zero_point="[0,0,0.5]"), "expected a list of numbers as zero_point"),
        (scaled(zero_point='[0,0,"1"]'), "expected a list of numbers as zero_point"),
        (scaled(zero_point="[0,0," + "9" * 400 + "]"), "int too large|can hold|zero point"),
        (b'{"identity":{},"notes":{},"scales":[1,2,3]}', "expected a list of each, scale and zero_point"),
        (b'{"identity":{},"notes":{},"scales":{"scale":[1,1,1]}}', "expected a list of each"),
        (b'{"identity":{},"notes":{}}', "expected canonical JSON with identity and notes and scales"),
    ],
)
def test_scales_that_make_no_sense_are_refused(provenance: bytes, message: str, tmp_path: Path) -> None:
    """They are written as the notes are, whose length is that of the hostile text."""
    bare = {"identity": {}, "notes": {"": ""}, "map_shape": (3, 2, 2), "dtype": "int8"}
    path, spare = tmp_path / "train.h5", len(header(3, **bare).provenance) - 2
    bare["notes"] = {"pad": "x" * (3000 + len(provenance) - spare)}
    made = header(3, **bare)
    extract(path, made)
    tampered = provenance.replace(b'"notes":{}', b'"notes":{"pad":"%s"}')
    text = tampered % (b"x" * (len(made.provenance) - len(tampered) + 2))
    tamper(path, "provenance", text)
    with pytest.raises(CacheError, match=message) as caught:
        FeatureCache(path)
    assert str(caught.value).startswith(f"{path}: no usable feature cache: ")
    assert len(str(caught.value)) < 600


def test_scales_of_numbers_that_have_none_are_refused(tmp_path: Path) -> None:
    path = extract(tmp_path / "train.h5", made := header(3, identity={}, notes={"pad": "x" * 200}))
    text = b'{"identity":{},"notes":{"pad":""},"scales":{}}'
    tamper(path, "provenance", text.replace(b'""', b'"%s"' % (b"x" * (len(made.provenance) - len(text)))))
    with pytest.raises(CacheError, match="expected canonical JSON with identity and notes, found something"):
        FeatureCache(path)


@pytest.mark.parametrize(("dtype", "version"), [("int8", b"1"), ("float16", b"2")])
def test_a_version_with_the_other_s_numbers_is_refused(dtype: str, version: bytes, tmp_path: Path) -> None:
    path = extract(tmp_path / "train.h5", header(3, dtype=dtype))
    data = bytearray(path.read_bytes())
    at = data.index(b"ten-crop-cache/") + 15
    data[at : at + 1] = version
    path.write_bytes(structure.mended(bytes(data), structure.spans(path.read_bytes())))
    expected = "float16 or float32 or bfloat16" if version == b"1" else "int8"
    with pytest.raises(CacheError, match=f"'features': expected numbers of type {expected}, found another"):
        FeatureCache(path)
