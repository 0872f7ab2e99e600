"""Decode, trunk and disk overlap; the summary names the one that the others wait for."""

import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from cache import CacheWriter, FeatureCache
from pipeline.config import ExtractConfig
from pipeline.datasets.base import open_dataset
from pipeline.errors import CacheError
from pipeline.extraction import overlap as extraction
from pipeline.extraction.stage import extract
from pipeline.extraction.streams import Streams
from pipeline.images.views import Views
from pipeline.trunks.alexnet_cifar import load
from pipeline.trunks.prepare import PreparedTrunk

SLOW_SECONDS = 2.0
SLOWED = {
    "decode": (extraction.Clocked, "_pull"),
    "trunk": (Streams, "_stored"),
    "disk": (CacheWriter, "write"),
}


def config(photos: Path, weights: Path, cache: Path, **other: Any) -> ExtractConfig:
    fields = {"dataset": f"folder:{photos}", "weights": str(weights), "cache": str(cache), "workers": 1}
    return ExtractConfig(**{**fields, "device": "cpu", **other})


@pytest.mark.parametrize("part", SLOWED)
def test_the_summary_names_what_was_slow(
    part: str,
    photos: Path,
    weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    owner, name = SLOWED[part]
    original: Callable[..., Any] = getattr(owner, name)

    def slow(*arguments: Any) -> Any:
        time.sleep(SLOW_SECONDS)
        return original(*arguments)

    monkeypatch.setattr(owner, name, slow)
    extract(config(photos, weights, tmp_path / "c", batch=1024))
    found = re.findall(r"train\.h5: 80 images .* bounded by the (\w+)", capsys.readouterr().out)
    assert found == [part]


def test_the_number_of_threads_is_what_it_was(weights: Path) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        prepared = PreparedTrunk(load(weights), torch.device("cpu"))
        with Streams(prepared, Views("plain", 1, 0), halve=True) as streams:
            assert streams.count == 2
            streams.submit(np.zeros((1, 3, 32, 32), np.uint8), range(1)).result()
        now: list[int] = []
        thread = threading.Thread(target=lambda: now.append(torch.get_num_threads()))
        thread.start()
        thread.join()
        assert (torch.get_num_threads(), *now) == (2, 2)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(("count", "batch"), [(3, 8), (1, 5), (2, 20)])
def test_maps_depend_neither_on_the_streams_nor_on_the_batch(count: int, batch: int, weights: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (20, 3, 32, 32), np.uint8)
    prepared, views = PreparedTrunk(load(weights), torch.device("cpu")), Views("mirror", 20, 0)
    streams = Streams(prepared, views, halve=True)
    streams.count = count
    with streams:
        parts = [streams.submit(images[i : i + batch], range(20)[i : i + batch]) for i in range(0, 20, batch)]
        maps = torch.cat([part.result() for part in parts])
    both = torch.from_numpy(np.stack([images, images[..., ::-1]], 1))
    expected = torch.stack([prepared(pair) for pair in both]).half()
    assert torch.equal(maps, expected)


@pytest.mark.parametrize(("value", "fits"), [(65_504.0, True), (70_000.0, False), (float("nan"), False)])
def test_maps_are_put_where_there_is_room_for_them(
    value: float, fits: bool, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is too large for the room's numbers comes beside it, as it was computed."""
    images = np.zeros((6, 3, 32, 32), np.uint8)
    prepared = PreparedTrunk(load(weights), torch.device("cpu"))
    computed = prepared(torch.from_numpy(images[:2])).clone()
    computed[1, 255, 4, 4] = value
    monkeypatch.setattr(prepared, "forward", lambda images: computed)
    with Streams(prepared, Views("plain", 6, 0), halve=True) as streams:
        room = streams.room(6, 1, 256, 5, 5).fill_(7)
        found = streams.submit(images[2:4], range(2, 4), room[2:4]).result()
    expected = computed[:, None].half() if fits else computed[:, None]
    assert found.dtype == expected.dtype
    assert torch.equal(found.nan_to_num(nan=9), expected.nan_to_num(nan=9))
    assert torch.equal(room[2:4], expected if fits else torch.full_like(room[2:4], 7))
    assert (room[:2] == 7).all()
    assert (room[4:] == 7).all()


@pytest.mark.parametrize("dtype", ["float16", "float32", "bfloat16"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_blocks_hold_what_the_trunk_computes_in_any_numbers(
    precision: str, dtype: str, photos: Path, weights: Path, tmp_path: Path
) -> None:
    extract(config(photos, weights, tmp_path / "c", precision=precision, dtype=dtype, batch=48))
    split = open_dataset(f"folder:{photos}")["train"]
    prepared = PreparedTrunk(load(weights), torch.device("cpu"), precision)
    pixels = np.stack([prepared.transform.apply(split.images.read(row).pixels) for row in range(48)])
    expected = prepared(torch.from_numpy(pixels)).to(getattr(torch, dtype))
    found = torch.from_numpy(FeatureCache(tmp_path / "c/train.h5").features[:48, 0].copy())
    assert torch.equal(found.view(expected.dtype), expected)


def test_an_image_whose_map_is_too_large_is_named(
    photos: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others of its block are there in float16 by then."""
    Image.new("RGB", (32, 32), "white").save(photos / "train/a b/37.png")
    forward = PreparedTrunk.forward

    def larger(self: PreparedTrunk, images: torch.Tensor) -> torch.Tensor:
        white = (images == 255).flatten(1).all(1)
        return torch.where(white.view(-1, 1, 1, 1), 70_000.0, forward(self, images))

    monkeypatch.setattr(PreparedTrunk, "forward", larger)
    with pytest.raises(CacheError, match=r"row 37 \(train/a b/37\.png\): 70000 is too large for float16"):
        extract(config(photos, weights, tmp_path / "c", batch=16))
    extract(config(photos, weights, tmp_path / "long", batch=16, dtype="float32"))
    assert (FeatureCache(tmp_path / "long/train.h5").features[37] == 70_000).all()


def test_an_error_of_the_trunk_ends_the_run(
    photos: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Streams, maps: torch.Tensor) -> torch.Tensor:
        raise CacheError("out of order")

    monkeypatch.setattr(Streams, "_stored", fail)
    with pytest.raises(CacheError, match="out of order"):
        extract(config(photos, weights, tmp_path / "c"))
    assert not (tmp_path / "c/train.h5").exists()


@pytest.mark.parametrize("value", [65_504.0, 70_000.0, -70_000.0, float("nan")])
def test_maps_are_halved_only_where_they_fit(value: float, weights: Path) -> None:
    """Else the writer would say that the trunk computed infinity, not that float16 is too small for it."""
    streams = Streams(PreparedTrunk(load(weights), torch.device("cpu")), Views("plain", 1, 0), halve=True)
    maps = torch.tensor([1.0, value])
    fits = abs(value) <= 65_504
    assert streams._stored(maps).dtype == (torch.float16 if fits else torch.float32)
