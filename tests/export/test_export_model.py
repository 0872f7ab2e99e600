"""An exported model gives the run's own logits, in onnxruntime and in torch, whatever the head."""

import builtins
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image
from support.exporting import PX, expected_logits, make_cache, make_run, some_images
from torch import Tensor, nn

from cache import FeatureCache
from pipeline import load_run
from pipeline.config import EvaluateConfig, ExportConfig
from pipeline.errors import ConfigError, RunError, WeightsError
from pipeline.evaluation.stage import evaluate
from pipeline.export import formats, stage
from pipeline.export.model import exportable
from pipeline.export.stage import TOLERANCE, difference, export_model
from pipeline.files import read_json, write_json
from pipeline.heads import HEADS
from pipeline.runs.folder import load_head
from pipeline.trunks import TRUNKS, TrunkInfo

SETTINGS: dict[str, dict[str, Any]] = {
    "fullnet ten.onnx": {"head": "fullnet"},
    "fullnet center.pt2": {"head": "fullnet", "crops": "center", "crop_cells": 2},
    "fullnet five, two layers.pt2": {"head": "fullnet", "crops": "five", "hidden": (7, 5), "dropout": 0.5},
    "fullnet ten-image.onnx": {"head": "fullnet", "crops": "ten-image"},
    "fullnet full.pt2": {"head": "fullnet", "crops": "full"},
    "linear.pt2": {"head": "linear"},
    "gap.onnx": {"head": "gap", "crops": "center"},
    "gmp.pt2": {"head": "gmp", "crops": "ten-image"},
    "csra.onnx": {"head": "csra", "crops": "center", "csra_temperature": (1.0, 99.0)},
    "recurrent-attention.onnx": {"head": "recurrent-attention", "steps": 1},
    "recurrent-attention fixed.pt2": {"head": "recurrent-attention", "steps": 2, "region_start": "fixed"},
    "knn.onnx": {"head": "knn"},
    "logistic.pt2": {"head": "logistic"},
}
"""Every head, and every kind of crops; the more varied graphs in ONNX."""
SUFFIXES = (".onnx", ".pt2")
SEVERAL = ("fullnet ten.onnx", "recurrent-attention fixed.pt2", "knn.onnx", "logistic.pt2")


@pytest.fixture(scope="module", autouse=True)
def tiny_trunk() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(TRUNKS, "tiny", TrunkInfo("support.exporting:tiny", "a toy"))
        yield


@pytest.fixture(scope="module")
def caches(tmp_path_factory: pytest.TempPathFactory, tiny_trunk: None) -> dict[str, Path]:
    """One label an image, several, and the first in float16 and int8."""
    folder = tmp_path_factory.mktemp("caches")
    return {
        "one": make_cache(folder / "one"),
        "several": make_cache(folder / "several", several=True),
        "half": make_cache(folder / "half", dtype="float16"),
        "int8": make_cache(folder / "int8", dtype="int8"),
    }


def run_pt2(path: Path, images: Tensor) -> list[Tensor]:
    return list(torch.export.load(path).module()(images))


def run_onnx(path: Path, images: Tensor) -> list[Tensor]:
    session = onnxruntime.InferenceSession(path)
    return [torch.from_numpy(found) for found in session.run(None, {"images": images.numpy()})]


def relative(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).abs().max() / expected.abs().max())


def compare(path: Path, run: Path, *, several: bool) -> None:
    """With the run's own logits, at three sizes of batches."""
    loaded = load_head(run)
    for count in (1, 3, 64):
        images = some_images(count)
        expected = expected_logits(loaded, images, torch.float32)
        probabilities, logits = (run_onnx if path.suffix == ".onnx" else run_pt2)(path, images)
        assert logits.shape == (count, 3)
        assert relative(logits, expected) < 1e-5
        wanted = expected.double()
        wanted = 1 / (1 + (-wanted).exp()) if several else wanted.exp() / wanted.exp().sum(1, keepdim=True)
        torch.testing.assert_close(probabilities.double(), wanted, rtol=1e-5, atol=1e-6)


def test_every_head_is_among_those_that_are_exported() -> None:
    assert {settings["head"] for settings in SETTINGS.values()} == set(HEADS)


