"""A budget for memory: equal results under any that is accepted, and the smallest that will do is named."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.toy import config, write
from support.trained import assert_same, lines, weights

from cache import CacheHeader, FeatureCache
from pipeline.config import TrainConfig
from pipeline.errors import ConfigError
from pipeline.training import memory, stage
from pipeline.training.stage import train

ROOT = Path(__file__).parents[2]
SHAPE = (64, 3, 3)


def write_sorted(folder: Path, classes: int, rows: int = 4000) -> Path:
    """FOLDER/train.h5, class after class, as folders of images are listed; float16, a block of 1,024 rows
    holds a quarter of them."""
    rng = np.random.default_rng(0)
    labels = np.sort(np.arange(rows) % classes)
    levels = rng.normal(size=(classes, 1, *SHAPE[:1], 1, 1))
    header = CacheHeader(
        shape=(rows, 1, *SHAPE),
        dtype="float16",
        labels=labels,
        paths=[f"{i}.png" for i in range(rows)],
        classes=[f"{k:04}" for k in range(classes)],
        identity={"views": "plain"},
    )
    write(folder / "train.h5", header, levels[labels] + 3 * rng.normal(size=header.shape))
    return folder


def least_mb(settings: TrainConfig) -> int:
    """What the refusal of a budget of 1 MB asks for."""
    with pytest.raises(ConfigError, match="--memory-budget-mb: expected at least ") as caught:
        train(settings)
    assert not settings.run_dir.exists()
    return int(re.findall(r"at least ([\d,]+) for", str(caught.value))[0].replace(",", ""))


@pytest.mark.parametrize("classes", [10, 100, 1000])
def test_a_cache_sorted_by_class_is_learned_alike_at_every_budget(
    tmp_path: Path, classes: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """In RAM, partly in RAM, and from disk; at the smallest budget, and one less is refused."""
    cache = write_sorted(tmp_path / "cache", classes)
    settings: dict[str, Any] = {"hidden": (8,), "epochs": 2, "batch": 256, "crops": "full", "lr": (0.3,)}
    settings |= {"precision": "float32", "crop_cells": None, "val_fraction": 0.25}

    def run(budget: int | None) -> Path:
        return train(config(cache, tmp_path / f"{budget}", memory_budget_mb=budget, **settings))

    whole = run(None)
    assert "from disk" not in capsys.readouterr().out
    least = least_mb(config(cache, tmp_path / "1", memory_budget_mb=1, **settings))
    with pytest.raises(
        ConfigError, match=f"expected at least {least} .* found {least - 1}; give {least}, or"
    ):
        run(least - 1)
    places = set()
    for budget in (least, least + 1, least + 3, least + 6):
        assert lines(run(budget)) == lines(whole)
        assert_same(run(budget), whole)
        said = capsys.readouterr().out
        places.add(tuple(re.findall(r"(?:prepared once|kept in RAM|read from disk)", said)))
    assert ("read from disk", "read from disk") in places
    assert len(places) > 1


def test_a_machine_with_little_free_memory_learns_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cache = write_sorted(tmp_path / "cache", 10)
    runs = []
    for free in (1 << 40, 0):
        monkeypatch.setattr(memory, "free_bytes", lambda device, free=free: free)
        runs.append(train(config(cache, tmp_path / f"{free}", hidden=(8,), epochs=1)))
    assert "read from disk" in capsys.readouterr().out
    assert_same(*runs)


def test_a_smaller_batch_asks_for_a_smaller_budget(tmp_path: Path) -> None:
    cache = write_sorted(tmp_path / "cache", 10)
    asked = [
        least_mb(config(cache, tmp_path / "run", memory_budget_mb=1, batch=batch)) for batch in (2000, 500)
    ]
    assert asked[1] < asked[0] / 2
    train(config(cache, tmp_path / "run", memory_budget_mb=asked[1], batch=500, epochs=1))


def test_heads_that_take_all_maps_at_once_are_refused_where_memory_is_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = write_sorted(tmp_path / "cache", 10)
    settings = config(cache, tmp_path / "run", head="logistic")
    monkeypatch.setattr(memory, "free_bytes", lambda device: 1 << 20)
    message = (
        r"--head: logistic takes all maps at once, (\d+) MB for 4,000 of them, found 1 MB free; take linear"
    )
    with pytest.raises(ConfigError, match=message) as caught:
        train(settings)
    assert not settings.run_dir.exists()
    needed = int(re.findall(r"(\d+) MB for", str(caught.value))[0])
    monkeypatch.setattr(memory, "free_bytes", lambda device: needed << 20)
    train(settings)


def test_large_maps_are_handled_few_at_a_time(tmp_path: Path) -> None:
    """Chunks are bounded by bytes: 256 maps of 4 MB in float32 would be a gigabyte."""
    rows = np.zeros((12, 1, 1024, 32, 32), np.float32)
    header = CacheHeader(
        shape=rows.shape,
        dtype="float16",
        labels=np.arange(12) % 2,
        paths=[f"{i}.png" for i in range(12)],
        classes=["a", "b"],
        identity={"views": "plain"},
    )
    write(tmp_path / "train.h5", header, rows)
    settings = config(tmp_path, tmp_path / "run", head="csra", crops="full", crop_cells=None, hidden=(512,))
    _, source = stage.open_head(settings.resolved(), FeatureCache(tmp_path / "train.h5"), [0], 12)
    one = 4 * 1024 * 32 * 32
    assert 1 <= source.chunk <= (32 << 20) // one
    assert source.working_bytes(1) < 500 << 20


def test_the_normaliser_learns_from_training_images_alone(tmp_path: Path) -> None:
    cache = write_sorted(tmp_path / "cache", 10, rows=400)
    run = train(config(cache, tmp_path / "run", val_fraction=0.3, epochs=1, precision="float32"))
    data = FeatureCache(cache / "train.h5")
    train_part, val_part = stage.parts_of(config(cache, run, val_fraction=0.3), data)
    means = [data.take(part.rows).astype(np.float64).mean((0, 2, 3)) for part in (train_part, val_part)]
    found = weights(run)["normaliser.mean"].flatten().numpy()
    np.testing.assert_allclose(found, means[0], rtol=0, atol=1e-5)
    assert np.abs(means[1] - means[0]).max() > 0.05


LIMITED = """
import contextlib, io, re, resource, sys
from pathlib import Path
from pipeline.cli import COMMANDS, main
from pipeline.config import TrainConfig
from pipeline.training.stage import train

