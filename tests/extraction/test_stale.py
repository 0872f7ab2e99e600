"""A cache made from something else is refused and the field named; other labels keep the features."""

import contextlib
import dataclasses
import shutil
import signal
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import torch
from support.extracting import files, settings

from cache import CacheWriter, FeatureCache
from pipeline.config import ExtractConfig, PretrainConfig
from pipeline.datasets.base import ImageSplit
from pipeline.errors import CacheError, StaleCacheError
from pipeline.extraction import jobs, make, work
from pipeline.extraction.stage import extract
from pipeline.pretraining.network import open_split
from pipeline.trunks.alexnet_cifar import load
from pipeline.trunks.base import Trunk

pytestmark = pytest.mark.fault("identity changed, or labels only")


def test_every_field_of_the_identity_is_guarded_and_named(
    photos: Path, weights: Path, tmp_path: Path
) -> None:
    extract(settings(photos, weights, tmp_path / "c"))
    kept = files(tmp_path / "c")

    def refused(field: str, **other: object) -> None:
        with pytest.raises(StaleCacheError, match=field):
            extract(settings(photos, weights, tmp_path / "c", **other))
        assert files(tmp_path / "c") == kept

    refused(r"; views: .* \(--views\); delete it", views="mirror")
    refused(r"dtype: .* \(--dtype\)", dtype="float16")
    refused(r"precision: .* \(--precision\)", precision="bfloat16")
    refused(r"image_px: 32 → 40 \(--image-px\)", image_px=40)
    refused(r"resize: .* \(--resize\)", resize="squash")
    changed = load(weights).module.state_dict()
    changed["2.weight"][0, 0, 0, 0] += 0.01
    torch.save(changed, tmp_path / "other.pth")
    with pytest.raises(StaleCacheError, match=r"trunk\.weights: .* \(--weights\)"):
        extract(settings(photos, tmp_path / "other.pth", tmp_path / "c"))
    extract(settings(photos, weights, tmp_path / "c"))
    assert files(tmp_path / "c") == kept


def test_another_seed_of_augmented_views_is_refused_by_its_flag(
    photos: Path, weights: Path, tmp_path: Path
) -> None:
    """And of plain ones it is not: nothing is drawn for them."""
    extract(settings(photos, weights, tmp_path / "c", views="augment:1"))
    with pytest.raises(StaleCacheError, match=r"else: views_seed: 0 → 1 \(--seed\); delete it"):
        extract(settings(photos, weights, tmp_path / "c", views="augment:1", seed=1))
    extract(settings(photos, weights, tmp_path / "plain"))
    extract(settings(photos, weights, tmp_path / "plain", seed=1))


