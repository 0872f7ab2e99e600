"""What evaluation refuses by name: runs, caches and predictions that are missing, damaged or others."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import h5py
import pytest
from safetensors.torch import save_file
from support.evaluating import IDENTITY, copy_of, settings, two_heads, write_split
from support.trained import stamps, weights

from cache import CacheError, StaleCacheError
from pipeline.errors import ConfigError, RunError
from pipeline.evaluation.logits import score_run
from pipeline.evaluation.stage import evaluate


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache and two heads on it: ten, and linear."""
    return two_heads(tmp_path_factory.mktemp("made"))


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        (
            {"trunk": {**IDENTITY["trunk"], "weights": "cd" * 32}},
            r"trunk\.weights: .*abab.* → .*cdcd.* \(--weights\)",
        ),
        ({"transform": {"image_px": 64}}, r"transform\.image_px: 32 → 64 \(--image-px\)"),
        (
            {"views": "mirror"},
            r'views: "plain" → "mirror" \(--views\); give a --cache that extract_features\.py',
        ),
        ({"dtype": "float32"}, r'dtype: "float16" → "float32" \(--dtype\)'),
        ({"precision": "bfloat16"}, r'precision: "float32" → "bfloat16" \(--precision\)'),
    ],
)
def test_maps_made_otherwise_are_refused_by_name(
    changed: dict[str, Any], named: str, made: Path, tmp_path: Path
) -> None:
    other = write_split(tmp_path, "test", 20, **changed)
    with pytest.raises(StaleCacheError, match=named):
        evaluate(settings(made / "ten", cache=str(other)))


def test_other_images_and_unused_views_are_no_reason_to_refuse(made: Path, tmp_path: Path) -> None:
    other = write_split(tmp_path, "test", 20)
    found = json.loads(evaluate(settings(made / "ten", cache=str(other))).read_text())
    assert found["images"] == 20
    cache = tmp_path / "augmented"
    shutil.copytree(made / "cache", cache)
    run = tmp_path / "run"
    shutil.copytree(made / "ten", run)
    described = json.loads((run / "config.json").read_text())
    described["cache_identity"] |= {"views": "augment:3", "views_seed": 0}
    (run / "config.json").write_text(json.dumps(described))
    evaluate(settings(run, cache=str(cache)))


def test_a_missing_or_unfinished_run_is_named(made: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"nowhere: no run there; train_head\.py --out"):
        evaluate(settings(tmp_path / "nowhere"))
    half = copy_of(made / "ten", tmp_path)
    for name in ("summary.json", "head.safetensors"):
        (half / name).unlink()
    with pytest.raises(RunError, match="copy: the run isn't finished"):
        evaluate(settings(half))


def test_a_head_that_diverged_is_named_and_has_no_score(made: Path, tmp_path: Path) -> None:
    """In whatever way it is scored: of logits that are NaN none is above the label's."""
    run = copy_of(made / "ten", tmp_path)
    spoilt = weights(run)
    spoilt["head.weight0"][0, 0, 0] = float("nan")
    save_file(spoilt, run / "head.safetensors")
    said = (
        f"^{re.escape(str(run))}: the logits of test image 0 are not finite: .*; train it again with a small"
    )
    with pytest.raises(RunError, match=said):
        evaluate(settings(run))
    with pytest.raises(RunError, match=said):
        score_run(run, device="cpu")


def test_a_folder_of_an_unknown_stage_is_refused(made: Path, tmp_path: Path) -> None:
    run = copy_of(made / "ten", tmp_path)
    (run / "config.json").write_text('{"format": 1, "stage": "dream"}')
    with pytest.raises(RunError, match="expected the stage train or pretrain, found 'dream'"):
        evaluate(settings(run))
    (run / "config.json").write_text('{"format": 1, "stage": ["train"]}')
    with pytest.raises(RunError, match="expected the stage train or pretrain, found"):
        evaluate(settings(run))