cache, out = sys.argv[1:]
small = {"hidden": (4,), "per_class": 4, "val_fraction": 0.5, "epochs": 1}
train(TrainConfig(cache=cache, out=out + "/small", device="cpu", **small))
addresses = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() + (250 << 20)
resource.setrlimit(resource.RLIMIT_AS, (addresses, addresses))


def run(budget):
    flags = f"--cache {cache} --out {out}/run --hidden 4 --crop-cells 7 --epochs 1 --batch 64 --device cpu"
    sys.argv = ["train_head.py", *flags.split(), "--memory-budget-mb", *budget.split()]
    with contextlib.redirect_stderr(io.StringIO()) as said:
        return main(*COMMANDS["train"]), said.getvalue()


code, said = run("100000")
print(code, said, end="")
print(*run(re.findall("add --memory-budget-mb ([0-9]+ --resume); or", said)[0]))
"""
"""A process that, once libraries are loaded, gets 250 MB more and no memory beyond."""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="statm is Linux's")
def test_advice_for_too_little_memory_works(tmp_path: Path) -> None:
    """The maps take 380 MB: a larger budget ends in one line, and the one that is advised is enough."""
    rows, rng = 6000, np.random.default_rng(0)
    header = CacheHeader(
        shape=(rows, 1, 64, 9, 9),
        dtype="float16",
        labels=np.arange(rows) % 3,
        paths=[f"{i}.png" for i in range(rows)],
        classes=["a", "b", "c"],
        identity={"views": "plain"},
    )
    write(tmp_path / "train.h5", header, rng.random(header.shape, np.float32))
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path), str(tmp_path)],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert not done.returncode, done.stderr
    assert re.search("^2 train_head.py: out of memory; add --memory-budget-mb", done.stdout, re.MULTILINE)
    assert done.stdout.splitlines()[-1].startswith("0 "), done.stdout
    assert (tmp_path / "run" / "head.safetensors").exists()
