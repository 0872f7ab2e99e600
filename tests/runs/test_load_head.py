"""A trained head comes back from its folder as it was kept, or the file that is wrong is named."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from support.toy import CLASSES, config, write_cache
from support.trained import stamps, weights

from cache import FeatureCache
from pipeline.config import EvaluateConfig, SweepConfig
from pipeline.errors import RunError, WeightsError
from pipeline.evaluation.stage import evaluate
from pipeline.runs.folder import load_head
from pipeline.training import stage
from pipeline.training.stage import train
from pipeline.training.sweep import sweep


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cache(tmp_path_factory.mktemp("cache"))


def test_kept_weights_score_what_the_summary_says(tmp_path: Path) -> None:
    noisy = write_cache(tmp_path / "noisy", noise=4.0)
    settings = config(noisy, tmp_path / "run", val_fraction=0.3, crops="five", dropout=0.5, hidden=(32,))
    run = train(settings)
    data, loaded = FeatureCache(noisy / "train.h5"), load_head(run)
    assert (loaded.cache_key, loaded.cache_images) == (data.key, data.images_digest)
    _, val = stage.parts_of(settings, data)
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


def test_attention_weights_in_an_older_order_are_refused(tmp_path: Path, cache: Path) -> None:
    run = train(config(cache, tmp_path / "run", head="recurrent-attention", epochs=1))
    then = {name.replace("look_", "region_"): tensor for name, tensor in weights(run).items()}
    save_file(then, run / "head.safetensors")
    with pytest.raises(WeightsError, match=r"head\.safetensors: head\.look_bias: .*; train the head again"):
        load_head(run)


def test_maps_of_another_shape_are_refused(tmp_path: Path, cache: Path) -> None:
    loaded = load_head(train(config(cache, tmp_path / "run")))
    with pytest.raises(RunError, match="expected maps of 4×5×5 in 1 views, as in training, found 4×6×5"):
        loaded.logits(torch.zeros(2, 1, 4, 6, 5))


def test_a_folder_without_a_finished_run_is_refused(tmp_path: Path, cache: Path) -> None:
    with pytest.raises(RunError, match="no run there"):
        load_head(tmp_path)
    run = train(config(cache, tmp_path / "run"))
    (run / "summary.json").unlink()
    with pytest.raises(RunError, match="isn't finished"):
        load_head(run)


@pytest.mark.parametrize("version", [None, 0, 2, "1"])
def test_a_run_of_another_version_is_refused_in_one_line(
    tmp_path: Path, cache: Path, version: object
) -> None:
    """By everything that reads a run folder; nothing in it changes."""
    run = train(config(cache, tmp_path / "run"))
    described = json.loads((run / "config.json").read_text())
    assert described.pop("format") == 1
    (run / "config.json").write_text(
        json.dumps(described if version is None else {"format": version, **described})
    )
    before = stamps(run)
    several = SweepConfig(cache=str(cache), out=str(run), head=("linear", "knn"), device="cpu")
    readers: list[Callable[[], object]] = [
        lambda: load_head(run),
        lambda: train(config(cache, run)),
        lambda: sweep(several),
        lambda: evaluate(EvaluateConfig(run=(str(run),), device="cpu")),
    ]
    for read in readers:
        with pytest.raises(RunError) as caught:
            read()
        said = f"expected the format 1, found {version!r}; give another folder, or make it again"
        assert str(caught.value) == f"{run}/config.json: {said}"
    assert stamps(run) == before


def test_a_setting_that_config_json_lacks_is_named(tmp_path: Path, cache: Path) -> None:
    run = train(config(cache, tmp_path / "run"))
    described = json.loads((run / "config.json").read_text())
    del described["hidden"]
    (run / "config.json").write_text(json.dumps(described))
    with pytest.raises(
        RunError, match=r"config\.json: lacks 'hidden'; train the head again with another --out"
    ):
        load_head(run)
    with pytest.raises(RunError, match=r"holds a run made with --hidden unset, not 6"):
        train(config(cache, run))


@pytest.mark.parametrize(
    ("head", "has", "lacks"),
    [
        ("fullnet", {"crops", "hidden", "lr"}, {"csra_lambda", "steps", "constraints"}),
        ("csra", {"csra_lambda", "crop_cells"}, {"hidden", "dropout", "region_cells"}),
        ("knn", {"loss", "val_fraction"}, {"lr", "seed", "epochs", "crops", "hidden"}),
    ],
)
def test_config_json_holds_what_the_head_reads(
    tmp_path: Path, cache: Path, head: str, has: set[str], lacks: set[str]
) -> None:
    run = train(config(cache, tmp_path / "run", head=head, epochs=1))
    found = json.loads((run / "config.json").read_text()).keys()
    assert has <= found
    assert not lacks & found
    assert load_head(run).config.head == head


def test_a_sweep_s_config_json_holds_what_one_of_its_heads_reads(tmp_path: Path, cache: Path) -> None:
    several = SweepConfig(
        cache=str(cache), out=str(tmp_path), head=("linear", "csra"), epochs=1, device="cpu"
    )
    found = json.loads((sweep(several) / "config.json").read_text()).keys()
    assert {"csra_lambda", "crops", "lr"} <= found
    assert not {"hidden", "steps", "hidden_shapes"} & found
