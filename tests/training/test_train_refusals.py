"""What training refuses: wrong flags, damaged caches and runs that diverge."""

from pathlib import Path

import pytest
from support.toy import config, write_cache

from cache import CacheError
from pipeline.config import TrainConfig
from pipeline.errors import ConfigError, RunError
from pipeline.training.stage import train


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cache(tmp_path_factory.mktemp("cache"))


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"crop_cells": 6}, ConfigError, "--crop-cells: .*5×5"),
        ({"crops": "ten-image"}, ConfigError, "--crops: ten-image needs a cache made with --views mirror"),
        ({"classes": ("dog",)}, ConfigError, "--classes"),
        ({"lr": (1e6,), "hidden": (64,)}, ConfigError, "TrainConfig.lr"),
        (
            {"lr": (0.1, 0.10000001)},
            ConfigError,
            "--lr, .*: expected values that differ in their first six digits",
        ),
        ({"cache": "nowhere"}, CacheError, "nowhere/train.h5: no such file"),
    ],
)
def test_mistakes_leave_no_run_behind(
    tmp_path: Path, cache: Path, settings: dict, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        train(config(**{"cache": cache, "out": tmp_path / "run", **settings}))
    assert not (tmp_path / "run").exists()


def test_a_diverged_run_says_so(tmp_path: Path, cache: Path) -> None:
    with pytest.raises(RunError, match=r"not finite .* smaller --lr"):
        train(config(cache, tmp_path / "run", lr=(1000.0,), weight_decay=(10.0,), epochs=30))


def test_damage_in_the_cache_is_found_before_training(tmp_path: Path) -> None:
    folder = write_cache(tmp_path / "cache")
    file = folder / "train.h5"
    with open(file, "r+b") as stream:
        stream.seek(-5000, 2)
        byte = stream.read(1)
        stream.seek(-5000, 2)
        stream.write(bytes([byte[0] ^ 1]))
    with pytest.raises(CacheError, match=r"train\.h5"):
        train(config(folder, tmp_path / "run"))
    train(config(folder, tmp_path / "trusting", verify=False))


def test_flags_that_take_several_values_want_different_ones() -> None:
    with pytest.raises(ConfigError, match=r"^TrainConfig\.lr: expected values that differ"):
        TrainConfig(lr=(0.1, 0.1))