@pytest.mark.parametrize("published", [True, False])
def test_another_test_fraction_is_refused_by_its_flag(
    published: bool, photos: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a folder without a test split, and before other things that differ with it."""
    if not published:
        monkeypatch.setattr(CacheWriter, "publish", lambda *_: signal.raise_signal(signal.SIGINT))
    with contextlib.nullcontext() if published else pytest.raises(KeyboardInterrupt):
        extract(settings(photos / "train", weights, tmp_path / "c", test_fraction=0.2))
    said = r"else: test_fraction: 0\.2 → 0\.5 \(--test-fraction\); image_sizes: "
    with pytest.raises(StaleCacheError, match=said):
        extract(settings(photos / "train", weights, tmp_path / "c", test_fraction=0.5))


def test_another_seed_of_the_test_split_is_another_cache(photos: Path, weights: Path, tmp_path: Path) -> None:
    """Only where a split is drawn; pretraining draws it alike."""
    extract(settings(photos / "train", weights, tmp_path / "c", split_seed=1))
    made = FeatureCache(tmp_path / "c/train.h5")
    assert made.notes["split_seed"] == 1
    with pytest.raises(StaleCacheError, match=r"else: split_seed: 1 → 2 \(--split-seed\); "):
        extract(settings(photos / "train", weights, tmp_path / "c", split_seed=2))
    trained = PretrainConfig(dataset=f"folder:{photos}/train", split_seed=1)
    assert list(open_split(trained, "train")[0].paths) == list(made.paths)
    extract(settings(photos, weights, tmp_path / "own", split_seed=1))
    extract(settings(photos, weights, tmp_path / "own", split_seed=2))  # up to date


def test_flags_that_change_no_image_are_not_named(photos: Path, weights: Path, tmp_path: Path) -> None:
    """A folder with a test split of its own, of which --test-fraction takes nothing."""
    extract(settings(photos, weights, tmp_path / "c", test_fraction=0.2))
    with pytest.raises(StaleCacheError, match=r"\(--dtype\)") as caught:
        extract(settings(photos, weights, tmp_path / "c", test_fraction=0.5, dtype="float16"))
    assert "--test-fraction" not in str(caught.value)
    extract(settings(photos, weights, tmp_path / "c", test_fraction=0.5))  # up to date


def test_another_version_of_the_trunk_s_code_is_refused(
    photos: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    extract(settings(photos, weights, tmp_path / "c"))
    trunk_of = work.trunk_of

    def newer(config: ExtractConfig) -> Trunk:
        trunk = trunk_of(config)
        return dataclasses.replace(trunk, version=trunk.version + 1)

    monkeypatch.setattr(work, "trunk_of", newer)
    with pytest.raises(StaleCacheError, match=r"else: trunk\.version: \d+ → \d+; delete it"):
        extract(settings(photos, weights, tmp_path / "c"))


def changed_training(monkeypatch: pytest.MonkeyPatch, **changes: object) -> None:
    """Let the dataset's training split come with other fields, or (`rows`) in another order."""
    open_dataset = work.open_dataset

    def opened(*arguments: object, **options: object) -> dict[str, ImageSplit]:
        splits = open_dataset(*arguments, **options)  # type: ignore[arg-type]
        train = splits["train"]
        if rows := changes.get("rows"):
            return splits | {"train": train.take(rows)}  # type: ignore[arg-type]
        return splits | {"train": dataclasses.replace(train, **changes)}  # type: ignore[arg-type]

    monkeypatch.setattr(work, "open_dataset", opened)


def test_another_order_of_the_images_keeps_the_features(
    photos: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    extract(settings(photos, weights, tmp_path / "c"))
    kept = files(tmp_path / "c")
    changed_training(monkeypatch, rows=[0, 2, 1, *range(3, 80)])
    monkeypatch.setattr(make, "write_missing", None)  # nothing is computed
    extract(settings(photos, weights, tmp_path / "c"))
    assert files(tmp_path / "c").items() >= kept.items()
    then, now = FeatureCache(tmp_path / "c/train.h5"), FeatureCache(tmp_path / "c/train.json")
    order = [0, 2, 1, *range(3, 80)]
    assert now.paths == then.paths.take(order)
    assert np.array_equal(now.features, then.features[order])


def test_other_labels_and_classes_keep_the_features(
    photos: Path,
    weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    extract(settings(photos, weights, tmp_path / "c"))
    features = FeatureCache(tmp_path / "c/train.h5").features.copy()
    changed_training(monkeypatch, labels=np.arange(80) % 3, classes=("x", "y", "z"))
    monkeypatch.setattr(make, "write_missing", None)  # nothing is computed
    extract(settings(photos, weights, tmp_path / "c"))
    assert "train.h5: labels updated, features kept" in capsys.readouterr().out
    cache = FeatureCache(tmp_path / "c/train.h5")
    cache.verify()
    assert cache.classes == ("x", "y", "z")
    assert np.array_equal(cache.labels, np.arange(80) % 3)
    assert np.array_equal(cache.features, features)
    assert sorted(files(tmp_path / "c")) == ["test.h5", "train.h5"]


def test_new_labels_are_refused_before_they_fill_the_disk(
    photos: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The features are copied into a file beside the old one: 2.1 MB in float32."""
    extract(settings(photos, weights, tmp_path / "c"))
    before = (tmp_path / "c/train.h5").read_bytes()
    changed_training(monkeypatch, labels=np.arange(80) % 3, classes=("x", "y", "z"))
    usage = shutil.disk_usage(tmp_path)
    for free, is_enough in ((2_000_000, False), (2_100_000, True)):
        monkeypatch.setattr(shutil, "disk_usage", lambda path, free=free: usage._replace(free=free))
        if is_enough:
            extract(settings(photos, weights, tmp_path / "c"))
        else:
            with pytest.raises(CacheError, match=r"c: needs 2 MB, the disk has 2 MB free; make room"):
                extract(settings(photos, weights, tmp_path / "c"))
            assert (tmp_path / "c/train.h5").read_bytes() == before
    assert FeatureCache(tmp_path / "c/train.h5").classes == ("x", "y", "z")


def test_what_made_the_maps_is_noted_and_makes_no_other_cache(
    photos: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = FeatureCache(extract(settings(photos, weights, tmp_path / "c")) / "train.h5")
    expected = {name: version(name) for name in ("torch", "pillow", "simplejpeg")}
    assert first.notes["made_with"] == {"device": "cpu", **expected}
    monkeypatch.setattr(jobs, "made_with", lambda device: {"device": "another", "torch": "1.0"})
    monkeypatch.setattr(make, "write_missing", None)  # nothing is computed
    again = FeatureCache(extract(settings(photos, weights, tmp_path / "c")) / "train.h5")
    assert (again.key, again.notes) == (first.key, first.notes)
