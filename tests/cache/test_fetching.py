"""A published cache comes whole from a store, or not at all; what was cut off goes on."""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from support.samples import extract, flip, header
from support.sharded import extract_shards
from support.stores import in_memory, unavailable, web

from cache import FeatureCache, origins, retrying
from cache.__main__ import main
from cache.errors import UserError
from cache.fetching import fetch_split
from cache.staging import stage

pytest.importorskip("aiohttp", reason="the extra 'remote' is not installed")
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a small file comes in many pieces."""
    monkeypatch.setattr(origins, "PIECE_BYTES", 4096)
    monkeypatch.setattr(retrying, "FIRST_WAIT", 0.01)


@pytest.fixture(params=["one file", "three files"])
def published(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A folder with a training split, and the test split in one file."""
    folder = tmp_path / "published"
    folder.mkdir()
    extract(folder / "test.h5", header(100))
    if request.param == "one file":
        extract(folder / "train.h5", header())
    else:
        extract_shards(folder / "train.json", header(), 3)
    return folder


def split_in(folder: Path) -> Path:
    return next(folder.glob("train.json"), folder / "train.h5")


def assert_equal(found: Path, expected: Path) -> None:
    """All files of the training split, byte for byte, and nothing unfinished."""
    names = {path.name for path in expected.iterdir() if path.name.startswith("train")}
    assert {path.name for path in found.iterdir() if path.name.startswith("train")} == names
    for name in names:
        assert (found / name).read_bytes() == (expected / name).read_bytes()
    np.testing.assert_array_equal(
        FeatureCache(split_in(found)).take(range(2500)), FeatureCache(split_in(expected)).take(range(2500))
    )


