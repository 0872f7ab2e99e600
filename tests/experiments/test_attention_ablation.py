"""The comparison of heads on images with several labels: from a cache to a table."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import average_precision_score
from support.toy import write_cache

from cache import FeatureCache
from experiments.attention.ablation import BASE, HEADS, ablate, variants
from experiments.attention.config import AttentionConfig
from pipeline.errors import ConfigError, DataError
from pipeline.evaluation.logits import score_run

pytestmark = pytest.mark.usefixtures("few_scenes")


def small(cache: Path, out: Path) -> AttentionConfig:
    return AttentionConfig(
        cache=str(cache),
        out=str(out),
        max_steps=2,
        hidden=8,
        region_cells=2,
        seeds=2,
        epochs=1,
        batch=30,
        pooling_lr=(0.1,),
        pooling_decay=(5e-4,),
        attention_decay=(5e-4,),
        device="cpu",
    )


@pytest.mark.no_cover
def test_every_variant_is_scored_on_the_test_split_and_compared(scenes_cache: Path, tmp_path: Path) -> None:
    config = small(scenes_cache, tmp_path / "out")
    facts = json.loads(ablate(config).read_text())
    names = [(line["part"], line["name"]) for line in facts["variants"]]
    assert names == [(line.part, line.name) for line in variants(config)]
    assert len(names) == 2 * len(HEADS) + 2 + 2 + 4 + 1
    for line in variants(config):
        trained = json.loads((config.out_dir / "runs" / line.part / line.name / "config.json").read_text())
        assert {name: trained[name] for name in line.changes} == json.loads(json.dumps(line.changes))
    table = (tmp_path / "out/attention.md").read_text()
    labels = FeatureCache(scenes_cache / "test.h5").labels
    for line in facts["variants"]:
        assert len(line["map"]) == 2
        assert f"{np.mean(line['map']):.2f} ± {np.std(line['map'], ddof=1):.2f}" in table
        assert ("hits" in line) == line["name"].startswith(
            (BASE.head, "K =", "regions", "without", "softmax")
        )
        assert (line["minus_base"] is None) == (line["name"] == BASE.name)
    gmp = next(line for line in facts["variants"] if line["name"] == "gmp, full")
    folder = tmp_path / "out/runs/heads/gmp, full"
    for member, found in zip(sorted(folder.glob("lr*")), gmp["map"], strict=True):
        logits = score_run(member).logits
        scores = [
            average_precision_score(labels[:, k], logits[:, k])
            for k in range(10)
            if (labels[:, k] == 1).any()
        ]
        assert found == pytest.approx(100 * np.mean(scores))


@pytest.mark.faults
def test_it_goes_on_where_it_was(
    scenes_cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = small(scenes_cache, tmp_path / "out")
    first = ablate(config).read_bytes()
    capsys.readouterr()
    assert ablate(config).read_bytes() == first
    assert "trained in" not in capsys.readouterr().out


def test_a_variant_changes_what_its_name_says() -> None:
    lines = [line for line in variants(AttentionConfig(max_steps=2)) if line.part != "heads"]
    assert {(line.head, line.crops) for line in lines} == {(BASE.head, BASE.crops)}
    assert {(line.part, line.name): line.changes for line in lines} == {
        ("steps", "K = 1"): {"steps": 1},
        ("steps", "K = 2"): {"steps": 2},
        ("start", "regions start as the whole map"): {"region_start": "whole"},
        ("start", "regions stay at their anchors"): {"region_start": "fixed"},
        ("constraints", "without anchor"): {"constraints": ("scale", "positive")},
        ("constraints", "without scale"): {"constraints": ("anchor", "positive")},
        ("constraints", "without positive"): {"constraints": ("anchor", "scale")},
        ("constraints", "without any"): {"localisation": 0.0},
        ("loss", "softmax-square"): {"loss": "softmax-square"},
    }


def test_without_its_dataset_heads_are_compared_all_the_same(
    scenes_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def gone(*_: object, **__: object) -> None:
        raise DataError("scenes: no such folder")

    monkeypatch.setattr("pipeline.evaluation.regions.images.open_dataset", gone)
    config = dataclasses.replace(small(scenes_cache, tmp_path / "out"), parts=("start",))
    facts = json.loads(ablate(config).read_text())
    assert not any("hits" in line for line in facts["variants"])
    assert "regions can't be compared with boxes: scenes: no such folder" in capsys.readouterr().out


def test_five_regions_are_the_base_and_no_line_of_their_own() -> None:
    config = AttentionConfig(parts=("steps",), max_steps=6)
    assert [line.name for line in variants(config)[1:]] == [f"K = {k}" for k in (1, 2, 3, 4, 6)]


def test_a_crop_named_twice_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^AttentionConfig\.crops: expected values that differ"):
        AttentionConfig(crops=("ten", "ten"))


def test_images_with_one_label_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--cache: expected images with several labels"):
        ablate(small(write_cache(tmp_path), tmp_path / "out"))