@pytest.mark.no_cover
@pytest.mark.parametrize("name", SETTINGS)
def test_any_head_gives_the_run_s_logits(caches: dict[str, Path], tmp_path: Path, name: str) -> None:
    run = make_run(caches["one"], tmp_path / "run", **SETTINGS[name])
    path = export_model(ExportConfig(run=str(run), out=str(tmp_path / name)))
    compare(path, run, several=False)


@pytest.mark.parametrize("name", SEVERAL)
def test_a_head_for_several_labels_gives_a_probability_of_each(
    caches: dict[str, Path], tmp_path: Path, name: str
) -> None:
    run = make_run(caches["several"], tmp_path / "run", **SETTINGS[name])
    path = export_model(ExportConfig(run=str(run), out=str(tmp_path / name)))
    compare(path, run, several=True)
    if path.suffix == ".onnx":
        facts = onnxruntime.InferenceSession(path).get_modelmeta().custom_metadata_map
        assert json.loads(facts["thresholds"]) == pytest.approx(load_run(run).thresholds)


@pytest.mark.parametrize("stored", ["half", "int8"])
def test_maps_are_rounded_as_the_cache_stores_them(
    caches: dict[str, Path], tmp_path: Path, stored: str
) -> None:
    """Scores are those of evaluate.py, on the test images of a float16 or int8 cache."""
    run = make_run(caches[stored], tmp_path / "run", head="fullnet")
    evaluate(EvaluateConfig(run=(str(run),), device="cpu"))
    expected = torch.from_numpy(np.load(run / "eval" / "predictions.npz")["logits"])
    folder, paths = caches[stored].parent / "images", FeatureCache(caches[stored] / "test.h5").paths
    images = torch.from_numpy(np.stack([_pixels(folder / path) for path in paths]))
    unrounded = relative(expected_logits(load_head(run), images, torch.float32), expected)
    for suffix, ran_by in ((".pt2", run_pt2), (".onnx", run_onnx)):
        path = export_model(ExportConfig(run=str(run), out=str(tmp_path / f"m{suffix}")))
        # Here and there a number's last digit differs, and another one is stored for it.
        assert relative(ran_by(path, images)[1], expected) < unrounded / 4


def test_the_trunk_is_shipped_as_extraction_runs_it(caches: dict[str, Path], tmp_path: Path) -> None:
    """Norms folded and channels last, so that torch adds up in the same order, and in less time."""
    run = make_run(caches["half"], tmp_path / "run", head="linear")
    program = formats.record(exportable(run, None, None))
    assert not [node.name for node in program.graph.nodes if "batch_norm" in node.name]
    [weight] = [values for values in program.state_dict.values() if values.ndim == 4 and len(values) == 8]
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert not weight.is_contiguous()


@pytest.mark.parametrize("off", [0.0, 0.02, float("nan")])
def test_numbers_rounded_to_their_neighbours_are_allowed_and_nothing_else(
    caches: dict[str, Path], tmp_path: Path, off: float
) -> None:
    """Another runtime's float32 sums differ; where all logits are near zero, that shows."""
    run = make_run(caches["half"], tmp_path / "run", head="linear")
    made = exportable(run, None, None)
    model, images = made.model, made.images(3)
    last = nn.Linear(8 * 5 * 5, 3)
    model.head = nn.Sequential(nn.Flatten(), last)
    nn.init.normal_(last.weight, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        last.bias -= 0.99 * model(images)[1].mean(0)

    def runtime(images: Tensor) -> list[Tensor]:
        """Of every fifty numbers that aren't zero one is stored as the next one."""
        stored = model.stored_maps(model.maps(images)).half().flatten()
        rows = stored.nonzero()[::50]
        stored[rows] = torch.nextafter(stored[rows], torch.tensor(torch.inf, dtype=torch.half))
        maps = stored.float().unflatten(0, (-1, 1, 8, 5, 5))
        return [values * (1 + off) for values in model.scores(maps)]

    with torch.no_grad():
        found, allowed = difference(made, runtime)
    assert (found < allowed) == (off == 0)
    assert found > TOLERANCE


def _pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path)).transpose(2, 0, 1)


