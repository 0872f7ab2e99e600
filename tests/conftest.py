"""Small data and weights that several test modules use."""

import faulthandler
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

# Triton, which torch loads, decides on import whether its kernels are compiled or interpreted.
if not Path("/dev/nvidiactl").exists():
    os.environ.setdefault("TRITON_INTERPRET", "1")
# And OpenMP, how its threads wait for each other: asleep, or they take the cores from what else runs.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import hypothesis
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from support.tally import (  # noqa: F401
    pytest_runtest_makereport,
    pytest_sessionfinish,
    pytest_terminal_summary,
    pytest_testnodedown,
    tally,
)
from torch import nn

from pipeline import device
from pipeline.config import ExtractConfig
from pipeline.datasets import scenes
from pipeline.extraction.stage import extract
from pipeline.trunks.alexnet_cifar import untrained

CHILD_SECONDS = 500
"""A forked child that takes longer is ended, or a worker that hangs with it would not be seen to end."""


def pytest_exception_interact(node: pytest.Item | pytest.Collector) -> None:
    """pytest gives a test no limit any more once it has failed; what cleans up behind it may hang, too."""
    if seconds := float(node.config.getini("faulthandler_timeout") or 0):
        leaves = bool(node.config.getini("faulthandler_exit_on_timeout"))
        faulthandler.dump_traceback_later(seconds, exit=leaves, file=sys.__stderr__ or 2)


def pytest_configure() -> None:
    """A job in a shell's background starts with SIGINT ignored, and so does what the tests start."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    os.register_at_fork(after_in_child=lambda: signal.alarm(CHILD_SECONDS))
    # A busy machine is no failure, and nothing is left in the working directory.
    hypothesis.settings.register_profile("here", deadline=None, database=None)
    hypothesis.settings.load_profile("here")


@pytest.fixture(scope="session", autouse=True)
def results_of_a_cpu() -> Iterator[None]:
    """Numbers are compared with a CPU's. What a GPU is asked to do, `test_gpu` and `test_kernels` compare."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(device, "AUTO", ("cpu",))
        yield


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of weights for `alexnet-cifar`: random, with statistics that are not the initial ones."""
    torch.manual_seed(0)
    module = untrained().module
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.bias.data.normal_(std=0.1)
    path = tmp_path_factory.mktemp("weights") / "trunk.safetensors"
    save_file({n: t for n, t in module.state_dict().items() if t.is_floating_point()}, path)
    return path


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """An image folder: classes `a b` and `ü`, of each 40 training and 10 test images of several modes."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 40), ("test", 10)):
        for name in ("a b", "ü"):
            folder = tmp_path / "photos" / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                image = Image.fromarray(rng.integers(0, 256, (32, 32, 3), np.uint8))
                image.convert(("RGB", "L", "P")[i % 3]).save(folder / f"{i:02}.png")
    return tmp_path / "photos"


@pytest.fixture(scope="session")
def scenes_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Maps (256, 13, 13) of the first 60 training and 20 test scenes, through the shipped trunk."""
    folder = tmp_path_factory.mktemp("scenes")
    with pytest.MonkeyPatch.context() as patch:
        make_few(patch)
        return extract(ExtractConfig(dataset="scenes", image_px=64, cache=str(folder), device="cpu"))


@pytest.fixture
def few_scenes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The scenes of `scenes_cache` alone."""
    make_few(monkeypatch)


def make_few(patch: pytest.MonkeyPatch) -> None:
    patch.setitem(scenes.COUNTS, "train", 60)
    patch.setitem(scenes.COUNTS, "test", 20)
