"""A class of which there is no image: heads are trained and scored all the same, and the class is named."""

from pathlib import Path

import numpy as np
import pytest
from support.toy import config

from cache import CacheHeader, CacheWriter
from pipeline.config import EvaluateConfig
from pipeline.evaluation.stage import evaluate
from pipeline.files import read_json
from pipeline.heads import HEADS
from pipeline.training.stage import train

CLASSES = ("things", "ant", "bee", "owl")
IDENTITY = {
    "trunk": {"name": "toy", "version": 1, "weights": "ab" * 32},
    "transform": {"image_px": 32},
    "views": "plain",
    "precision": "float32",
}


def write_cache(folder: Path, several: bool) -> Path:
    """Bright ants and dark bees; of the other two classes there is no image."""
    for number, split in enumerate(("train", "test"), 1):
        names = np.tile([1, 2], 20)
        labels = np.eye(4, dtype=np.int8)[names] if several else names
        identity = {**IDENTITY, "split": split, "image_sizes": split}
        paths = [f"{split}/{i}.png" for i in range(40)]
        header = CacheHeader((40, 1, 3, 5, 5), "float32", labels, paths, CLASSES, identity)
        maps = (
            np.random.default_rng(number).normal(size=(40, 1, 3, 5, 5)) + 4 * names[:, None, None, None, None]
        )
        with CacheWriter(folder / f"{split}.h5", header) as writer:
            writer.write(range(40), maps.astype(np.float32), np.full((40, 16), number, np.uint8))
            writer.publish()
    return folder


@pytest.mark.no_cover
@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("head", HEADS)
def test_every_head_learns_the_other_classes(
    tmp_path: Path, head: str, several: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    cache = write_cache(tmp_path / "cache", several)
    small = {"crops": "full"} if "crops" in HEADS[head].reads else {}
    if head == "recurrent-attention":
        small = {"lr": (0.02,), "epochs": 30}
    run = train(config(cache, tmp_path / "run", head=head, **{"epochs": 6, "precision": "float32"} | small))
    said = capsys.readouterr().out
    assert said.count("no image to train on shows things, owl, so") == 1
    assert said.count("--classes ant bee\n") == 1
    score = "val_map" if several else "val_top1"
    assert read_json(run / "summary.json")[score] >= 75
    evaluate(EvaluateConfig(run=(str(run),), device="cpu"))
    per_class = read_json(run / "eval/metrics.json")["per_class"]
    assert per_class["things"] is per_class["owl"] is None
    assert min(per_class["ant"], per_class["bee"]) >= 60
