"""A sweep over several shapes: each group as in its own run, and none lost with another."""

from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from support.toy import config, write_cache
from support.trained import board, stamps
from torch.testing import assert_close

from pipeline.config import SweepConfig, TrainConfig
from pipeline.errors import CacheError, ConfigError, RunError
from pipeline.runs.claim import held
from pipeline.runs.find_run import find_run
from pipeline.runs.folder import load_head
from pipeline.training.stage import train
from pipeline.training.sweep import sweep

SHAPES = {"head": ("fullnet", "linear", "knn"), "crops": ("ten", "center"), "hidden_shapes": ("6", "6x5")}
NAMES = ["fullnet-ten-6", "fullnet-ten-6x5", "fullnet-center-6", "fullnet-center-6x5", "linear", "knn"]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cache(tmp_path_factory.mktemp("cache"), noise=4.0)


def shapes(cache: Path, out: Path, **settings: Any) -> SweepConfig:
    small = {"epochs": 4, "batch": 16, "precision": "float64", "device": "cpu", "val_fraction": 0.3}
    shaped = SHAPES if "fullnet" in settings.get("head", SHAPES["head"]) else {}
    return SweepConfig(cache=str(cache), out=str(out), **{**small, **shaped, **settings})


def test_groups_are_the_combinations_that_differ(tmp_path: Path) -> None:
    groups = SweepConfig(out=str(tmp_path), **SHAPES).groups()  # pyright: ignore[reportArgumentType]
    assert [group.run_dir for group in groups] == [tmp_path / name for name in NAMES]
    assert [group.hidden for group in groups[:2]] == [(6,), (6, 5)]


def test_widths_given_to_hidden_are_the_layers_of_one_network() -> None:
    (group,) = SweepConfig(hidden=(4096, 4096)).groups()
    assert group.hidden == (4096, 4096)


