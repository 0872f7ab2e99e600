"""Datasets at a URL are the ones that the same files are on a disk, or refused in one line."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from support.folders import fill
from support.published import coco, voc
from support.stores import Fault, Handler, in_memory, unavailable, web

from cache import retrying
from cache.remote import entries, info, read
from pipeline.datasets.base import ImageSplit, open_dataset
from pipeline.datasets.unlabelled import photos
from pipeline.errors import UserError

ROOT = Path(__file__).parents[2]
ODD = ["a b", "ü#1", "100%25?"]
STORES = ["memory", "http", "file"]

pytest.importorskip("fsspec", reason="the extra 'remote' is not installed")


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, Path], str]]:
    """The URL of a folder in a store of a kind."""
    monkeypatch.setattr(retrying, "FIRST_WAIT", 0.01)
    with ExitStack() as servers:

        def url(kind: str, folder: Path) -> str:
            if kind == "http":
                pytest.importorskip("aiohttp", reason="the extra 'remote' is not installed")
                return servers.enter_context(web(folder)).url
            return in_memory(folder, folder.name) if kind == "memory" else f"file://{folder}"

        yield url


def assert_equal(far: dict[str, ImageSplit], near: dict[str, ImageSplit]) -> None:
    """The same images, labels and bytes, known without reading them."""
    for name in ("train", "test"):
        found, expected = far[name], near[name]
        assert list(found.paths) == list(expected.paths)
        assert found.classes == expected.classes
        assert found.val_rows == expected.val_rows
        np.testing.assert_array_equal(found.labels, expected.labels)
        np.testing.assert_array_equal(found.sizes, expected.sizes)
        for row in range(len(expected)):
            assert found.images.digest(row) == expected.images.digest(row)
            np.testing.assert_array_equal(found.images.read(row).pixels, expected.images.read(row).pixels)
        statuses = found.images.statuses()
        assert statuses is not None
        assert statuses[:, 0].tolist() == expected.sizes.tolist()


@pytest.mark.parametrize("kind", STORES)
def test_a_folder_of_any_names_is_the_same(tmp_path: Path, kind: str, at: Callable[[str, Path], str]) -> None:
    for name in ("train", "test", "val"):
        fill(tmp_path / "photos" / name, ODD)
        (tmp_path / "photos" / name / ODD[0] / "notes.txt").write_text("no image")
    fill(tmp_path / "photos/train", [f"{ODD[0]}/deeper", ".hidden", "@eaDir"])
    near = open_dataset(f"folder:{tmp_path}/photos")
    far = open_dataset(f"folder:{at(kind, tmp_path / 'photos')}")
    assert_equal(far, near)
    assert sorted(far["train"].ignored) == sorted(near["train"].ignored) != []


@pytest.mark.parametrize("kind", STORES)
def test_a_drawn_test_split_is_the_same(tmp_path: Path, kind: str, at: Callable[[str, Path], str]) -> None:
    fill(tmp_path / "p", ["a", "b"], 10)
    assert_equal(open_dataset(f"folder:{at(kind, tmp_path / 'p')}"), open_dataset(f"folder:{tmp_path}/p"))


@pytest.mark.parametrize("kind", STORES)
def test_a_table_names_images_beside_it(tmp_path: Path, kind: str, at: Callable[[str, Path], str]) -> None:
    fill(tmp_path / "t", ODD, 2)
    lines = [f'"{name}/{i:02}.png",x|{name[0]},{s}' for name in ODD for i, s in enumerate(("train", "test"))]
    (tmp_path / "t/labels.csv").write_text("image,labels,split\n" + "\n".join(lines), encoding="utf-8")
    url = at(kind, tmp_path / "t")
    assert_equal(open_dataset(f"csv:{url}/labels.csv"), open_dataset(f"csv:{tmp_path}/t/labels.csv"))
    with (tmp_path / "t/labels.csv").open("a") as table:
        table.write("\nmissing.png,x,train")
    if kind != "memory":  # which has a copy
        with pytest.raises(UserError, match=r"line 8: the image .*/missing\.png can't be read: no such file"):
            open_dataset(f"csv:{url}/labels.csv")


@pytest.mark.parametrize("kind", STORES)
def test_coco_and_voc_are_the_same(tmp_path: Path, kind: str, at: Callable[[str, Path], str]) -> None:
    box = {"image_id": 100, "category_id": 7, "bbox": [3, 2, 10, 10]}
    coco(tmp_path / "c", "train2014", ["b.jpg", "a.jpg"], [box])
    coco(tmp_path / "c", "val2014", ["v.jpg"], [box])
    voc(tmp_path / "v", {"trainval": {"000005": [("dog", (3, 4, 10, 20), False)]}, "test": {"000001": []}})
    for name, folder in (("coco", "c"), ("voc2007", "v")):
        near, far = (
            open_dataset(f"{name}:{path}") for path in (tmp_path / folder, at(kind, tmp_path / folder))
        )
        assert_equal(far, near)
        for split in ("train", "test"):
            assert [b.tolist() for b in far[split].boxes or ()] == [
                b.tolist() for b in near[split].boxes or ()
            ]


def test_pages_of_other_servers_are_read_for_files_alone(tmp_path: Path) -> None:
    """Apache's index has links that sort it, and one to the folder above; addresses have percent signs."""
    pytest.importorskip("aiohttp", reason="the extra 'remote' is not installed")
    fill(tmp_path / "my photos", ODD)
    links = ["?C=N;O=D", "?C=M;O=A", "/", "../", "a%20b/", "/my%20photos/%C3%BC%231/", "100%2525%3F/"]
    links += ["https://elsewhere/x/", "#top"]
    page = "".join(f'<a href="{link}">x</a>' for link in links)

    def apache(handler: Handler, path: str, asked: int) -> bool:
        if path.rstrip("/") != "my photos":
            return False
        handler.send_response(200)
        handler.send_header("Content-Type", "text/html")
        handler.send_header("Content-Length", str(len(page)))
        handler.end_headers()
        handler.wfile.write(page.encode())
        return True

    with web(tmp_path, apache) as served:
        far = open_dataset(f"folder:{served.url}/my%20photos")
        assert_equal(far, open_dataset(f"folder:{tmp_path}/my photos"))
        assert far["train"].ignored == ()
        assert sorted(entry.url.rpartition("/")[2] for entry in entries(f"{served.url}/my photos")) == sorted(
            ODD
        )


