"""Extraction from a store gives the cache of the same files on a disk, whatever the network does."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support.extracting import settings
from support.stores import Fault, Handler, in_memory, unavailable, web

from cache import FeatureCache, retrying
from pipeline.config import ExtractConfig
from pipeline.errors import UserError
from pipeline.extraction import stage
from pipeline.extraction.stage import extract
from pipeline.images import ahead, pool

pytest.importorskip("aiohttp", reason="the extra 'remote' is not installed")
OLD = 1_500_000_000
"""A time long past, in seconds: files that have just changed are read again."""


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrying, "FIRST_WAIT", 0.01)
    monkeypatch.setattr(stage, "check_parity", lambda *_: 0.0)  # which reads some


def far(url: str, weights: Path, cache: Path, **other: object) -> ExtractConfig:
    return ExtractConfig(
        dataset=f"folder:{url}",
        weights=str(weights),
        cache=str(cache),
        **{"decoders": 1, "dtype": "float32", **other},  # type: ignore[arg-type]
    )


def assert_equal(found: Path, expected: Path) -> None:
    """Equal in all but the name of the dataset, which is a note."""
    for name in ("train.h5", "test.h5"):
        one, other = FeatureCache(found / name), FeatureCache(expected / name)
        assert (one.key, one.images_digest, one.classes) == (other.key, other.images_digest, other.classes)
        assert {**one.notes, "dataset": ""} == {**other.notes, "dataset": ""}
        assert one.features.tobytes() == other.features.tobytes()
        np.testing.assert_array_equal(one.labels, other.labels)
        np.testing.assert_array_equal(one.image_digests, other.image_digests)


def truncated(handler: Handler, path: str, asked: int) -> bool:
    """Half of the file, though the whole was announced, and then the end of the connection."""
    data = (Path(handler.directory) / path).read_bytes()
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(data)))
    handler.end_headers()
    handler.wfile.write(data[: len(data) // 2])
    handler.close_connection = True
    return True


def cut_short(handler: Handler, path: str, asked: int) -> bool:
    """Half of the file, as if that were all of it."""
    data = (Path(handler.directory) / path).read_bytes()
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(data) // 2))
    handler.end_headers()
    handler.wfile.write(data[: len(data) // 2])
    return True


def reset(handler: Handler, path: str, asked: int) -> bool:
    """No answer at all."""
    handler.close_connection = True
    return True


def sometimes(*faults: Fault) -> Fault:
    """A fault for most images, the first two times that each is asked for."""

    def fault(handler: Handler, path: str, asked: int) -> bool:
        which = sum(path.encode()) % (len(faults) + 1)
        is_image = path.endswith(".png") and handler.command == "GET"
        return is_image and asked <= 2 and which < len(faults) and faults[which](handler, path, asked)

    return fault


def test_a_cache_is_equal_whatever_the_server_does(photos: Path, weights: Path, tmp_path: Path) -> None:
    extract(settings(photos, weights, tmp_path / "near"))
    with web(photos, sometimes(unavailable(2), truncated, cut_short, reset)) as served:
        extract(far(served.url, weights, tmp_path / "far"))
        assert sum(count > 2 for count in served.asked.values()) > 20
    assert_equal(tmp_path / "far", tmp_path / "near")
    extract(far(in_memory(photos, "photos"), weights, tmp_path / "memory", decoders=2))
    assert_equal(tmp_path / "memory", tmp_path / "near")


def test_processes_get_bytes(
    photos: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They could not find what is in this process's memory."""
    monkeypatch.setattr(pool, "THREADS", 1)
    monkeypatch.setattr(pool, "PROCESS_IMAGES", 1)
    extract(settings(photos, weights, tmp_path / "near"))
    extract(far(in_memory(photos, "to-processes"), weights, tmp_path / "far", decoders=2))
    assert_equal(tmp_path / "far", tmp_path / "near")


def test_many_requests_are_under_way_but_not_all(
    photos: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ahead, "AHEAD_IMAGES", 24)
    monkeypatch.setattr("pipeline.images.blocks.TASK_IMAGES", 8)
    with web(photos, seconds=0.03) as served:
        extract(far(served.url, weights, tmp_path / "far"))
        assert 8 < served.most["GET"] <= 32
    extract(settings(photos, weights, tmp_path / "near"))
    assert_equal(tmp_path / "far", tmp_path / "near")


def test_files_that_are_as_they_were_are_not_fetched_again(
    photos: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for file in photos.rglob("*.png"):
        os.utime(file, (OLD, OLD))
    with web(photos) as served:
        config = far(served.url, weights, tmp_path / "far")
        extract(config)

        def fetched() -> list[str]:
            served.got.clear()
            extract(config)
            return sorted(path for path in served.got if path.endswith(".png"))

        assert fetched() == []
        assert "test.h5: up to date" in capsys.readouterr().out
        os.utime(photos / "train/ü/00.png", (OLD + 1, OLD + 1))
        assert fetched() == ["train/ü/00.png"]
        assert fetched() == []
        served.dates = False  # the server says neither version nor time
        assert len(fetched()) == len(fetched()) == 100


def test_a_store_that_fails_is_no_bad_image(photos: Path, weights: Path, tmp_path: Path) -> None:
    """It stops the extraction, which goes on when the store is back; a missing image is left out."""

    def only(fault: Fault, name: str = "train/ü/07.png") -> Callable[[Handler, str, int], bool]:
        return lambda handler, path, asked: (
            path == name and handler.command == "GET" and fault(handler, path, asked)
        )

    with web(photos, only(unavailable(99, 503))) as served:
        config = far(served.url, weights, tmp_path / "far", on_bad_image="skip")
        with pytest.raises(UserError, match=r"ü/07\.png: can't be read after 6 tries: 503.*run the same"):
            extract(config)
        assert not list((tmp_path / "far").glob("*.h5"))
        served.fault = only(unavailable(99, 404))
        extract(config)
        skipped = FeatureCache(tmp_path / "far/train.h5").notes["skipped"]
        reason = "can't be read: no such file, folder or bucket"
        assert skipped == [{"path": "train/ü/07.png", "reason": reason}]
