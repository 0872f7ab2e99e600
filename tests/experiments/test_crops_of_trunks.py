"""The ablation on trunks from elsewhere, and what it refuses: leaks, and what is in the way of its caches."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.brightness import write_images

from cache import FeatureCache
from experiments.crops.ablation import HEADS, ablate
from experiments.crops.caches import Maps, caches_of
from experiments.crops.config import CropsConfig
from experiments.crops.field import Field
from experiments.crops.plots import plot_gains
from experiments.crops.results import Result, Variant, by_images
from pipeline.config import ExtractConfig
from pipeline.errors import RunError, StaleCacheError
from pipeline.extraction.stage import extract
from pipeline.runs.stack import Setting


def of_trunks(tmp_path: Path, **other: Any) -> CropsConfig:
    """The regime of trunks from elsewhere, at two image sizes."""
    return CropsConfig(
        dataset=write_images(tmp_path / "images"), out=str(tmp_path / "out"), regime=("trunk",),
        trunk=("alexnet-cifar",), image_px=(32, 48), map_cells=5, per_class=(0,), seeds=1, hidden=(4,),
        lr=(0.1,), weight_decay=(5e-4,), epochs=1, min_steps=2, **other,
    )  # fmt: skip


@pytest.mark.no_cover
def test_trunks_from_elsewhere_are_compared_beside_what_their_cells_see(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = of_trunks(tmp_path)
    found = json.loads(ablate(config).read_text())["variants"]
    heads = [head for head in HEADS if head != "ten-image"]  # which takes a second pass of the trunk
    names = [f"alexnet-cifar, {px} px" for px in (32, 48)]
    told = [(line["trunk"], line["images_per_class"], line["head"]) for line in found]
    assert told == [(name, 12, head) for name in names for head in heads]
    assert {line["field"]["reach"] for line in found if "32" in line["trunk"]} == {30 / 32}
    small, large = ({json.dumps(line["field"]) for line in found if name == line["trunk"]} for name in names)
    assert len(small) == len(large) == 1
    assert json.loads(*large)["field"] < json.loads(*small)["field"], "a share of a larger picture"
    shape = json.loads(
        next((tmp_path / "out/runs/trunk/alexnet-cifar-48-px").rglob("config.json")).read_text()
    )["map_shape"]
    assert shape == [256, 5, 5]
    table = (tmp_path / "out" / "ablation.md").read_text()
    assert "| (d) alexnet-cifar, 48 px | all |" in table
    assert "| regime | reach of a cell | field of a cell |" in table
    assert (tmp_path / "out" / "ablation-field.png").exists()
    capsys.readouterr()
    ablate(config)
    told_again = capsys.readouterr().out
    assert "trained in" not in told_again
    assert "measuring" not in told_again


def test_gains_are_drawn_for_each_number_of_images_with_the_same_bytes_each_time(tmp_path: Path) -> None:
    right = np.random.default_rng(0).random((2, 100)) < 0.6
    found = [
        Result(
            Variant(Maps("trunk", Path(), trunk=f"t{share}", field=Field(1.0, share)), n, head, 10 * n, n),
            Setting(0.1, 0.0),
            list(right),
        )
        for share in (0.8, 0.2)
        for n in (5, 50)
        for head in ("ten", "center", "logistic")
    ]
    for name in "ab":
        plot_gains(tmp_path / f"{name}.png", list(by_images(found).values()))
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_a_test_image_among_the_training_images_is_refused(tmp_path: Path) -> None:
    config = of_trunks(tmp_path)
    shutil.copy(tmp_path / "images/train/a/3.png", tmp_path / "images/test/a/3.png")
    with pytest.raises(
        RunError,
        match=r"1 of 16 test images .* test/a/3\.png is the first; take them out of one of the splits$",
    ):
        ablate(dataclasses.replace(config, image_px=(32,), per_class=(0,)))


def test_a_cache_and_a_trunk_in_the_way_are_refused_with_flags_of_the_ablation(tmp_path: Path) -> None:
    images = write_images(tmp_path / "images")
    config = CropsConfig(
        dataset=images, out=str(tmp_path / "out"), regime=("transfer",), trunk_out=str(tmp_path / "trunk"),
        pretrain_epochs=1, per_class=(0,), seeds=1,
    )  # fmt: skip
    extract(ExtractConfig(dataset=images, cache=str(tmp_path / "out/caches/transfer"), device="cpu"))
    with pytest.raises(StaleCacheError, match=r"/caches/.* \(--trunk-out\); .* choose another folder$"):
        ablate(config)
    with pytest.raises(RunError, match=r"--pretrain-epochs 1, not 2; give another --trunk-out$"):
        ablate(dataclasses.replace(config, pretrain_epochs=2))


def test_layers_that_share_a_pass_are_compared_each_with_a_field_of_its_own(tmp_path: Path) -> None:
    config = dataclasses.replace(of_trunks(tmp_path), trunk=("alexnet-cifar@11,18",), image_px=(32,))
    found = list(caches_of(config, "trunk"))
    assert [maps.trunk for maps in found] == [f"alexnet-cifar@{layer}, 32 px" for layer in (11, 18)]
    shapes = [FeatureCache(maps.folder / "train.h5").shape[2:] for maps in found]
    assert [shape[1:] for shape in shapes] == [(5, 5), (5, 5)]
    first, second = (maps.field for maps in found)
    assert first is not None
    assert second is not None
    assert first.field < second.field