@pytest.mark.parametrize("kind", ["http", "memory", "path", "whole files only"])
def test_one_command_fetches_and_checks_both_splits(
    tmp_path: Path, published: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with web(published, unavailable(2), ranges=kind == "http") as served:
        urls = {"memory": in_memory(published, f"{tmp_path.name}-{kind}"), "path": str(published)}
        assert main(["fetch", urls.get(kind, served.url), "--to", str(tmp_path / "here")]) == 0
        assert_equal(tmp_path / "here", published)
        assert (tmp_path / "here/test.h5").read_bytes() == (published / "test.h5").read_bytes()
        first, second = capsys.readouterr().out.splitlines()
        fingerprint = FeatureCache(split_in(published)).fingerprint
        assert first.startswith(f"{split_in(tmp_path / 'here')}: fetched and good (0.")
        assert first.endswith(f" MB, fingerprint {fingerprint})")
        assert second.startswith(f"{tmp_path}/here/test.h5: fetched and good")
        assert main(["info", str(split_in(published))]) == 0
        assert f"  fingerprint: {fingerprint}\n" in capsys.readouterr().out


def test_what_is_there_is_not_fetched_again(
    tmp_path: Path, published: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with web(published) as served:
        words = ["fetch", served.url, "--to", str(tmp_path / "here")]
        assert main(words) == 0
        sent = served.sent
        capsys.readouterr()
        assert main(words) == 0
        assert capsys.readouterr().out.count(": there already (") == 2
        assert served.sent - sent < 0.2 * sent
    assert_equal(tmp_path / "here", published)


def test_only_new_shards_of_a_grown_split_are_copied(tmp_path: Path) -> None:
    folder = tmp_path / "published"
    folder.mkdir()
    extract_shards(folder / "train.json", header(), 3)
    place = f"{folder}/train.json"
    fetch_split(place, tmp_path / "here")
    kept = {path: path.stat() for path in (tmp_path / "here").glob("*.h5")}
    (tmp_path / "here/train-00001-of-00003.h5").unlink()
    assert fetch_split(place, tmp_path / "here").is_new
    for path, before in kept.items():
        same = path.stat().st_mtime_ns == before.st_mtime_ns and path.stat().st_ino == before.st_ino
        assert same == ("00001" not in path.name)
    assert_equal(tmp_path / "here", folder)


def test_a_torn_download_goes_on_where_it_stopped(
    tmp_path: Path, published: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process is killed in the middle; the second one asks for little more than what is missing."""
    code = (
        "import sys\nfrom cache import origins\norigins.PIECE_BYTES = 2048; origins.PIECES = 1\n"
        "from cache.__main__ import main\nsys.exit(main(sys.argv[1:]))"
    )
    size = sum(path.stat().st_size for path in published.glob("train*"))
    with web(published, seconds=0.02) as served:
        place = f"{served.url}/{split_in(published).name}"
        words = [sys.executable, "-c", code, "fetch", place, "--to", str(tmp_path / "here")]
        process = subprocess.Popen(words, cwd=ROOT, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while served.sent < 0.6 * size and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not split_in(tmp_path / "here").exists() or not (tmp_path / "here/train.json").exists()
        assert list((tmp_path / "here").glob("*.fetch"))
        served.sent, served.seconds = 0, 0
        assert main(words[3:]) == 0
        assert 0 < served.sent < 0.6 * size
    assert_equal(tmp_path / "here", published)


def test_a_wrong_digest_is_refused_and_nothing_left(
    tmp_path: Path, published: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place, here = str(split_in(published)), tmp_path / "here"
    sha256 = hashlib.sha256(split_in(published).read_bytes()).hexdigest()
    right = FeatureCache(split_in(published)).fingerprint
    for wrong in ("0" * 32, "0" * 64):
        assert main(["fetch", place, "--to", str(here), "--digest", wrong]) == 2
        said = capsys.readouterr().err
        found = right if len(wrong) == 32 else sha256
        assert f"{place}: expected the digest {wrong}, found {found}; it was not taken\n" in said
        assert [path.name for path in here.glob("train*")] == []
    assert main(["fetch", place, "--to", str(here), "--digest", sha256]) == 0
    assert main(["fetch", place, "--to", str(here), "--digest", right]) == 0
    assert main(["fetch", place, "--to", str(here), "--digest", "0" * 32]) == 2
    assert_equal(here, published)
    with pytest.raises(SystemExit, match="2"):
        main(["fetch", place, "--digest", "abc"])


@pytest.mark.parametrize("end", ["header", "payload"])
def test_a_damaged_file_never_gets_its_name(
    tmp_path: Path, published: Path, end: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = max(published.glob("train*.h5"))
    flip(file, 8 * (file.stat().st_size - 5 if end == "payload" else 3000))
    with web(published) as served:
        assert (
            main(["fetch", f"{served.url}/{split_in(published).name}", "--to", str(tmp_path / "here")]) == 2
        )
    said = capsys.readouterr().err
    assert f"{served.url}/{file.name}: what came doesn't match its own digests (" in said
    assert not (tmp_path / "here" / file.name).exists()
    assert not split_in(tmp_path / "here").exists()


def test_a_copy_that_went_on_with_another_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    extract(tmp_path / "train.h5", header())
    other = extract(tmp_path / "other.h5", header(dtype="float32")).read_bytes()
    (tmp_path / "here/train.h5.fetch").write_bytes(other[:20_000])
    place = str(tmp_path / "train.h5")
    with pytest.raises(UserError, match="run the same command again"):
        fetch_split(place, tmp_path / "here")
    fetch_split(place, tmp_path / "here")
    assert (tmp_path / "here/train.h5").read_bytes() == (tmp_path / "train.h5").read_bytes()


def test_a_shard_that_is_not_the_manifests_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "published"
    folder.mkdir()
    extract_shards(folder / "train.json", header(), 3)
    shutil.copy(folder / "train-00001-of-00003.h5", folder / "train-00000-of-00003.h5")
    with pytest.raises(UserError, match=r"train-00000-of-00003\.h5: another file than .*train\.json lists"):
        fetch_split(f"{folder}/train.json", tmp_path / "here")
    (folder / "train.json").write_text("{}")
    with pytest.raises(
        UserError, match=r"published/train\.json: no usable manifest: .*; ask who published it"
    ):
        fetch_split(f"{folder}/train.json", tmp_path / "here")
    assert not (tmp_path / "here/train.json").exists()


def test_another_cache_in_the_way_stays(
    tmp_path: Path, published: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "here").mkdir()
    here = extract(tmp_path / "here/train.h5", header(40))
    before = here.read_bytes()
    assert main(["fetch", str(published), "--to", str(tmp_path / "here")]) == 2
    assert "train.h5: another cache than" in capsys.readouterr().err
    assert here.read_bytes() == before
    assert [path.name for path in (tmp_path / "here").glob("train*")] == ["train.h5"]


@pytest.mark.parametrize(
    ("origin", "problem"),
    [
        (
            "nothing",
            "expected a cache with train.h5 or train.json or test.h5 or test.json, found none of them",
        ),
        ("nothing/train.h5", "train.h5: can't be read: "),
        ("HOST/nothing", "expected a cache with train.h5"),
        ("HOST/train.h5", "train.h5: can't be read: no such file, folder or bucket"),
    ],
)
def test_a_mistake_is_one_line(
    tmp_path: Path, origin: str, problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with web(tmp_path) as served:
        place = origin.replace("HOST", served.url) if "HOST" in origin else str(tmp_path / origin)
        assert main(["fetch", place, "--to", str(tmp_path / "here")]) == 2
    said = capsys.readouterr().err
    assert problem in said
    assert said.count("\n") == 1


def test_a_stage_is_copied_once_for_all_processes(tmp_path: Path, published: Path) -> None:
    with web(published, seconds=0.01) as served:
        folders = list[Path]()
        threads = [
            threading.Thread(target=lambda: folders.append(stage(served.url, tmp_path / "fast", ["train"])))
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        size = sum(path.stat().st_size for path in published.glob("train*"))
        assert served.sent < 1.5 * size
    assert len(set(folders)) == 1
    assert_equal(folders[0], published)
    assert folders[0].parent == tmp_path / "fast"
    assert not (folders[0] / "test.h5").exists()


def test_a_stage_follows_its_origin(tmp_path: Path) -> None:
    origin = tmp_path / "slow"
    origin.mkdir()
    extract(origin / "train.h5", header())
    folder = stage(str(origin), tmp_path / "fast", ["train"], optional=["test"])
    assert (folder / "train.h5").read_bytes() == (origin / "train.h5").read_bytes()
    (origin / "train.h5").unlink()
    extract_shards(origin / "train.json", header(3000), 2)
    assert stage(str(origin), tmp_path / "fast", ["train"]) == folder
    assert sorted(path.name for path in folder.glob("train*")) == sorted(
        p.name for p in origin.glob("train*")
    )
    for path in origin.glob("train*"):
        os.unlink(path)
    extract(origin / "train.h5", header(40))
    stage(str(origin), tmp_path / "fast", ["train"])
    assert len(FeatureCache(folder / "train.h5")) == 40
    assert not (folder / "train.json").exists()
    with pytest.raises(UserError, match=r"expected a cache with test\.h5 or test\.json, found 0 of 1"):
        stage(str(origin), tmp_path / "fast", ["test"])


def test_a_full_disk_is_said_before_anything_is_copied(
    tmp_path: Path, published: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 9, 1))  # type: ignore[attr-defined]
    with pytest.raises(UserError, match=r"needs 0 MB, the disk has 0 MB free; make room or name another"):
        fetch_split(str(split_in(published)), tmp_path / "here")
    assert list((tmp_path / "here").glob("*.h5*")) == []
