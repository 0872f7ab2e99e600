"""Batches of maps: the same images each epoch wherever they live."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from support.toy import write_cache
from torch import Tensor

from cache import FeatureCache
from pipeline.config import TrainConfig
from pipeline.errors import ConfigError
from pipeline.heads import HEADS
from pipeline.heads.base import Head, HeadSpec
from pipeline.heads.fullnet import FullNet
from pipeline.maps.batches import Maps, MapsInMemory, MapsOnDisk, place_maps
from pipeline.maps.normaliser import Normaliser
from pipeline.maps.parts import Part
from pipeline.maps.source import Source, check_views, drawn_views


def source(folder: Path, head: Head | None = None, crops: str = "full", verify: bool = True) -> Source:
    cache = FeatureCache(folder / "train.h5")
    _, _, channels, height, width = cache.shape
    config = TrainConfig(crops=crops, hidden=(2,))  # pyright: ignore[reportArgumentType]
    head = head or FullNet(HeadSpec(config, (channels, height, width), 3, (0,)))
    normaliser, cpu = Normaliser(channels), torch.device("cpu")
    return Source(cache, head.views, head.prepare, normaliser, torch.float32, cpu, verify)


def part(cache: FeatureCache, step: int = 10) -> Part:
    """Every row but each tenth, so that rows and positions differ. The labels count the rows."""
    rows = np.flatnonzero(np.arange(len(cache)) % step)
    return Part(rows, rows.copy())


def epoch(maps: Maps, size: int, seed: int | None, skip: int = 0) -> tuple[list[int], Tensor, list[int]]:
    """Labels in order, inputs in order, sizes of the batches."""
    memory = maps.new_batch(size)
    every = maps.in_order(size) if seed is None else maps.shuffled(memory, np.random.default_rng(seed), skip)
    batches = []
    for batch in every:
        assert seed is None or (batch is memory) == (len(batch.labels) == min(size, len(maps.labels)))
        batches.append((batch.inputs.clone(), batch.labels.clone()))
    labels = [label for _, batch in batches for label in batch.tolist()]
    return labels, torch.cat([inputs for inputs, _ in batches]), [len(batch) for _, batch in batches]


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six blocks of 1,024 rows, the last one short."""
    return write_cache(tmp_path_factory.mktemp("large"), images=6000, shape=(2, 3, 3))