@pytest.mark.parametrize(
    "holds",
    [
        "{}",
        '{"heads": []}',
        '{"heads": [{}]}',
        '{"heads": [{"folder": "0"}]}',
        '{"heads": 3}',
        '{"heads": ["a"]}',
        '{"heads": [{"folder": 3, "val_top1": 9}]}',
        '{"heads": [{"folder": "a", "val_top1": "9"}]}',
    ],
)
def test_a_leaderboard_without_scored_heads_is_named(holds: str, tmp_path: Path) -> None:
    (tmp_path / "leaderboard.json").write_text(holds)
    with pytest.raises(RunError, match=r"leaderboard\.json: expected the scored heads of a sweep"):
        evaluate(settings(tmp_path))


@pytest.mark.parametrize("folder", ["../ten", "/etc", "", ".", "a/../../ten", "a\0b"])
def test_a_leaderboard_that_leads_out_of_its_sweep_is_refused(
    folder: str, made: Path, tmp_path: Path
) -> None:
    before = stamps(made)
    sweep = made / "hostile"
    sweep.mkdir(exist_ok=True)
    (sweep / "leaderboard.json").write_text(json.dumps({"heads": [{"folder": folder, "val_top1": 99.0}]}))
    with pytest.raises(RunError, match=r"leaderboard\.json: expected folders inside .*hostile, found '"):
        evaluate(settings(sweep))
    shutil.rmtree(sweep)
    assert stamps(made) == before


def test_a_head_that_is_known_to_have_diverged_is_refused(made: Path, tmp_path: Path) -> None:
    run = copy_of(made / "ten", tmp_path)
    summary = json.loads((run / "summary.json").read_text())
    (run / "summary.json").write_text(json.dumps(summary | {"diverged": True, "val_top1": None}))
    (run / "head.safetensors").unlink()
    with pytest.raises(
        RunError, match="copy: the head diverged, so it has no score; train it again with a sm"
    ):
        evaluate(settings(run))
    sweep = tmp_path / "sweep"
    sweep.mkdir()
    (sweep / "leaderboard.json").write_text(
        json.dumps({"heads": [{"folder": "a", "val_top1": None, "diverged": True}]})
    )
    with pytest.raises(RunError, match="sweep: all heads of this sweep diverged; train with a smaller --lr"):
        evaluate(settings(sweep))


def test_a_cache_without_a_test_split_names_the_command_that_makes_it(made: Path, tmp_path: Path) -> None:
    write_split(tmp_path, "train", 240)
    with pytest.raises(CacheError, match=r"test\.h5: no such file; extract_features\.py --cache "):
        evaluate(settings(made / "ten", cache=str(tmp_path)))


def test_a_class_that_the_cache_lacks_is_named(made: Path, tmp_path: Path) -> None:
    run = copy_of(made / "ten", tmp_path)
    described = json.loads((run / "config.json").read_text())
    described["class_names"][2] = "yak"
    (run / "config.json").write_text(json.dumps(described))
    with pytest.raises(RunError, match=r"test\.h5: lacks the class 'yak' that the head knows"):
        evaluate(settings(run))


def test_damaged_maps_are_not_scored(made: Path, tmp_path: Path) -> None:
    cache = Path(shutil.copytree(made / "cache", tmp_path / "cache"))
    with h5py.File(cache / "test.h5") as file:
        features = file["features"]
        assert isinstance(features, h5py.Dataset)
        offset = features.id.get_offset()
    with open(cache / "test.h5", "r+b") as file:
        file.seek(offset + 100)
        file.write(b"\xaa\xbb")
    with pytest.raises(CacheError, match=r"test\.h5"):
        evaluate(settings(made / "ten", cache=str(cache)))


@pytest.mark.parametrize(
    ("runs", "given", "subject"),
    [
        (["ten"], {"resamples": 300}, "a single head"),
        (["ten"], {"seed": 1}, "a single head"),
        (["ten"], {"draws": 2}, "a single head"),
        (["ten", "linear"], {"test_images": ("flip",)}, "heads"),
        (["ten", "linear"], {"decoders": 2}, "heads"),
    ],
)
def test_a_setting_that_changes_nothing_is_refused(
    runs: list[str], given: dict[str, Any], subject: str, made: Path
) -> None:
    (name,) = given
    said = f"^EvaluateConfig.{name}: has no effect on {subject}; leave --{name.replace('_', '-')} out$"
    with pytest.raises(ConfigError, match=said):
        evaluate(settings(*(made / run for run in runs), **given))