def test_the_file_says_what_it_takes_and_gives(caches: dict[str, Path], tmp_path: Path) -> None:
    run = make_run(caches["one"], tmp_path / "a run", head="linear")
    onnx, pt2 = (export_model(ExportConfig(run=str(run), out=str(tmp_path / f"m{s}"))) for s in SUFFIXES)
    session = onnxruntime.InferenceSession(onnx)
    found = session.get_modelmeta().custom_metadata_map
    texts = {"metadata.json": ""}
    torch.export.load(pt2, extra_files=texts)
    assert json.loads(texts["metadata.json"]) == found
    assert json.loads(found["class_names"]) == ["ant", "bee", "cow"]
    assert (found["image_px"], found["resize"]) == (str(PX), "shorter-side-then-center-crop")
    assert found["cache_key"] == read_json(run / "config.json")["cache_key"]
    assert found["run"] == "a run"
    assert json.loads(found["trunk"])["name"] == "tiny"
    [images] = session.get_inputs()
    assert (images.name, images.type, images.shape) == ("images", "tensor(uint8)", ["batch", 3, PX, PX])
    assert [each.name for each in session.get_outputs()] == ["probabilities", "logits"]
    for path in (onnx, pt2):
        assert str(Path(stage.__file__).parents[2]).encode() not in path.read_bytes(), (
            "a path of this machine"
        )


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_that_scores_otherwise_is_not_left(
    caches: dict[str, Path], tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(caches["one"], tmp_path / "run", head="linear")
    out = tmp_path / f"m{suffix}"
    out.write_text("the one before")
    record = formats.record

    def wrong(made: Any) -> torch.export.ExportedProgram:
        program = record(made)
        for name, values in program.state_dict.items():
            if isinstance(values, nn.Parameter):
                program.state_dict[name] = nn.Parameter(1.001 * values, requires_grad=False)
        return program

    monkeypatch.setattr(formats, "record", wrong)
    with pytest.raises(
        RunError, match=rf"m{suffix}: \w+ gives logits that differ by .*; nothing was written"
    ):
        export_model(ExportConfig(run=str(run), out=str(out)))
    assert out.read_text() == "the one before"
    assert [path.name for path in tmp_path.iterdir() if "part" in path.name] == []


def test_a_sweep_ships_its_best_head(caches: dict[str, Path], tmp_path: Path) -> None:
    run = make_run(caches["one"], tmp_path / "run", head="linear", lr=(0.1, 1e-6), epochs=4)
    best = read_json(run / "leaderboard.json")["heads"][0]["folder"]
    assert export_model(ExportConfig(run=str(run))) == run / best / "model.onnx"


def test_what_can_t_be_exported_is_refused_in_a_line(
    caches: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(caches["one"], tmp_path / "run", head="linear")
    described = read_json(run / "config.json")
    with pytest.raises(ConfigError, match=r"out: expected one of FILE\.onnx, FILE\.pt2, found 'm\.pth'"):
        export_model(ExportConfig(run=str(run), out="m.pth"))
    with pytest.raises(RunError, match="no run there"):
        export_model(ExportConfig(run=str(tmp_path)))
    write_json(run / "config.json", {**described, "cache_identity": {"imported": "maps.npy"}})
    with pytest.raises(RunError, match="learned from maps whose trunk isn't known"):
        export_model(ExportConfig(run=str(run)))
    other = {**described["cache_identity"], "trunk": {"name": "tiny", "version": 1, "weights": "0" * 64}}
    write_json(run / "config.json", {**described, "cache_identity": other})
    with pytest.raises(WeightsError, match="not the one that made the features"):
        export_model(ExportConfig(run=str(run)))
    write_json(run / "config.json", described)
    monkeypatch.setattr(formats, "ONNX_BYTES", 100)
    with pytest.raises(ConfigError, match=r"--out: a file in ONNX holds at most 2 GB.*; give a \.pt2"):
        export_model(ExportConfig(run=str(run)))


def test_a_missing_extra_is_one_line(
    caches: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, real = make_run(caches["one"], tmp_path / "run", head="linear"), builtins.__import__

    def without(name: str, *arguments: Any, **named: Any) -> Any:
        if name == "onnxscript":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *arguments, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    advice = re.escape('--out: .onnx: needs the package onnxscript; pip install "ten-crop-cache[export]"')
    with pytest.raises(ConfigError, match=advice):
        export_model(ExportConfig(run=str(run)))
