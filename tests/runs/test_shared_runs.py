"""Runs that several people share: files as the umask wants them, and what one may not read is said so."""

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from support.evaluating import head, settings, write_cache
from support.nobody import as_nobody
from torch import nn

from pipeline.errors import UserError
from pipeline.evaluation.stage import evaluate
from pipeline.files import read_json
from pipeline.runs import leaderboard
from pipeline.runs.draws import read_draws
from pipeline.runs.folder import load_head
from pipeline.runs.tensors import read_tensors
from pipeline.training import epochs
from pipeline.training.trainer import Trainer
from pipeline.trunks.weights import load_weights


@pytest.fixture(params=[0o022, 0o002, 0o077], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def test_every_file_of_a_cache_and_its_runs_has_the_umask_s_mode(
    umask: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The checkpoint, which is gone at the end, and a replaced file included."""
    seen, save = [], Trainer.save

    def saving(trainer: Trainer, path: Path) -> None:
        save(trainer, path)
        seen.append(path.stat().st_mode)

    monkeypatch.setattr(epochs, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(Trainer, "save", saving)
    place = tmp_path / "made"
    cache = write_cache(place / "cache")
    sweep = head(cache, place / "sweep", seed=(0, 1))
    linear = head(cache, place / "linear", head="linear")
    for _ in range(2):
        evaluate(settings(sweep, linear, out=str(place / "comparison.json")))
    files = [path for path in place.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {
        ".h5",
        ".json",
        ".jsonl",
        ".npy",
        ".npz",
        ".png",
        ".safetensors",
    }
    assert seen
    modes = {stat.S_IMODE(mode) for mode in [*seen, *(path.stat().st_mode for path in files)]}
    assert modes == {0o666 & ~umask}
    assert {stat.S_IMODE(p.stat().st_mode) for p in place.rglob("*") if p.is_dir()} == {0o777 & ~umask}


READERS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "weights of a head": ("head.safetensors", load_head),
    "configuration": ("config.json", load_head),
    "checkpoint": ("head.safetensors", lambda run: read_tensors(run / "head.safetensors")),
    "trunk": ("head.safetensors", lambda run: load_weights(nn.Conv2d(1, 1, 1), run / "head.safetensors")),
    "trunk in .pth": ("trunk.pth", lambda run: load_weights(nn.Conv2d(1, 1, 1), run / "trunk.pth")),
    "JSON": ("config.json", lambda run: read_json(run / "config.json")),
    "scores on draws": ("validation.npy", read_draws),
    "leaderboard": ("leaderboard.json", leaderboard.read),
}


@pytest.mark.parametrize("what", READERS)
def test_a_file_that_may_not_be_read_is_not_called_missing(what: str, tmp_path: Path) -> None:
    name, read = READERS[what]
    run = head(write_cache(tmp_path / "cache"), tmp_path / "run", head="linear", epochs=1)
    if name == "leaderboard.json":
        (run / name).write_text("{}")
    torch.save({}, run / "trunk.pth")
    (run / name).chmod(0o600 if os.geteuid() == 0 else 0)

    def said() -> str:
        try:
            read(Path("run"))
        except UserError as error:
            return str(error)
        return "nothing"

    advice = "ask its owner for the right to read it"
    assert as_nobody(tmp_path, said) == f"run/{name}: can't be opened: Permission denied; {advice}"
