"""Manifests made to do harm, or damaged: refused by name, before a payload byte of any file is read."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import xxhash
from support.samples import extract, header
from support.sharded import extract_shards

from cache import CacheError, FeatureCache, write_manifest
from cache.identity import canonical
from cache.manifest import digest_of, key_of
from cache.paths import Paths

pytestmark = pytest.mark.fault("hostile manifest")

Fields = dict[str, Any]
FIRST, SECOND = "train-00000-of-00003.h5", "train-00001-of-00003.h5"


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """2,500 rows in three files. Not to be changed."""
    folder = tmp_path_factory.mktemp("good")
    extract_shards(folder / "train.json", header(), 3)
    return folder


def rewrite(folder: Path, change: Callable[[Fields], object]) -> None:
    """Change a manifest, and make its digest that of the new fields, as somebody who means harm does."""
    path = folder / "train.json"
    fields = json.loads(path.read_bytes())
    change(fields)
    if "digest" in fields:
        fields["digest"] = digest_of(fields)
    path.write_bytes(canonical(fields))


def shard(number: int = 1, **values: Any) -> Callable[[Fields], object]:
    return lambda fields: fields["shards"][number].update(values)


def field(**values: Any) -> Callable[[Fields], object]:
    return lambda fields: fields.update(values)


def swap(fields: Fields) -> None:
    """The files of the first two shards take each other's place; they have as many rows."""
    one, two = fields["shards"][:2]
    one["file"], two["file"] = two["file"], one["file"]


def reshaped(*shape: int) -> Callable[[Fields], object]:
    """Another shape, and all that follows from it."""

    def change(fields: Fields) -> None:
        fields["shards"][-1]["rows"][1] = shape[0]
        fields["key"] = key_of(shape, fields["dtype"], fields["paths"], fields["identity"], None)
        fields["shape"] = list(shape)

    return change


def without(number: int) -> Callable[[Fields], object]:
    return lambda fields: fields["shards"].pop(number)