def test_photos_to_predict_on_are_found_below_a_url(tmp_path: Path, at: Callable[[str, Path], str]) -> None:
    url = at("http", fill(tmp_path / "p", ["a", "b/c"], 2))
    found = photos([url, f"{url}/a/01.png"])
    assert list(found.paths) == [f"{url}/{p}" for p in ("a/00.png", "a/01.png", "b/c/00.png", "b/c/01.png")]
    assert found.images.digest(3) == photos([f"{tmp_path}/p"]).images.digest(3)
    for specs, problem in (([url, str(tmp_path)], "found both"), ([f"{url}/*.png"], "found a pattern")):
        with pytest.raises(UserError, match=problem):
            photos(specs)


def test_sizes_are_asked_for_side_by_side_and_once(tmp_path: Path) -> None:
    pytest.importorskip("aiohttp", reason="the extra 'remote' is not installed")
    fill(tmp_path / "p", ["a", "b"], 60)
    lines = [f"{name}/{i:02}.png,{name}" for name in "ab" for i in range(60)]
    (tmp_path / "p/labels.csv").write_text("image,label\n" + "\n".join(lines))
    for dataset in ("folder:{}", "csv:{}/labels.csv"):
        with web(tmp_path / "p", seconds=0.05) as served:
            splits = open_dataset(dataset.format(served.url))
            splits["train"].images.statuses()
            assert max(count for path, count in served.asked.items() if path.endswith(".png")) == 1
            assert served.most["HEAD"] > 4  # of 64 that are allowed; a busy machine starts them slowly


