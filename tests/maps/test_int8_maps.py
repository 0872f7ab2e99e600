"""int8 maps stay one byte a number until they are normalised; heads see what they stand for."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from support.toy import config, write_cache
from support.trained import weights

from cache import FeatureCache, fit_scales
from cache.scales import dequantise, quantise
from pipeline.errors import RunError
from pipeline.heads import HEADS
from pipeline.maps.batches import MapsInMemory, MapsOnDisk, place_maps
from pipeline.maps.normaliser import Normaliser
from pipeline.maps.parts import Part
from pipeline.maps.source import Source
from pipeline.maps.stored import decoded, rounded, scales_in, scales_json
from pipeline.training.stage import train

CPU = torch.device("cpu")


def source(folder: Path, dtype: torch.dtype = torch.float32) -> Source:
    cache = FeatureCache(folder / "train.h5")
    made = Source(cache, 1, lambda maps: maps, Normaliser(cache.shape[2]), dtype, CPU, verify=True)
    made.fit_normaliser(np.arange(len(cache)))
    return made


@pytest.fixture
def made(tmp_path: Path) -> Source:
    return source(write_cache(tmp_path, images=300, dtype="int8"))


def values(made: Source) -> torch.Tensor:
    assert made.cache.scales is not None
    return torch.from_numpy(dequantise(made.cache.features, made.cache.scales))


def test_the_normaliser_learns_from_the_values(made: Source) -> None:
    plain = Normaliser(4)
    plain.fit([values(made)])
    assert torch.allclose(made.normaliser.mean, plain.mean, rtol=1e-5, atol=1e-6)
    assert torch.allclose(made.normaliser.scale, plain.scale, rtol=1e-5)


def test_one_pass_normalises_and_decodes(made: Source) -> None:
    stored = made.take(np.arange(300))
    assert stored.dtype == torch.int8
    expected = (values(made).double() - made.normaliser.mean) * made.normaliser.scale
    torch.testing.assert_close(made.inputs(stored).double(), expected, rtol=1e-5, atol=2e-5)
    assert torch.equal(decoded(stored, made.cache.scales), values(made))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_other_maps_are_normalised_as_before_and_left_alone(dtype: torch.dtype) -> None:
    normaliser, maps = Normaliser(4), torch.randn(3, 1, 4, 2, 2, generator=torch.Generator().manual_seed(0))
    normaliser.fit([maps])
    maps = maps.to(dtype)
    before = maps.clone()
    expected = (maps - normaliser.mean) * normaliser.scale
    found = normaliser(maps)
    assert found.dtype == expected.dtype
    assert torch.equal(found, expected)
    assert torch.equal(maps, before)


def test_they_are_kept_and_read_as_they_are_stored(made: Source) -> None:
    part = Part(np.arange(300), np.arange(300))
    assert made.stored_bytes(300) == 300 * 4 * 25
    in_ram = MapsInMemory(made, part, 1, "", prepared=False)
    assert (in_ram.examples.dtype, in_ram.nbytes) == (torch.int8, 300 * 4 * 25)
    on_disk = MapsOnDisk(made, part, 1, 1 << 20)
    prepared = MapsInMemory(made, part, 1, "")
    batches = [
        torch.cat(
            [batch.inputs.clone() for batch in maps.shuffled(maps.new_batch(64), np.random.default_rng(1))]
        )
        for maps in (prepared, in_ram, on_disk)
    ]
    assert torch.equal(batches[0], batches[1])
    assert torch.equal(batches[0], batches[2])


def test_the_budget_counts_one_byte_for_a_number(made: Source, capsys: pytest.CaptureFixture[str]) -> None:
    part, stored = Part(np.arange(300), np.arange(300)), made.stored_bytes(300)
    for free, said in ((stored, "kept in RAM"), (stored - 1, "read from disk in each epoch")):
        place_maps(made, part, 1, "maps", {"cpu": free})
        assert said in capsys.readouterr().out


def test_the_scales_are_brought_to_the_device_once(made: Source) -> None:
    there = replace(made, device=torch.device("meta"), normaliser=made.normaliser.to("meta"))
    stored = torch.empty(8, 1, 4, 5, 5, dtype=torch.int8, device="meta")
    there.inputs(stored)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "tensor", None)
        patch.setattr(torch, "from_numpy", None)
        assert there.inputs(stored).dtype == torch.float32


@pytest.mark.parametrize("head", HEADS)
def test_a_head_learns_what_it_learns_from_the_values(tmp_path: Path, head: str) -> None:
    """A float32 cache of the values that int8 stands for: other rounding, and nothing else."""
    eight = FeatureCache(write_cache(tmp_path / "a", dtype="int8") / "train.h5")
    write_cache(tmp_path / "b", maps=eight.decode(eight.features))
    one, other = (
        weights(train(config(tmp_path / name, tmp_path / f"run-{name}", head=head))) for name in "ab"
    )
    for name in one:
        torch.testing.assert_close(one[name], other[name], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("said", [None, [], {"scale": [1.0]}, {"scale": [1], "zero_point": [1, 2]}])
def test_a_run_that_lost_its_scales_is_refused(said: object) -> None:
    """Of int8 alone: others have none."""
    identity = {"cache_identity": {"dtype": "int8"}}
    with pytest.raises(RunError, match=r"run: config\.json doesn't say the scales .*; train it again"):
        scales_in({**identity, "cache_scales": said}, Path("run"))
    with pytest.raises(RunError, match="train it again"):
        scales_in(identity, Path("run"))
    assert scales_in({"cache_identity": {"dtype": "float16"}}, Path("run")) is None


def test_rounded_maps_are_those_that_a_cache_gives_back(made: Source, tmp_path: Path) -> None:
    maps = torch.randn(64, 1, 4, 5, 5, generator=torch.Generator().manual_seed(0)) * 9
    scales = made.cache.scales
    assert scales is not None
    expected = dequantise(quantise(maps.numpy(), scales)[0], scales)
    found = scales_in({"cache_identity": {"dtype": "int8"}, **scales_json(scales)}, tmp_path)
    assert found is not None
    assert torch.equal(rounded(maps, found), torch.from_numpy(expected))


def test_a_cache_of_int8_scales_covers_its_maps(made: Source) -> None:
    assert made.cache.scales is not None
    assert np.allclose(fit_scales([values(made).numpy()])[0], made.cache.scales[0], rtol=0.02)