@pytest.mark.parametrize("block", [1, 5000, 10**9], ids=["one", "some", "all"])
def test_inputs_are_the_normalised_maps_however_many_are_made_at_a_time(
    large: Path, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    maps = source(large)
    maps.fit_normaliser(np.arange(6000))
    stored = maps.take(np.arange(700))
    cells = stored.double().numpy()
    every = maps.cache.features.astype(np.float64)
    expected = (cells - every.mean((0, 1, 3, 4), keepdims=True)[0]) / every.std((0, 1, 3, 4), keepdims=True)[
        0
    ]
    plain = replace(maps, prepare=lambda normalised: normalised)
    monkeypatch.setattr("pipeline.maps.source.BLOCK_BYTES", block)
    np.testing.assert_allclose(plain.inputs(stored).numpy(), expected, rtol=1e-5, atol=1e-5)
    memory = torch.full((700, 1, 2, 3, 3), torch.nan)
    assert plain.inputs(stored, memory) is memory
    assert torch.equal(memory, plain.inputs(stored))


@pytest.mark.parametrize("memory", [10**9, 4 * 700 * 2 * 9 * 4, 1], ids=["all", "two batches", "none"])
@pytest.mark.parametrize("size", [64, 700, 10_000])
def test_streamed_epochs_hold_every_image_once_with_its_label(large: Path, memory: int, size: int) -> None:
    maps = source(large)
    wanted = part(maps.cache)
    streamed = MapsOnDisk(maps, wanted, 1, memory)
    orders = []
    for seed in (1, 2):
        labels, inputs, sizes = epoch(streamed, size, seed)
        assert sorted(labels) == wanted.rows.tolist()
        assert sizes[:-1] == [size] * (len(sizes) - 1)
        assert torch.equal(inputs, maps.inputs(maps.take(np.array(labels))))
        orders.append(labels)
    assert orders[0] != orders[1]
    assert epoch(streamed, size, 1)[0] == orders[0]
    assert epoch(streamed, size, None)[0] == wanted.rows.tolist()


HEAD_CROPS = [(name, "ten-image" if "crops" in info.reads else "ten") for name, info in HEADS.items()]


@pytest.mark.parametrize("views", ["mirror", "augment:2"])
@pytest.mark.parametrize(("name", "crops"), HEAD_CROPS)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "int8"])
def test_batches_are_equal_bit_by_bit_wherever_the_maps_are(
    tmp_path: Path, name: str, crops: str, views: str, dtype: str
) -> None:
    crops = crops if views == "mirror" else "ten"
    cache = FeatureCache(write_cache(tmp_path, images=50, views=views, dtype=dtype) / "train.h5")
    config = TrainConfig(head=name, crops=crops, hidden=(2,))  # pyright: ignore[reportArgumentType]
    head = HEADS[name].load()(HeadSpec(config, (4, 5, 5), 3, (0,), 50))
    maps, wanted, drawn = source(tmp_path, head), part(cache), drawn_views(cache)
    row = maps.stored_bytes(1)
    places = [
        *(MapsInMemory(maps, wanted, drawn, "", prepared=p) for p in (True, False)),
        *(MapsOnDisk(maps, wanted, drawn, memory) for memory in (1, 2 * 14 * row, 1 << 30)),
    ]
    for seed, skip in ((None, 0), (0, 0), (1, 0), (1, 3)):
        labels, inputs, sizes = epoch(places[0], 7, seed)
        for place in places[1:]:
            their_labels, their_inputs, their_sizes = epoch(place, 7, seed, skip)
            assert (labels[7 * skip :], sizes[skip:]) == (their_labels, their_sizes)
            assert torch.equal(inputs[7 * skip :], their_inputs)


@pytest.mark.parametrize("device", ["cpu", "meta"])  # which stands for a GPU
def test_maps_are_where_they_fit(tmp_path: Path, device: str, capsys: pytest.CaptureFixture[str]) -> None:
    maps = source(write_cache(tmp_path, images=50, dtype="float16"))
    maps = replace(maps, device=torch.device(device), normaliser=maps.normaliser.to(device))
    wanted = part(maps.cache)
    prepared, stored = maps.input_bytes(len(wanted.rows)), maps.stored_bytes(len(wanted.rows))
    for on_device, in_ram, said in (
        (prepared, 0, f"prepared once, in the memory of the {device}"),
        (prepared - 1, stored, "kept in RAM"),
        (stored - 1, stored - 1, "read from disk in each epoch"),
    ):
        free = {device: on_device} if device == "cpu" else {device: on_device, "cpu": in_ram}
        placed = place_maps(maps, wanted, 1, "maps", free)
        assert isinstance(placed, MapsOnDisk) == said.startswith("read")
        assert said in capsys.readouterr().out


@pytest.mark.parametrize("views", ["plain", "augment:3"])
def test_parts_never_hold_more_memory_than_is_free_for_both(tmp_path: Path, views: str) -> None:
    """Whatever is free, from nothing to plenty; and nothing is read in each epoch that has room."""
    maps = source(write_cache(tmp_path, images=60, views=views))
    drawn, rows = drawn_views(maps.cache), np.arange(60)
    train, val = Part(rows[:40], rows[:40]), Part(rows[40:], rows[40:])
    both = maps.stored_bytes(40 * drawn) + maps.stored_bytes(20)
    for free in range(0, 2 * maps.input_bytes(40 * drawn + 20), 997):
        left = {"cpu": free}
        placed = [place_maps(maps, train, drawn, "", left), place_maps(maps, val, 1, "", left)]
        held = [each for each in placed if isinstance(each, MapsInMemory)]
        assert sum(each.examples.nbytes for each in held) <= free - sum(
            each.nbytes for each in placed if each not in held
        )
        assert left["cpu"] == free - sum(each.nbytes for each in placed) >= 0
        assert free < both or placed == held


