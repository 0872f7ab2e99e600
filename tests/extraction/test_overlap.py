"""Decode, trunk and disk overlap; the summary names the one that the others wait for."""

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
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
from pipeline.extraction import pieces
from pipeline.extraction.overlap import Streams
from pipeline.extraction.stage import extract
from pipeline.images.views import Views
from pipeline.trunks.alexnet_cifar import load
from pipeline.trunks.prepare import PreparedTrunk

SLOW_SECONDS = 2.0
SLOWED = {
    "decode": (pieces, "decode_blocks"),
    "trunk": (PreparedTrunk, "forward"),
    "disk": (CacheWriter, "write"),
}


def config(photos: Path, weights: Path, cache: Path, **other: Any) -> ExtractConfig:
    fields = {"dataset": f"folder:{photos}", "weights": str(weights), "cache": str(cache), "decoders": 1}
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

    def slow_blocks(*arguments: Any) -> Iterator[Any]:
        for block in original(*arguments):
            time.sleep(SLOW_SECONDS)
            yield block

    monkeypatch.setattr(owner, name, slow_blocks if part == "decode" else slow)
    extract(config(photos, weights, tmp_path / "c", batch=1024))
    found = re.findall(r"train\.h5: 80 images .* bounded by the (\w+)", capsys.readouterr().out)
    assert found == [part]


def refuse(rows: range, maps: np.ndarray) -> np.ndarray:
    raise CacheError(f"rows {rows.start} to {rows.stop}: {maps.shape}, largest {maps.max()}")


@pytest.fixture(params=[1, 2, 3])
def cores(request: pytest.FixtureRequest) -> Iterator[int]:
    """So many threads are what torch was told to use."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def test_the_number_of_threads_is_what_it_was(cores: int, weights: Path) -> None:
    prepared = PreparedTrunk(load(weights), torch.device("cpu"))
    with closing(Streams(prepared, Views("plain", 1, 0), refuse)) as streams:
        assert streams.count == cores
        streams.submit(np.zeros((1, 3, 32, 32), np.uint8), range(1), torch.empty(1, 1, 256, 5, 5)).result()
    now: list[int] = []
    thread = threading.Thread(target=lambda: now.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert (torch.get_num_threads(), *now) == (cores, cores)


@pytest.mark.parametrize("batch", [5, 8, 20])
def test_maps_depend_neither_on_the_streams_nor_on_the_batch(cores: int, batch: int, weights: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (20, 3, 32, 32), np.uint8)
    prepared, views = PreparedTrunk(load(weights), torch.device("cpu")), Views("mirror", 20, 0)
    slices = [slice(at, at + batch) for at in range(0, 20, batch)]
    maps = torch.empty(20, 2, 256, 5, 5, dtype=torch.float16)
    with closing(Streams(prepared, views, refuse)) as streams:
        batches = [streams.submit(images[part], range(20)[part], maps[part]) for part in slices]
        assert [done.result() for done in batches] == [len(range(20)[part]) for part in slices]
    both = torch.from_numpy(np.stack([images, images[..., ::-1]], 1))
    assert torch.equal(maps, torch.stack([prepared(pair) for pair in both]).half())


VALUES = [(65_504.0, True), (-65_504.0, True), (70_000.0, False), (-70_000.0, False), (float("nan"), False)]


@pytest.mark.parametrize(("value", "fits"), VALUES)
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_maps_that_don_t_fit_in_their_block_are_refused_as_they_were_computed(
    value: float, fits: bool, dtype: str, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the message would be that the trunk computed infinity, not that float16 is too small."""
    images = np.zeros((6, 3, 32, 32), np.uint8)
    prepared = PreparedTrunk(load(weights), torch.device("cpu"))
    computed = prepared(torch.from_numpy(images[:2])).clone()
    computed[1, 255, 4, 4] = value
    monkeypatch.setattr(prepared, "forward", lambda images: computed)
    refused: list[tuple[range, np.ndarray]] = []

    def replaced(rows: range, maps: np.ndarray) -> np.ndarray:
        refused.append((rows, maps))
        return np.full_like(maps, 3)

    with closing(Streams(prepared, Views("plain", 6, 0), replaced)) as streams:
        maps = torch.full((6, 1, 256, 5, 5), 7, dtype=getattr(torch, dtype))
        streams.submit(images[2:4], range(2, 4), maps[2:4]).result()
    expected = computed[:, None]
    if fits or dtype == "float32":
        assert not refused
        assert torch.equal(maps[2:4].nan_to_num(nan=9), expected.to(maps.dtype).nan_to_num(nan=9))
    else:
        assert [rows for rows, _ in refused] == [range(2, 4)]
        np.testing.assert_array_equal(refused[0][1], expected.numpy())
        assert (maps[2:4] == 3).all()
    assert (maps[:2] == 7).all()
    assert (maps[4:] == 7).all()


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
    forward = PreparedTrunk.forward

    def fail(self: PreparedTrunk, images: torch.Tensor) -> torch.Tensor:
        if len(images) > 1:  # one image alone asks for the maps' shape
            raise CacheError("out of order")
        return forward(self, images)

    monkeypatch.setattr(PreparedTrunk, "forward", fail)
    with pytest.raises(CacheError, match="out of order"):
        extract(config(photos, weights, tmp_path / "c"))
    assert not (tmp_path / "c/train.h5").exists()