def test_a_single_shape_has_the_run_folder_itself() -> None:
    assert SweepConfig().groups() == [TrainConfig().resolved()]
    assert SweepConfig().run_dir == TrainConfig().run_dir
    several = SweepConfig(crops=("ten", "full"))
    assert str(several.run_dir) == "artifacts/runs/digits-alexnet-cifar-plain-fullnet-ten-full"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"hidden_shapes": ("512,256",)},
            "SweepConfig.hidden_shapes: expected widths up to 65,536, like 512 or",
        ),
        ({"hidden_shapes": ("0",)}, "SweepConfig.hidden_shapes: expected widths"),
        ({"hidden_shapes": ("99999",)}, "SweepConfig.hidden_shapes: expected widths .* found '99999'"),
        ({"hidden": ()}, "SweepConfig.hidden: expected at least one value"),
        ({"crops": ("ten", "ten")}, "SweepConfig.crops: expected values that differ"),
        ({"csra_temperature": (1.0, 1.0)}, "SweepConfig.csra_temperature: expected values that differ"),
        ({"constraints": ("anchor", "anchor")}, "SweepConfig.constraints: expected values that differ"),
        ({"head": ("fullnet", "lstm")}, "SweepConfig.head: expected one of linear, fullnet"),
        (
            {"crops": ("full",), "crop_cells": 2},
            "SweepConfig.crop_cells: has no effect on --crops full; leave it out",
        ),
        (
            {"hidden": (6,), "hidden_shapes": ("5",)},
            "SweepConfig.hidden: has no effect beside --hidden-shapes; leave",
        ),
    ],
)
def test_shapes_that_make_no_sense_are_refused_by_field(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SweepConfig(**settings)


@pytest.mark.parametrize("jobs", [1, 2])
def test_each_head_of_every_group_ends_as_in_its_own_run(
    tmp_path: Path, cache: Path, jobs: int, capsys: pytest.CaptureFixture[str]
) -> None:
    out = sweep(shapes(cache, tmp_path / "all", jobs=jobs, seed=(3, 5)))
    heads = board(out)["heads"]
    assert len(heads) == 2 * 5 + 1  # the nearest neighbours have no seed
    ranks = [(-head["val_top1"], head["val_loss"]) for head in heads]
    assert ranks == sorted(ranks)
    assert find_run(out) == out / heads[0]["folder"]
    shape = {"head": "fullnet", "crops": "center", "hidden": (6, 5), "val_fraction": 0.3}
    alone = train(config(cache, tmp_path / "alone", seed=(5,), **shape))
    member = out / "fullnet-center-6x5" / "lr0.1-wd0.0005-seed5"
    for name, values in load_file(alone / "head.safetensors").items():
        assert_close(load_file(member / "head.safetensors")[name], values, rtol=0, atol=1e-10)
    for head in heads:
        assert load_head(out / head["folder"]).config.group_name == head["group"]
    said = capsys.readouterr().out
    assert all(f"\n{name} " in said for name in NAMES)  # the leaderboard
    assert "(6 of 6)" in said


def test_a_rerun_with_more_shapes_trains_only_those(tmp_path: Path, cache: Path) -> None:
    out = sweep(shapes(cache, tmp_path / "run", crops=("ten",)))
    before = stamps(out / "fullnet-ten-6")
    assert sweep(shapes(cache, tmp_path / "run")) == out
    assert stamps(out / "fullnet-ten-6") == before
    assert sorted({head["group"] for head in board(out)["heads"]}) == sorted(NAMES)


def test_a_group_that_fails_leaves_the_others_trained(tmp_path: Path, cache: Path) -> None:
    """The cache has no mirrored images."""
    settings = shapes(
        cache, tmp_path / "run", head=("fullnet",), crops=("ten-image", "ten"), hidden_shapes=("6",)
    )
    with pytest.raises(
        RunError, match=r"^1 of 2 groups failed: fullnet-ten-image-6: --crops: .*--views mirror"
    ):
        sweep(settings)
    assert load_head(tmp_path / "run" / "fullnet-ten-6")
    assert not (tmp_path / "run" / "leaderboard.json").exists()
    with pytest.raises(RunError, match="the run isn't finished"):
        load_head(tmp_path / "run")


def test_folders_of_other_runs_are_refused(tmp_path: Path, cache: Path) -> None:
    single = sweep(shapes(cache, tmp_path / "single", head=("linear",)))
    with pytest.raises(RunError, match="holds the run of a single group; give another --out"):
        sweep(shapes(cache, single))
    several = sweep(shapes(cache, tmp_path / "several", head=("linear", "knn")))
    with pytest.raises(RunError, match="holds a sweep over several groups; give another --out"):
        sweep(shapes(cache, several, head=("linear",)))


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_sweep_that_is_refused_leaves_that_which_is_there_as_it_was(
    tmp_path: Path, cache: Path, jobs: int
) -> None:
    out = sweep(shapes(cache, tmp_path / "run", head=("linear", "knn")))
    before = stamps(out)
    with pytest.raises(RunError, match=r"^\S*linear: .*--epochs 4, not 5; give another --out$"):
        sweep(shapes(cache, out, head=("gap", "linear", "knn"), epochs=5, jobs=jobs))
    other = write_cache(tmp_path / "other", images=60)
    with pytest.raises(RunError, match="a --cache with the key"):
        sweep(shapes(other, out, head=("linear", "knn"), jobs=jobs))
    assert stamps(out) == before
    assert find_run(out)


def test_two_sweeps_into_one_folder_do_not_mix(tmp_path: Path, cache: Path) -> None:
    out = sweep(shapes(cache, tmp_path / "run", head=("linear", "knn")))
    before = stamps(out)
    with held(out), pytest.raises(RunError, match=r"run: another process is training into it"):
        sweep(shapes(cache, out, head=("linear", "knn", "gap")))
    assert stamps(out) == before


@pytest.mark.parametrize(
    ("settings", "error"), [({"cache": "nowhere"}, CacheError), ({"classes": ("dog",)}, ConfigError)]
)
def test_mistakes_that_concern_all_groups_leave_no_folder(
    tmp_path: Path, cache: Path, settings: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        sweep(shapes(**{"cache": cache, "out": tmp_path / "run", **settings}))
    assert not (tmp_path / "run").exists()