@pytest.mark.parametrize("memory", [10**9, 1])
def test_augmented_views_are_drawn_and_validation_sees_the_plain_one(tmp_path: Path, memory: int) -> None:
    maps = source(write_cache(tmp_path, images=60, views="augment:3"))
    wanted = part(maps.cache)
    assert drawn_views(maps.cache) == 4
    every = torch.stack([maps.inputs(maps.take(wanted.rows, view)) for view in range(4)])
    for placed in (MapsInMemory(maps, wanted, 4, ""), MapsOnDisk(maps, wanted, 4, memory)):
        labels, inputs, _ = epoch(placed, 16, 5)
        position = np.searchsorted(wanted.rows, labels)
        is_view = (every[:, position] == inputs).flatten(2).all(2)  # (4, n)
        assert is_view.any(0).all()
        assert is_view.any(1).all()
        assert torch.equal(epoch(placed, 16, None)[1], every[0])


def test_a_mirrored_view_is_only_read_by_a_head_that_looks_at_two(tmp_path: Path) -> None:
    folder = write_cache(tmp_path, images=20, views="mirror")
    rows = np.arange(20)
    one, two = source(folder), source(folder, crops="ten-image")
    assert drawn_views(one.cache) == 1
    assert np.array_equal(one.take(rows), one.cache.take(rows, view=slice(0, 1)))
    assert np.array_equal(two.take(rows), two.cache.take(rows, view=None))
    plain = source(write_cache(tmp_path / "plain", images=20))
    check_views(two.cache, two.views)
    with pytest.raises(ConfigError, match=r"ten-image needs .* --views mirror"):
        check_views(plain.cache, two.views)


@pytest.mark.parametrize("dtype", ["float16", "float32", "bfloat16"])
def test_storage_dtypes_are_read_as_their_values(tmp_path: Path, dtype: str) -> None:
    maps = source(write_cache(tmp_path, images=20, dtype=dtype))
    exact = source(write_cache(tmp_path / "exact", images=20))
    rows = np.arange(20)
    rounded = exact.take(rows).to(getattr(torch, dtype))
    assert torch.equal(maps.take(rows), rounded)
    assert maps.inputs(maps.take(rows)).dtype == torch.float32


def test_normalised_training_maps_have_no_mean_and_unit_deviation(tmp_path: Path) -> None:
    maps = source(write_cache(tmp_path, images=300))
    rows = np.arange(0, 300, 2)
    maps.fit_normaliser(rows)
    normalised = maps.normaliser(torch.from_numpy(maps.cache.take(rows)))
    std, mean = torch.std_mean(normalised, dim=(0, 2, 3), correction=0)
    torch.testing.assert_close(mean, torch.zeros(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(std, torch.ones(4), atol=1e-5, rtol=0)


def test_a_channel_that_hardly_changes_is_not_blown_up() -> None:
    normaliser = Normaliser(2)
    maps = torch.randn(5, 2, 3, 3)
    maps[:, 1] *= 1e-6
    normaliser.fit([maps])
    assert normaliser(maps)[:, 1].abs().max() < 1e-3


def test_a_channel_that_never_changes_stays_finite() -> None:
    normaliser = Normaliser(2)
    maps = torch.randn(5, 2, 3, 3)
    maps[:, 1] = 7
    normaliser.fit([maps])
    assert normaliser(maps)[:, 1].abs().max() < 1e-4
    normaliser.fit([torch.full((5, 2, 3, 3), 7.0)])
    assert torch.isfinite(normaliser(maps)).all()


@pytest.mark.parametrize("crops", ["ten", "full"])
def test_the_memory_that_maps_take_is_known_before(tmp_path: Path, crops: str) -> None:
    maps = source(write_cache(tmp_path, images=50, dtype="bfloat16"), crops=crops)
    taken = maps.take(np.arange(50))
    assert maps.stored_bytes(50) == taken.nbytes
    assert maps.input_bytes(50) == maps.inputs(taken).nbytes
