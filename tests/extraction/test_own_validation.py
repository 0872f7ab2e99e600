"""Validation images that a dataset brings itself: they choose, of trunks and heads, and train none."""

from pathlib import Path

import numpy as np
import pytest
from support.folders import write

from cache import FeatureCache
from pipeline.config import EvaluateConfig, ExtractConfig, PretrainConfig, TrainConfig
from pipeline.evaluation.stage import evaluate
from pipeline.extraction.stage import extract
from pipeline.files import read_json
from pipeline.pretraining.network import open_split
from pipeline.runs.folder import load_head
from pipeline.training.stage import parts_of, train


def dataset(root: Path, kind: str) -> str:
    value = 0
    for part, count in (("train", 6), ("val", 4), ("test", 3)):
        for name in ("a", "b") * count:
            write(root / part / name / f"{value}.png", value)
            value += 1
    if kind == "folder":
        return f"folder:{root}"
    lines = [
        f"{path.relative_to(root)},{path.parent.name},{path.parent.parent.name}"
        for path in root.rglob("*.png")
    ]
    (root / "t.csv").write_text("\n".join(["image,labels,split", *lines]))
    return f"csv:{root}/t.csv"


@pytest.mark.parametrize("kind", ["folder", "csv"])
def test_own_validation_images_choose_from_extraction_to_scores(
    tmp_path: Path, weights: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    spec, cache = dataset(tmp_path / "photos", kind), tmp_path / "cache"
    extract(ExtractConfig(dataset=spec, weights=str(weights), cache=str(cache), decoders=1, device="cpu"))
    said = capsys.readouterr().out
    assert "train: 12 images of 2 classes: a 6, b 6\n" in said
    assert "validation images of its own: 8 images of 2 classes: a 4, b 4\n" in said
    assert "not used" not in said
    made = FeatureCache(cache / "train.h5")
    assert made.identity["val_rows"] == 8
    assert "val_rows" not in FeatureCache(cache / "test.h5").identity

    base = TrainConfig(cache=str(cache), out=str(tmp_path / "run"), head="linear", epochs=1, device="cpu")
    run = train(base)
    for part, name in zip(parts_of(base, made), ("train", "val"), strict=True):
        assert {made.paths[row].split("/")[0] for row in part.rows} == {name}
    assert "12 images to train on, 8 to validate" in capsys.readouterr().out
    assert load_head(run).config.val_fraction is None
    evaluate(EvaluateConfig(run=(str(run),), device="cpu"))
    assert read_json(run / "eval/metrics.json")["images"] == 6

    if kind == "folder":
        images, _, _, is_held = open_split(PretrainConfig(dataset=spec), "train")
        assert np.array_equal(is_held, [path.startswith("val/") for path in images.paths])
        assert not open_split(PretrainConfig(dataset=spec, val_fraction=0.0), "train")[3].any()
