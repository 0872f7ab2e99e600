"""--stage: heads learn and are scored on a checked copy of a cache in a store, as on the cache itself."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.stores import in_memory, web
from support.toy import config, write_cache

from cache import FeatureCache
from pipeline.config import EvaluateConfig, ExtractConfig, PredictConfig, SweepConfig
from pipeline.errors import UserError
from pipeline.evaluation.stage import evaluate
from pipeline.prediction.stage import predict
from pipeline.training.stage import train
from pipeline.training.sweep import sweep

pytest.importorskip("aiohttp", reason="the extra 'remote' is not installed")


@pytest.fixture
def near(tmp_path: Path) -> Path:
    """A cache with both splits."""
    write_cache(tmp_path / "there/near", 90)
    return write_cache(tmp_path / "there/near", 30, split="test")


def test_a_head_learns_and_is_scored_on_the_copy_as_on_the_cache(tmp_path: Path, near: Path) -> None:
    stage = str(tmp_path / "fast")
    with web(near) as served:
        train(config(near, tmp_path / "run"))
        train(replace(config(near, tmp_path / "far"), cache=served.url, stage=stage))
        assert (tmp_path / "far/head.safetensors").read_bytes() == (
            tmp_path / "run/head.safetensors"
        ).read_bytes()
        expected = evaluate(EvaluateConfig(run=(str(tmp_path / "run"),), device="cpu"))
        found = evaluate(EvaluateConfig(run=(str(tmp_path / "far"),), stage=stage, device="cpu"))
        assert found == tmp_path / "far/eval/metrics.json"
        scores, others = (json.loads(path.read_text()) for path in (found, expected))
        assert scores["top1"] == others["top1"]
        assert scores["trained_on"] == others["trained_on"] == 0
        assert scores["cache"]["path"].startswith(f"{stage}/")
        with pytest.raises(UserError, match=r"expected a folder on a disk, found http://.*add --stage DIR"):
            evaluate(EvaluateConfig(run=(str(tmp_path / "far"),), device="cpu"))
    (copy,) = (tmp_path / "fast").glob("*/test.h5")
    assert copy.read_bytes() == (near / "test.h5").read_bytes()


def test_staging_is_no_other_run(tmp_path: Path, near: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(config(near, tmp_path / "run"))
    train(config(near, tmp_path / "run", stage=str(tmp_path / "fast")))
    assert f"{tmp_path}/run: up to date" in capsys.readouterr().out
    assert list((tmp_path / "fast").glob("near-*/train.h5"))


def test_groups_and_predictions_share_a_copy(tmp_path: Path, near: Path) -> None:
    stage, url = str(tmp_path / "fast"), in_memory(near, tmp_path.name)
    heads = SweepConfig(
        cache=url, stage=stage, head=("logistic", "gap"), epochs=2, out=str(tmp_path / "sweep"), device="cpu"
    )
    sweep(heads)
    for cache in (url, f"{url}/test.h5", str(near)):
        out = tmp_path / f"{len(cache)}.csv"
        predict(
            PredictConfig(run=str(tmp_path / "sweep"), cache=cache, stage=stage, out=str(out), device="cpu")
        )
        assert out.read_bytes() == next(tmp_path.glob("*.csv")).read_bytes()
    (copy,) = (tmp_path / "fast").glob(f"{tmp_path.name}-*/train.h5")
    np.testing.assert_array_equal(FeatureCache(copy).features, FeatureCache(near / "train.h5").features)


def test_a_cache_in_a_store_needs_a_stage_and_nothing_is_written_to_one(tmp_path: Path) -> None:
    for url in ("s3://bucket/cache", "https://host/cache/test.h5"):
        with pytest.raises(UserError, match=f"--cache: expected a folder on a disk, found {url}: .*--stage"):
            train(replace(config(tmp_path, tmp_path / "run"), cache=url))
    assert not (tmp_path / "run").exists()
    with pytest.raises(UserError, match="cache: expected text that names a file or folder on a disk, found"):
        ExtractConfig(cache="s3://bucket/cache")
    with pytest.raises(UserError, match="has no effect without --cache"):
        predict(PredictConfig(images=("a.png",), stage="x"))
