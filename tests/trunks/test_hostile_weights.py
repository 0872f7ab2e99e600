"""Files of weights and checkpoints made to do harm: one line that names the file, and nothing executed."""

import json
import pickle
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from support.toy import config, write_cache
from torch import nn

from pipeline.config import PretrainConfig
from pipeline.errors import UserError
from pipeline.images.transform import Transform
from pipeline.pretraining.loop import PretrainingLoop
from pipeline.pretraining.network import Network
from pipeline.runs.folder import load_head
from pipeline.runs.tensors import read_tensors
from pipeline.training import epochs, stage
from pipeline.training.stage import train
from pipeline.trunks.base import Trunk
from pipeline.trunks.weights import load_weights

pytestmark = [
    pytest.mark.fault("hostile or damaged weights and checkpoints"),
    pytest.mark.filterwarnings("error"),  # which would be a second line
]


class Bomb:
    """Executed by whoever unpickles it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.path,)


def pickled(path: Path, trap: Path) -> None:
    path.write_bytes(pickle.dumps({"head.weight0": Bomb(trap)}))


def zipped(path: Path, trap: Path) -> None:
    torch.save({"epoch": 1, "parts": [Bomb(trap)] * 3}, path)


def legacy(path: Path, trap: Path) -> None:
    torch.save({"0.weight": Bomb(trap)}, path, _use_new_zipfile_serialization=False)


BOMBS = [pickled, zipped, legacy]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cache(tmp_path_factory.mktemp("cache"))


def refusal(action: Callable[[], object], path: Path) -> str:
    """What the action says; it has to be a line that begins with the file."""
    with pytest.raises(UserError) as caught:
        action()
    said = str(caught.value)
    assert said.startswith(f"{path}: ")
    assert "\n" not in said
    return said


@pytest.mark.parametrize("make", BOMBS)
@pytest.mark.parametrize("suffix", ["pth", "safetensors", "pt"])
def test_a_pickle_with_code_for_a_trunk_is_not_run(
    make: Callable[[Path, Path], None], suffix: str, tmp_path: Path
) -> None:
    path = tmp_path / f"trunk.{suffix}"
    make(path, tmp_path / "executed")
    refusal(lambda: load_weights(nn.Conv2d(3, 4, 3), path), path)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("make", BOMBS)
def test_a_pickle_with_code_for_a_trained_head_is_not_run(
    make: Callable[[Path, Path], None], cache: Path, tmp_path: Path
) -> None:
    run = train(config(cache, tmp_path / "run", epochs=1))
    make(run / "head.safetensors", tmp_path / "executed")
    refusal(lambda: load_head(run), run / "head.safetensors")
    assert not (tmp_path / "executed").exists()


@pytest.fixture
def stopped(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run that was stopped after its second epoch's checkpoint; the checkpoint."""
    monkeypatch.setattr(epochs, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(epochs, "CHECKPOINT_SHARE", float("inf"))
    save = stage.Trainer.save

    def save_and_stop(self: stage.Trainer, path: Path) -> None:
        save(self, path)
        if self.done == (2, 0):
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(stage.Trainer, "save", save_and_stop)
        with pytest.raises(KeyboardInterrupt):
            train(config(cache, tmp_path / "run", dropout=0.1))
    return tmp_path / "run" / "checkpoint.safetensors"


@pytest.mark.parametrize("make", BOMBS)
def test_a_pickle_with_code_for_a_head_s_checkpoint_is_not_run(
    make: Callable[[Path, Path], None], stopped: Path, cache: Path, tmp_path: Path
) -> None:
    make(stopped, tmp_path / "executed")
    refusal(lambda: train(config(cache, stopped.parent, resume=True, dropout=0.1)), stopped)
    assert not (tmp_path / "executed").exists()


def test_a_checkpoint_cut_off_or_of_another_run_is_refused(stopped: Path, cache: Path) -> None:
    whole, tensors = stopped.read_bytes(), load_file(stopped)
    good = read_tensors(stopped)[1]
    resume = lambda: train(config(cache, stopped.parent, resume=True, dropout=0.1))  # noqa: E731
    for length in (0, 7, 8, 100, len(whole) // 2, len(whole) - 1):
        stopped.write_bytes(whole[:length])
        refusal(resume, stopped)
    wrong = [{"done": done} for done in ("x", 1, [1], [1, "x"], [5, 0], [-1, 0], [0, 9], [0, 0, 0])]
    for facts in (None, [], 7, {}, {"done": [1, 0]}, *(good | w for w in (*wrong, {"best_score": [1, 2]}))):
        save_file(tensors, stopped, {"facts": json.dumps(facts)})
        refusal(resume, stopped)
    save_file(tensors, stopped, {"facts": "[" * 100_000})
    refusal(resume, stopped)
    name = "momentum.weight0"
    for wrong in (torch.zeros(3), torch.zeros(0), tensors[name][..., :1].contiguous()):
        save_file(tensors | {name: wrong}, stopped, {"facts": json.dumps(good)})
        assert f"{name}: expected" in refusal(resume, stopped)
    save_file(tensors | {"random.0": 255 - tensors["random.0"]}, stopped, {"facts": json.dumps(good)})
    refusal(resume, stopped)
    of_a_gpu = torch.zeros(16, dtype=torch.uint8)
    save_file(tensors | {"random.0": of_a_gpu}, stopped, {"facts": json.dumps(good)})
    assert "expected draws of dropout from a cpu, found another device's; go on" in refusal(resume, stopped)
    stopped.write_bytes(whole)
    resume()
    assert load_head(stopped.parent).config.epochs == 4


@pytest.mark.parametrize("make", BOMBS)
def test_a_pickle_with_code_for_a_trunk_s_checkpoint_is_not_run(
    make: Callable[[Path, Path], None], tmp_path: Path
) -> None:
    path = tmp_path / "checkpoint.safetensors"
    make(path, tmp_path / "executed")
    transform = Transform(image_px=32, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    network = Network(Trunk("small", 1, nn.Conv2d(3, 4, 3), transform, ""), classes=2, hidden=3)
    images, labels = torch.zeros(6, 3, 32, 32, dtype=torch.uint8), torch.zeros(6, dtype=torch.int64)
    loop = PretrainingLoop(network, PretrainConfig(), images, labels, np.arange(6))
    refusal(lambda: loop.resume(path), path)
    assert not (tmp_path / "executed").exists()
    loop.save(path, 1)
    assert loop.resume(path) == 1
    tensors = load_file(path)
    for facts in (None, [], 7, {}, {"epoch": "x"}):
        save_file(tensors, path, {"facts": json.dumps(facts)})
        refusal(lambda: loop.resume(path), path)
    save_file(
        {name: t for name, t in tensors.items() if "momentum" not in name}, path, {"facts": '{"epoch": 1}'}
    )
    refusal(lambda: loop.resume(path), path)


@pytest.mark.parametrize("kind", ["zip", "legacy", "pickle", "safetensors"])
@pytest.mark.parametrize("files", [60, pytest.param(1000, marks=pytest.mark.faults)])
def test_weights_with_bytes_changed_load_or_are_refused(kind: str, files: int, tmp_path: Path) -> None:
    """Bits flipped anywhere can't always be seen, but no file of weights ends in a traceback."""
    torch.manual_seed(0)
    weights, seed = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).state_dict(), random.Random(kind)
    path = tmp_path / ("trunk.safetensors" if kind == "safetensors" else "trunk.pth")
    if kind == "safetensors":
        save_file(weights, path)
    elif kind == "pickle":
        path.write_bytes(pickle.dumps(weights))
    else:
        torch.save(weights, path, _use_new_zipfile_serialization=kind == "zip")
    whole = path.read_bytes()
    for _ in range(files):
        changed = bytearray(whole)
        for _ in range(seed.choice([1, 1, 2, 4])):
            changed[seed.randrange(min(len(whole), 600))] = seed.choice([0, 255, seed.randrange(256)])
        path.write_bytes(changed[: seed.choice([len(whole), seed.randrange(len(whole))])])
        said = ""
        try:
            load_weights(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)), path)
        except UserError as error:
            said = str(error)
        assert not said or said.startswith(f"{path}: ")
        assert "\n" not in said
