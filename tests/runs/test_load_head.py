"""A trained head comes back from its folder as it was kept, or the file that is wrong is named."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from support.toy import CLASSES, config, write_cache
from support.trained import weights

from cache import FeatureCache
from pipeline.errors import RunError, WeightsError
from pipeline.runs.folder import load_head
from pipeline.training import stage
from pipeline.training.stage import train


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cache(tmp_path_factory.mktemp("cache"))


def test_kept_weights_score_what_the_summary_says(tmp_path: Path) -> None:
    noisy = write_cache(tmp_path / "noisy", noise=4.0)
    settings = config(noisy, tmp_path / "run", val_fraction=0.3, crops="five", dropout=0.5, hidden=(32,))
    run = train(settings)
    data, loaded = FeatureCache(noisy / "train.h5"), load_head(run)
    _, val = stage.split(data.labels, data.classes, settings)
    logits = loaded.logits(torch.from_numpy(data.take(val.rows, view=None)))
    top1 = 100 * float((logits.argmax(1).numpy() == val.labels).mean())
    loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(val.labels)).item()
    summary = json.loads((run / "summary.json").read_text())
    assert (top1, loss) == pytest.approx((summary["val_top1"], summary["val_loss"]), rel=1e-4)


def test_classes_are_numbered_in_the_order_given(tmp_path: Path, cache: Path) -> None:
    run = train(config(cache, tmp_path / "run", classes=("cow", "ant"), epochs=20, hidden=(32,)))
    loaded, data = load_head(run), FeatureCache(cache / "train.h5")
    assert loaded.classes == ("cow", "ant")
    cows = np.flatnonzero(data.labels == CLASSES.index("cow"))
    assert (loaded.logits(torch.from_numpy(data.take(cows, view=None))).argmax(1) == 0).all()


@pytest.mark.parametrize("damage", ["truncate", "shape", "missing", "extra"])
def test_damaged_weights_are_refused_by_file(tmp_path: Path, cache: Path, damage: str) -> None:
    run = train(config(cache, tmp_path / "run"))
    path, tensors = run / "head.safetensors", weights(run)
    if damage == "truncate":
        path.write_bytes(path.read_bytes()[:-9])
    else:
        if damage == "missing":
            del tensors["head.weight0"]
        else:
            tensors["head.weight0" if damage == "shape" else "head.spare"] = torch.zeros(3)
        save_file(tensors, path)
    with pytest.raises(WeightsError, match=r"head\.safetensors: "):
        load_head(run)


def test_maps_of_another_shape_are_refused(tmp_path: Path, cache: Path) -> None:
    loaded = load_head(train(config(cache, tmp_path / "run")))
    with pytest.raises(RunError, match="expected maps of 4×5×5 in 1 views, as in training, found 4×6×5"):
        loaded.logits(torch.zeros(2, 1, 4, 6, 5))


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no run there"):
        load_head(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(RunError, match="isn't finished"):
        load_head(tmp_path)
    (tmp_path / "summary.json").write_text("{}")
    with pytest.raises(RunError, match=r"config\.json: lacks the stage that made it"):
        load_head(tmp_path)