@pytest.mark.parametrize(
    ("dataset", "problem"),
    [
        ("folder:http://HOST/nothing", "can't be listed: no such file"),
        ("folder:http://HOST/empty", "the server lists no files there; check the URL, or name the images in"),
        ("csv:http://HOST/nothing.csv", "nothing.csv: can't be read: no such file, folder or bucket"),
        ("csv:http://HOST/forbidden.csv", "the store refuses it (403, .*check the credentials"),
        ("csv:http://HOST/broken.csv", "after 6 tries: 500, .*check URL and network, then run the same"),
        (
            "csv:http://me:secret@HOST/labels.csv",
            r"http://\*{9}@.*expected no name and password",
        ),
        ("csv:s3://key:secret@bucket/labels.csv", "expected no name and password"),
        ("csv:http://HOST/labels.csv?token=1", "expected the place of a file or folder alone"),
        ("folder:zip://photos::memory://x.zip", "expected the place of a file or folder alone"),
        ("folder:nowhere://bucket", "expected a protocol such as s3, gs, hf, https"),
        ("folder:memory://nothing/here", "can't be read: no such file, folder or bucket"),
        ("coco:memory://nothing/here", "coco: expected memory://nothing/here/annotations"),
        ("voc2007:memory://nothing", "trainval.txt: can't be read: no such file, folder or bucket; give the"),
        ("hf:memory://set.parquet", "expected a name on the hub, a folder or files, found a URL"),
        ("hf://datasets/someone/photos", "folder:hf://datasets/someone/photos or csv:hf://datasets"),
        ("csv:http://127.0.0.1:9/labels.csv", "after 6 tries: .*check URL and network"),
    ],
)
def test_a_mistake_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dataset: str, problem: str
) -> None:
    pytest.importorskip("aiohttp", reason="the extra 'remote' is not installed")
    monkeypatch.setattr(retrying, "FIRST_WAIT", 0.001)
    (tmp_path / "empty").mkdir()
    faults = {"forbidden.csv": unavailable(99, 403), "broken.csv": unavailable(99, 500)}
    expected = pytest.raises(UserError, match=problem.replace("(403", r"\(403"))
    fault: Fault = lambda *at: faults[at[1]](*at) if at[1] in faults else False  # noqa: E731
    with web(tmp_path, fault) as served, expected as caught:
        open_dataset(dataset.replace("HOST", served.url.removeprefix("http://")))
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "hidden", "advice"),
    [
        ("memory://photos", "fsspec", r'needs the package fsspec; pip install "ten-crop-cache\[remote\]"'),
        ("s3://bucket/photos", "s3fs", "needs the package s3fs; pip install s3fs"),
        ("https://host/photos", "aiohttp", "needs the package aiohttp; pip install aiohttp"),
        ("gs://bucket/photos", "gcsfs", "needs the package gcsfs; pip install gcsfs"),
    ],
)
def test_a_missing_driver_is_named(url: str, hidden: str, advice: str) -> None:
    """In a process in which the package can't be imported, installed or not."""
    code = (
        f"import sys; sys.modules[{hidden!r}] = None\nfrom pipeline.datasets.base import open_dataset\n"
        f"from pipeline.errors import UserError\ntry: open_dataset('folder:{url}')\n"
        "except UserError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert re.search(advice, done.stdout), done.stdout


def test_what_lies_on_a_disk_needs_no_driver(tmp_path: Path) -> None:
    fill(tmp_path / "p", ["a", "b"], 4)
    code = (
        "import sys; sys.modules['fsspec'] = None\nfrom pipeline.datasets.base import open_dataset\n"
        f"s = open_dataset('folder:{tmp_path}/p')['train']\ns.images.read(0), s.images.statuses()\n"
        "print(any(name.split('.')[0] in ('aiohttp', 's3fs') for name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_a_server_that_is_busy_for_a_moment_is_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("aiohttp", reason="the extra 'remote' is not installed")
    monkeypatch.setattr(retrying, "FIRST_WAIT", 0.01)
    (tmp_path / "f").write_bytes(b"x" * 100)
    for status in sorted(retrying.PASSING):
        with web(tmp_path, unavailable(2, status)) as served:
            assert read(f"{served.url}/f") == b"x" * 100
            assert served.asked["f"] == 3
        with web(tmp_path, unavailable(4, status)) as served:  # the driver itself asks twice: HEAD, GET
            assert info(f"{served.url}/f").size == 100
    with web(tmp_path, unavailable(99, 404)) as served:
        with pytest.raises(FileNotFoundError):
            read(f"{served.url}/f")
        assert served.asked["f"] == 1


def test_a_changed_file_has_another_status(tmp_path: Path, at: Callable[[str, Path], str]) -> None:
    (tmp_path / "p").mkdir()
    (tmp_path / "p/f").write_bytes(b"one")
    for kind in ("http", "file"):
        url = f"{at(kind, tmp_path / 'p')}/f"
        before = info(url)
        (tmp_path / "p/f").write_bytes(b"two" if kind == "http" else b"six")
        os.utime(tmp_path / "p/f", (1, 10**9 if kind == "http" else 10**8))
        assert info(url).size == before.size
        assert info(url) != before
    assert (
        json.dumps([entry.url for entry in entries(f"file://{tmp_path}/p")]) == f'["file://{tmp_path}/p/f"]'
    )