ARRAY = {"bytes": 20_000, "digest": "0" * 32}
INDEX = {"file": "train.index-0", "rows": ARRAY, "labels": ARRAY, "paths": ARRAY}
NAME = "a plain name of a file in the manifest's folder"
MANIFESTS: dict[str, tuple[Callable[[Fields], object], str]] = {
    # where it leads
    "a path upwards": (shard(file="../train.h5"), f"shard 1: expected {NAME}, found '../train.h5'"),
    "an absolute path": (shard(file="/etc/passwd"), f"shard 1: expected {NAME}, found '/etc/passwd'"),
    "a path down": (shard(file="sub/a.h5"), f"shard 1: expected {NAME}"),
    "a path of Windows": (shard(file="C:\\a.h5"), f"shard 1: expected {NAME}"),
    "a URL": (shard(file="s3://bucket/a.h5"), f"shard 1: expected {NAME}"),
    "the folder itself": (shard(file="."), f"shard 1: expected {NAME}"),
    "the folder above": (shard(file=".."), f"shard 1: expected {NAME}"),
    "no name": (shard(file=""), f"shard 1: expected {NAME}"),
    "a name with a NUL": (shard(file="a\0.h5"), f"shard 1: expected {NAME}"),
    "a name with a line feed": (shard(file="a\nb.h5"), f"shard 1: expected {NAME}"),
    "a name written backwards": (shard(file="a\u202eb.h5"), f"shard 1: expected {NAME}"),
    "half a character": (shard(file="\ud800.h5"), f"shard 1: expected {NAME}"),
    "a very long name": (shard(file="a" * 300 + ".h5"), f"shard 1: expected {NAME}"),
    "a number for a name": (shard(file=7), "shard 1: expected the name of a file, found int"),
    "another kind of file": (shard(file="notes.txt"), "shard notes.txt: expected a name that ends in .h5"),
    "an index elsewhere": (field(index={**INDEX, "file": "../x"}), f"index: expected {NAME}"),
    # which rows
    "a gap": (shard(rows=[1025, 2048]), f"shard {SECOND}: expected rows from 1,024 on, found .* a gap"),
    "an overlap": (
        shard(rows=[1023, 2048]),
        f"shard {SECOND}: expected rows from 1,024 on, .* an overlap",
    ),
    "a beginning that isn't 0": (shard(0, rows=[1, 1024]), f"shard {FIRST}: expected rows from 0 on"),
    "an empty shard": (shard(rows=[1024, 1024]), f"shard {SECOND}: expected rows from FIRST up to BEHIND"),
    "rows backwards": (shard(rows=[2048, 1024]), f"shard {SECOND}: expected rows from FIRST up to BEHIND"),
    "negative rows": (shard(0, rows=[-1, 1024]), f"shard {FIRST}: rows: expected an integer of at least 0"),
    "rows beyond all numbers": (shard(2, rows=[2048, 1 << 70]), "rows: expected an integer of at least 0"),
    "three numbers of rows": (shard(rows=[1024, 2048, 1]), f"shard {SECOND}: expected rows from FIRST"),
    "rows that are a number": (shard(rows=5), f"shard {SECOND}: rows: expected an array, found int"),
    "half a row": (shard(0, rows=[0, 1024.5]), f"shard {FIRST}: rows: expected an integer"),
    "more rows than its bytes can hold": (
        reshaped(1 << 40, 1, 2, 2, 2),
        "shard train-00002-of-00003.h5: expected 17,592,186,011,648 bytes or more, which its rows take",
    ),
    "maps beyond all numbers": (reshaped(2500, 1, 1 << 61, 1 << 61, 4), f"shard {FIRST}: expected .* bytes"),
    "true for a row": (shard(0, rows=[0, True]), f"shard {FIRST}: rows: expected an integer"),
    "the last shard left out": (without(2), r"shards: expected 2,500 rows in all, found 2,048"),
    "a shard in the middle left out": (
        without(1),
        "expected rows from 1,024 on, found rows from 2,048 on: a gap",
    ),
    "a shard twice": (lambda f: f["shards"].append(f["shards"][2]), "expected each file once, found it"),
    "no shards": (field(shards=[]), "shards: expected 1 to 65,536, found 0"),
    "too many shards": (lambda f: f["shards"].extend([f["shards"][0]] * 65_536), "expected 1 to 65,536"),
    "shards that are no array": (field(shards={}), "shards: expected an array, found dict"),
    "a shard that is a text": (field(shards=["a.h5"]), "shard 0: expected an object, found str"),
    # which files
    "swapped shards": (swap, r"train-0000[01]-of-00003\.h5: no shard of this cache"),
    "another size": (shard(bytes=70_000), rf"{SECOND}: no shard of this cache: expected 70,000 bytes"),
    "another header": (shard(header="00" * 48), f"{SECOND}: no shard of this cache: it isn't the file"),
    "a header beyond the end": (shard(header_at=1 << 40), f"{SECOND}: no shard of this cache"),
    "a header at a negative place": (shard(header_at=-1), "header_at: expected an integer of at least 0"),
    "another fingerprint": (shard(fingerprint="00" * 16), f"{SECOND}: no shard of this cache: it isn't the"),
    "another key of a shard": (shard(key="00" * 32), f"{SECOND}: no shard of this cache: it isn't the file"),
    "a key that is none": (shard(key="g" * 64), f"shard {SECOND}: key: expected 64 hexadecimal digits"),
    "a missing field of a shard": (
        lambda f: f["shards"][1].pop("bytes"),
        "shard 1: expected the fields",
    ),
    "an unknown field of a shard": (shard(url="http://x"), "shard 1: expected the fields .*found 'url'"),
    # what it says of the whole
    "another version": (field(format="ten-crop-manifest/9"), "format: expected 'ten-crop-manifest/1', found"),
    "a missing field": (lambda f: f.pop("images"), "the manifest: expected the fields .*found 'images'"),
    "an unknown field": (field(comment="hi"), "the manifest: expected the fields .*found 'comment'"),
    "another key": (field(key="0" * 64), "key: expected that of its identity, shape, dtype"),
    "another identity": (field(identity={"trunk": "mine"}), "key: expected that of its identity"),
    "another shape": (field(shape=[2500, 1, 2, 2, 3]), "key: expected that of its identity"),
    "a shape of four sizes": (field(shape=[2500, 2, 2, 2]), "shape: expected five sizes"),
    "a shape with a zero": (field(shape=[2500, 1, 0, 2, 2]), "shape: expected an integer of at least 1"),
    "another dtype": (field(dtype="float8"), "dtype: expected one of float16"),
    "a dtype that is a list": (field(dtype=[]), r"dtype: expected one of float16, .*, found \[\]"),
    "a kind of labels that is an object": (field(labels={}), "labels: expected 'int64' or 'int8', found {}"),
    "no classes": (field(classes=[]), "classes: expected at least one"),
    "a class twice": (field(classes=["cat", "cat"]), "classes: 'cat' stands there twice"),
    "a number for a class": (field(classes=["cat", 7]), "classes: expected names"),
    "a class with a NUL": (field(classes=["c\0t"]), "classes: class 0, .* holds a NUL character"),
    "half a character as a class": (field(classes=["\ud800"]), "classes: class 0, .* is not valid Unicode"),
    "fewer classes": (field(classes=["cat", "dog"]), r"\.h5: no shard of this cache: it has other classes"),
    "another kind of labels": (field(labels="int8"), r"\.h5: no shard of this cache: it has other classes"),
    "labels of no kind": (field(labels="text"), "labels: expected 'int64' or 'int8'"),
    "other images": (field(images="0" * 64), r"train\.json: damaged: its images digest isn't that"),
    "varying fields twice": (field(varying=["a", "a"]), "varying: expected names in ascending order"),
    "an identity that is a list": (field(identity=[]), "identity: expected an object"),
    # the row index
    "an index that isn't there": (field(index=INDEX), r"train\.index-0: .* expected a file, found none"),
    "an index of another size": (
        field(index={**INDEX, "rows": {**ARRAY, "bytes": 8}}),
        "index: rows: expected 20,000 bytes, found 8",
    ),
    "an index of rows alone": (
        field(index={**INDEX, "labels": None, "paths": None}),
        "index: expected labels and paths beside rows",
    ),
}


