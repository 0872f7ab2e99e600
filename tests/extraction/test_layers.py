"""Several layers of a trunk in one pass: a cache each, as if each had been extracted alone."""

from pathlib import Path

import numpy as np
import pytest
from support.extracting import files

from cache import CacheWriter, FeatureCache
from pipeline.config import ExtractConfig
from pipeline.errors import ConfigError, StaleCacheError
from pipeline.extraction import stage
from pipeline.extraction.stage import extract
from pipeline.trunks.prepare import PreparedTrunk

NET = """
import torch
from torch import nn

def net():
    torch.manual_seed(0)
    norm, relu = nn.BatchNorm2d(4), nn.ReLU(inplace=True)
    module = nn.Sequential(nn.Conv2d(3, 4, 3), norm, relu, nn.Conv2d(4, 6, 3, 2), nn.ReLU(inplace=True))
    module.image_px = 32
    return module
"""


@pytest.fixture
def net(tmp_path: Path) -> str:
    (tmp_path / "net.py").write_text(NET)
    return f"{tmp_path}/net.py:net"


def config(photos: Path, trunk: str, cache: Path, **other: object) -> ExtractConfig:
    fields = {"dtype": "float32", "decoders": 1, **other}
    return ExtractConfig(dataset=f"folder:{photos}", trunk=trunk, cache=str(cache), **fields)  # type: ignore[arg-type]


def test_layers_of_one_pass_are_the_caches_that_each_would_have_alone(
    net: str, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    extract(config(photos, f"{net}@0,2,3", tmp_path / "c"))
    for layer, shape in (("0", (4, 30, 30)), ("2", (4, 30, 30)), ("3", (6, 14, 14))):
        extract(config(photos, f"{net}@{layer}", tmp_path / f"alone{layer}"))
        together, alone = (FeatureCache(tmp_path / at / "train.h5") for at in (f"c/{layer}", f"alone{layer}"))
        assert together.features.shape[2:] == shape
        assert together.key == alone.key
        np.testing.assert_allclose(together.features, alone.features, rtol=1e-4, atol=1e-5)
    capsys.readouterr()
    extract(config(photos, f"{net}@0,2,3", tmp_path / "c"))
    assert capsys.readouterr().out.count("up to date") == 6


def test_what_is_there_of_some_layers_isn_t_computed_again(
    net: str, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Layer 2 is finished, and of layer 3 nothing is there; it comes with one forward pass of its own."""
    extract(config(photos, f"{net}@2,3", tmp_path / "c"))
    kept = files(tmp_path / "c/2")
    expected = files(tmp_path / "c/3")
    for path in (tmp_path / "c/3").iterdir():
        path.unlink()
    ran: list[int] = []
    forward = PreparedTrunk.forward
    monkeypatch.setattr(
        PreparedTrunk, "forward", lambda self, images: ran.append(len(images)) or forward(self, images)
    )
    extract(config(photos, f"{net}@2,3", tmp_path / "c"))
    assert sum(count for count in ran if count > 1) == 100
    assert files(tmp_path / "c/2") == kept
    assert files(tmp_path / "c/3") == expected


def test_layers_that_were_interrupted_are_continued_each_from_where_it_was(
    net: str, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = tmp_path / "whole"
    extract(config(photos, f"{net}@2,3", whole))
    publish = CacheWriter.publish

    def stop(self: CacheWriter) -> Path:
        if self.path.parent.name == "3":
            raise KeyboardInterrupt
        return publish(self)

    monkeypatch.setattr(CacheWriter, "publish", stop)
    with pytest.raises(KeyboardInterrupt):
        extract(config(photos, f"{net}@2,3", tmp_path / "c"))
    assert (tmp_path / "c/2/train.h5").exists()
    monkeypatch.setattr(CacheWriter, "publish", publish)
    monkeypatch.setattr(stage, "check_parity", lambda *_: 0.0)
    extract(config(photos, f"{net}@2,3", tmp_path / "c"))
    for layer in "23":
        assert files(tmp_path / "c" / layer) == files(whole / layer)


def test_every_fact_of_a_trunk_is_guarded_and_named_by_its_flag(
    net: str, photos: Path, tmp_path: Path
) -> None:
    spec = "timm:test_resnet"
    given = {"weights": "none", "image_px": 32}
    extract(config(photos, spec, tmp_path / "c", **given))
    kept = files(tmp_path / "c")

    def refused(field: str, trunk: str = spec, **other: object) -> None:
        with pytest.raises(StaleCacheError, match=field):
            extract(config(photos, trunk, tmp_path / "c", **{**given, **other}))
        assert files(tmp_path / "c") == kept

    refused(r"trunk\.layer: .* \(--trunk\)", trunk=f"{spec}@layer1")
    refused(r"trunk\.name: .* \(--trunk\)", trunk="timm:test_resnet.r160_in1k")
    refused(r"interpolation: .* \(--interpolation\)", interpolation="nearest")
    refused(r"crop_share: .* \(--crop-share\)", crop_share=0.5)
    refused(r"mean: .* \(--mean\)", mean=(0.0, 0.0, 0.0))
    refused(r"std: .* \(--std\)", std=(1.0, 1.0, 1.0))
    refused(r"image_px: .* \(--image-px\)", image_px=48)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("timm.__version__", "0.0.1")
        refused(r"trunk\.library: .*timm 0\.0\.1. \(install that version\)")
    extract(config(photos, net, tmp_path / "own"))
    code = Path(net.partition(":")[0])
    code.write_text(code.read_text() + "\n")
    with pytest.raises(StaleCacheError, match=r"trunk\.code: .* \(--trunk\)"):
        extract(config(photos, net, tmp_path / "own"))


def test_a_question_mark_lists_every_layer_with_its_map_and_needs_no_images(
    net: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    extract(ExtractConfig(dataset=f"folder:{tmp_path}/nowhere", trunk=f"{net}@?", cache=str(tmp_path / "c")))
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines] == [
        ["layer", "map", "parameters"],
        ["0", "4×30×30", "112"],
        ["1", "4×30×30", "128"],
        ["2", "4×30×30", "128"],
        ["3", "6×14×14", "350"],
        ["4", "6×14×14", "350"],
        ["(all)", "6×14×14", "350"],
    ]
    assert not (tmp_path / "c").exists()


def test_random_weights_are_announced_loudly(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    extract(config(photos, "timm:test_resnet", tmp_path / "c", weights="none", image_px=32))
    assert "RANDOM WEIGHTS (--weights none)" in capsys.readouterr().out


def test_a_mistyped_model_is_refused_before_images_are_looked_for(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"did you mean resnet18\?"):
        extract(ExtractConfig(dataset=f"folder:{tmp_path}/nowhere", trunk="timm:resnet81"))