@pytest.mark.parametrize("name", MANIFESTS)
def test_manifests_made_to_do_harm_are_refused_by_name(
    good: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    change, problem = MANIFESTS[name]
    shutil.copytree(good, tmp_path, dirs_exist_ok=True)
    rewrite(tmp_path, change)
    monkeypatch.setattr("cache.many_files.check_blocks", payload_read)
    monkeypatch.setattr("cache.shard_maps.AddressRange", payload_read)
    with pytest.raises(CacheError, match=problem) as refused:
        FeatureCache(tmp_path / "train.json").verify()
    assert str(tmp_path) in str(refused.value)
    assert "\n" not in str(refused.value)


def payload_read(*_: object) -> None:
    raise AssertionError("payload was read")


def nested(path: Path) -> None:
    path.write_bytes(b'{"format":' + b"[" * 100_000)


def twice(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b'"dtype":', b'"dtype":"float32","dtype":', 1))


def edited(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b'"cat"', b'"rat"'))


FILES: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty": (lambda path: path.write_bytes(b""), "Expecting value"),
    "no JSON": (lambda path: path.write_bytes(b"hello"), "Expecting value"),
    "no text": (lambda path: path.write_bytes(b"\xff\xfe\x00"), "can't decode|utf"),
    "a list": (lambda path: path.write_bytes(b"[]"), "expected JSON of format 'ten-crop-manifest/1'"),
    "other JSON": (lambda path: path.write_bytes(b'{"a":1}'), "expected JSON of format"),
    "cut off": (lambda path: os.truncate(path, path.stat().st_size // 2), "Expecting|Unterminated|delimiter"),
    "nested without end": (nested, "recursion"),
    "a field twice": (twice, "expected canonical JSON"),
    "white space": (lambda path: path.write_bytes(path.read_bytes() + b" "), "expected canonical JSON"),
    "edited by hand": (edited, "digest: expected that of the other fields"),
    "of too many values": (
        lambda path: path.write_bytes(b"[" * (8 << 20) + b"["),
        "expected at most 8,388,608",
    ),
    "too large": (lambda path: os.truncate(path, (256 << 20) + 1), "expected at most 268,435,456 bytes"),
}


@pytest.mark.parametrize("name", FILES)
def test_files_that_are_no_manifest_are_refused_by_name(good: Path, tmp_path: Path, name: str) -> None:
    spoil, problem = FILES[name]
    shutil.copytree(good, tmp_path, dirs_exist_ok=True)
    spoil(tmp_path / "train.json")
    with pytest.raises(CacheError, match=rf"train\.json: no usable manifest: .*({problem})"):
        FeatureCache(tmp_path / "train.json")


def linked(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def in_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def piped(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def another(path: Path) -> None:
    path.unlink()
    extract(path, header(1024, identity={"trunk": "another"}))


def relabelled(path: Path) -> None:
    path.unlink()
    extract(path, header(1024, labels=[1] * 1024))


SPOILT: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (Path.unlink, "a shard of the cache, but missing; put it back"),
    "cut off": (lambda path: os.truncate(path, 9000), "expected [0-9,]+ bytes, found 9,000"),
    "longer": (lambda path: os.truncate(path, 1 << 20), "expected [0-9,]+ bytes, found 1,048,576"),
    "a link": (linked, "a link; expected the file itself"),
    "a folder": (in_a_folder, "it is a folder or a device"),
    "a pipe": (piped, "it is a folder or a device"),
    "of another cache": (another, "no shard of this cache"),
    "of other labels": (relabelled, "no shard of this cache: it isn't the file"),
}


@pytest.mark.parametrize("name", SPOILT)
def test_shards_that_aren_t_the_manifest_s_are_refused_on_opening(
    good: Path, tmp_path: Path, name: str
) -> None:
    spoil, problem = SPOILT[name]
    shutil.copytree(good, tmp_path, dirs_exist_ok=True)
    spoil(tmp_path / SECOND)
    with pytest.raises(CacheError, match=rf"{SECOND}: .*{problem}"):
        FeatureCache(tmp_path / "train.json")


def test_an_index_with_a_path_twice_is_refused_by_name(good: Path, tmp_path: Path) -> None:
    shutil.copytree(good, tmp_path, dirs_exist_ok=True)
    renamed = header(paths=[f"{row:04}" for row in range(2500)])
    path = write_manifest(tmp_path / "train.json", renamed, sorted(tmp_path.glob("*.h5")))
    (index,) = tmp_path.glob("train.index-*")
    index.write_bytes(data := index.read_bytes().replace(b"0001\0", b"0000\0"))

    def with_its_digests(fields: Fields) -> None:
        fields["index"]["paths"]["digest"] = xxhash.xxh3_128_hexdigest(data)
        fields["paths"] = Paths.stored(data).sha256
        fields["key"] = key_of(fields["shape"], fields["dtype"], fields["paths"], fields["identity"], None)

    rewrite(tmp_path, with_its_digests)
    with pytest.raises(CacheError, match=rf"{index.name}: .* paths: '0000' stands there twice"):
        _ = FeatureCache(path).paths


def test_the_unchanged_manifest_is_accepted(good: Path, tmp_path: Path) -> None:
    """So that the refusals above are about the change."""
    shutil.copytree(good, tmp_path, dirs_exist_ok=True)
    rewrite(tmp_path, lambda fields: None)
    FeatureCache(tmp_path / "train.json").verify()
    assert len(MANIFESTS) + len(FILES) + len(SPOILT) > 50
