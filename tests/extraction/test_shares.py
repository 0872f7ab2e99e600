"""An extraction by several workers gives what one process gives, whoever does what and when."""

import contextlib
import dataclasses
import io
import itertools
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.sharing import config, contents, flags, make_images, stamps

from cache import FeatureCache, split_path
from pipeline.datasets.base import open_dataset
from pipeline.errors import CacheError, ConfigError, StaleCacheError
from pipeline.extraction import jobs, make, stage, work
from pipeline.extraction.stage import extract

ROOT = Path(__file__).parents[2]
VIEWS = ["plain", "mirror", "augment:2"]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_images(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module", params=VIEWS)
def whole(request: pytest.FixtureRequest, images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The reference: one process, one file."""
    return extract(config(images, tmp_path_factory.mktemp(request.param[:4]), views=request.param))


@pytest.mark.parametrize(("workers", "order"), [(2, (1, 0)), (3, (2, 0, 1)), (5, (0, 1, 4, 3, 2))])
def test_shares_of_any_number_of_workers_equal_one_process(
    workers: int, order: tuple[int, ...], whole: Path, images: Path, tmp_path: Path
) -> None:
    views = FeatureCache(whole / "train.h5").identity["views"]
    for rank in order:
        assert not (tmp_path / "train.json").exists()
        extract(config(images, tmp_path, views=views, shard=f"{rank}/{workers}"))
        if rank == next(r for r in reversed(order) if r < 3):
            break  # of three blocks: the others have nothing to do
    assert split_path(tmp_path, "train").suffix == ".json"
    assert len(list(tmp_path.glob("train-*.h5"))) == min(workers, 3)
    for split in ("train", "test"):
        assert contents(split_path(tmp_path, split)) == contents(whole / f"{split}.h5")
    assert not list(tmp_path.glob("*.part"))


def test_torchrun_says_who_does_what(images: Path, tmp_path: Path) -> None:
    """Two processes of its own, which may well be done at the same time."""
    one, asked = extract(config(images, tmp_path / "one")), config(images, tmp_path / "two", shard="env")
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*start, str(ROOT / "extract_features.py"), *flags(asked)]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    assert contents(tmp_path / "two/train.json") == contents(one / "train.h5")


@pytest.mark.parametrize("views", VIEWS[1:])  # plain ones are half of a mirror's
def test_eight_files_by_one_process_equal_one(views: str, images: Path, tmp_path: Path) -> None:
    for folder in (images / "photos").glob("*/?"):
        (more := tmp_path / folder.relative_to(images)).mkdir(parents=True)
        for path, copy in itertools.product(folder.iterdir(), "123"):
            (more / f"{copy}{path.name}").hardlink_to(path)
    shutil.copy(images / "trunk.py", tmp_path)
    for left in (
        "train-00000-of-00008.h5.stamp.gone-1.part",
        f"train.json.part.{os.uname().nodename}-9999999.part",
    ):
        (tmp_path / "eight" / left).parent.mkdir(exist_ok=True)
        (tmp_path / "eight" / left).touch()
    one, eight = (
        extract(config(tmp_path, tmp_path / name, views=views, **other))
        for name, other in (("one", {}), ("eight", {"shards": 8}))
    )
    assert len(FeatureCache(eight / "train.json").shards) == 8
    assert not list(eight.glob("*.part")), "what workers that were killed left"
    for split in ("train", "test"):
        assert contents(split_path(eight, split)) == contents(one / f"{split}.h5")


def test_more_files_than_workers_are_shared_out(images: Path, tmp_path: Path) -> None:
    for rank in (0, 1):
        extract(config(images, tmp_path, shard=f"{rank}/2", shards=3))
        assert len(list(tmp_path.glob("train-*-of-00003.h5"))) == (2, 3)[rank]
    assert FeatureCache(tmp_path / "train.json").shape[0] == 2500


def test_few_images_are_for_one_gpu(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of eight, unless more are asked for: a second process would take longer to start than to compute."""
    monkeypatch.setattr(stage, "workers_for", lambda config: 8)
    extract(config(images, tmp_path))
    assert (tmp_path / "train.h5").exists()
    monkeypatch.setattr(work, "WORTH_A_WORKER", 1024)
    monkeypatch.setattr(stage, "together", lambda config, planned, *_: [str([job.shards for job in planned])])
    monkeypatch.setattr(stage, "finish", say_nothing)
    with contextlib.redirect_stdout(io.StringIO()) as said:
        extract(config(images, tmp_path / "more"))
    assert "[2, 1]" in said.getvalue()  # 2,540 images


def say_nothing(work: object) -> None:
    pass


def test_a_worker_without_blocks_says_so(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    extract(config(images, tmp_path, shard="4/5"))
    said = capsys.readouterr().out
    assert "train.json: nothing to do for worker 4" in said
    assert "3 of 3 files are still to be made by other workers" in said


@pytest.mark.fault("the same share again, after all is done")
def test_the_same_command_again_is_up_to_date_and_changes_nothing(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    commands = [{"shard": "0/2"}, {"shard": "1/2"}, {}, {"shards": 3}, {"workers": 2}]
    for other in commands[:2]:
        extract(config(images, tmp_path, **other))
    before = stamps(tmp_path)
    monkeypatch.setattr(make, "write_missing", None)  # nothing is computed
    capsys.readouterr()
    for other in commands:
        extract(config(images, tmp_path, **other))
        said = capsys.readouterr().out
        assert ("train.json: up to date" in said) == (other.get("shard") != "1/2")
        assert stamps(tmp_path) == before


def test_only_new_labels_need_no_trunk(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    extract(config(images, tmp_path, shards=2))
    features, shards = contents(tmp_path / "train.json")["features"], stamps(tmp_path)
    open_dataset = work.open_dataset

    def opened(*arguments: Any, **options: Any) -> Any:
        splits = open_dataset(*arguments, **options)
        changed = dataclasses.replace(splits["train"], labels=np.arange(2500) % 3, classes=("x", "y", "z"))
        return splits | {"train": changed}

    monkeypatch.setattr(work, "open_dataset", opened)
    monkeypatch.setattr(make, "write_missing", None)
    extract(config(images, tmp_path))
    cache = FeatureCache(tmp_path / "train.json")
    assert cache.classes == ("x", "y", "z")
    assert np.array_equal(cache.labels, np.arange(2500) % 3)
    assert contents(tmp_path / "train.json")["features"] == features
    assert {n: s for n, s in stamps(tmp_path).items() if n.endswith("2.h5")} == {
        n: s for n, s in shards.items() if n.endswith("2.h5")
    }


def test_a_changed_image_is_found_in_any_file(images: Path, tmp_path: Path) -> None:
    own = Path(shutil.copytree(images, tmp_path / "own"))
    extract(config(own, tmp_path / "c", shards=2))
    last = sorted((own / "photos/train").rglob("*.png"))[-1]
    last.write_bytes((own / "photos/train/a/00000.png").read_bytes())
    before = stamps(tmp_path / "c")
    extract(config(own, tmp_path / "c"))
    now, copied = FeatureCache(tmp_path / "c/train.json"), "photos/train/a/00000.png"
    rows = [now.paths.index(str(path.relative_to(own / "photos"))) for path in (last, own / copied)]
    assert (now.image_digests[rows[0]] == now.image_digests[rows[1]]).all()
    after = stamps(tmp_path / "c")
    assert {name: after[name] for name in before if name.endswith(".h5")}.items() <= before.items()


def test_a_file_that_was_deleted_is_made_again(images: Path, tmp_path: Path) -> None:
    extract(config(images, tmp_path, shards=3))
    before, train = stamps(tmp_path), open_dataset(f"folder:{images / 'photos'}")["train"]
    assert not work.has_to_be_decoded(train, config(images, tmp_path))
    (tmp_path / "train-00001-of-00003.h5").unlink()
    assert work.has_to_be_decoded(train, config(images, tmp_path)), "by one decoder"
    with pytest.raises(CacheError, match=r"train-00001-of-00003\.h5: .* run the same extraction again"):
        FeatureCache(tmp_path / "train.json")
    extract(config(images, tmp_path))
    after = stamps(tmp_path)
    assert {name: data for name, (data, _) in after.items()} == {n: d for n, (d, _) in before.items()}
    assert [name for name in after if after[name][1] != before[name][1]] == ["train-00001-of-00003.h5"]


@pytest.mark.fault("shards of two numbers in one folder")
def test_another_number_of_files_is_refused(images: Path, tmp_path: Path) -> None:
    extract(config(images, tmp_path, shard="0/2"))
    before = stamps(tmp_path)
    said = (
        r"train-\*-of-00002\.h5\*: begun in 2 files, expected 3; give --shards 2, or delete what was begun$"
    )
    for other in ({"shard": "0/3"}, {"shards": 3}):
        with pytest.raises(CacheError, match=said):
            extract(config(images, tmp_path, **other))
        assert stamps(tmp_path) == before
    extract(config(images, tmp_path, shard="1/3", shards=2))
    assert (tmp_path / "train.json").exists()


@pytest.mark.fault("a file begun by one process, then several workers")
def test_a_single_file_that_is_begun_is_in_the_way(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(stage, "check_parity", None)
        patch.setattr(make.CacheWriter, "publish", stop)
        with pytest.raises(KeyboardInterrupt):
            extract(config(images, tmp_path))
    said = (
        r"train\.h5\.part: begun in 1 file, expected 2; leave --shards, --shard and --workers out, or delete"
    )
    with pytest.raises(CacheError, match=said):
        extract(config(images, tmp_path, shard="0/2"))
    extract(config(images, tmp_path))
    before = stamps(tmp_path)
    extract(config(images, tmp_path, shard="0/2"))  # which is up to date
    assert stamps(tmp_path) == before


def stop(*arguments: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.fault("workers of other settings or versions")
def test_a_worker_that_would_make_other_maps_is_refused_before_it_does(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    extract(config(images, tmp_path, shard="0/2"))
    before = stamps(tmp_path)
    monkeypatch.setattr(make, "write_missing", None)  # nothing is computed
    with pytest.raises(StaleCacheError, match=r"train\.json\.part: other workers .*views: .*\(--views\)"):
        extract(config(images, tmp_path, shard="1/2", views="augment:1"))
    made_with = jobs.made_with
    monkeypatch.setattr(jobs, "made_with", lambda device: made_with(device) | {"torch": "9.9"})
    said = r"train\.json\.part: begun with torch \d+\.\d.*, this worker has 9\.9; install the same everywhere"
    with pytest.raises(CacheError, match=said):
        extract(config(images, tmp_path, shard="1/2"))
    assert stamps(tmp_path) == before


def test_files_made_by_two_versions_get_no_manifest(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nobody could know: both began at the same time, on a file system that lost the agreement."""
    extract(config(images, tmp_path, shard="0/2"))
    (tmp_path / "train.json.part").unlink()
    made_with = jobs.made_with
    monkeypatch.setattr(jobs, "made_with", lambda device: made_with(device) | {"pillow": "9.9"})
    said = r"train-00001-of-00002\.h5: made with pillow 9\.9, train-00000-of-00002\.h5 with \d.*; delete one"
    with pytest.raises(CacheError, match=said):
        extract(config(images, tmp_path, shard="1/2"))
    assert not (tmp_path / "train.json").exists()


def test_workers_with_other_devices_write_the_same_manifest(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Notes say the first file's."""
    made_with = jobs.made_with
    for device, rank in (("one", 0), ("other", 1)):
        with monkeypatch.context() as patch:
            patch.setattr(jobs, "made_with", lambda _, name=device: made_with(_) | {"device": name})
            extract(config(images, tmp_path, shard=f"{rank}/2"))
    assert FeatureCache(tmp_path / "train.json").notes["made_with"]["device"] == "one"


def test_bad_images_are_left_out_alike_by_all_workers(images: Path, tmp_path: Path) -> None:
    own = Path(shutil.copytree(images, tmp_path / "own"))
    for at in (0, 1030, 2499):
        (own / "photos/train" / "ab"[at % 2] / f"{at:05}.png").write_bytes(b"no image")
    one = extract(config(own, tmp_path / "one", on_bad_image="skip"))
    for rank in (1, 0):
        extract(config(own, tmp_path / "two", on_bad_image="skip", shard=f"{rank}/2"))
    assert contents(tmp_path / "two/train.json") == contents(one / "train.h5")
    assert len(FeatureCache(tmp_path / "two/train.json")) == 2497


def test_several_layers_have_a_manifest_each(images: Path, tmp_path: Path) -> None:
    both = f"{images / 'trunk.py'}:trunk@0,1"
    plain = config(images, tmp_path / "one")
    one = extract(dataclasses.replace(plain, trunk=both))
    two = dataclasses.replace(plain, trunk=both, cache=str(tmp_path / "two"))
    for rank in (0, 1):
        extract(dataclasses.replace(two, shard=f"{rank}/2"))
    for layer in ("0", "1"):
        assert contents(tmp_path / "two" / layer / "train.json") == contents(one / layer / "train.h5")


def test_workers_of_int8_store_by_the_same_scales(images: Path, tmp_path: Path) -> None:
    one = extract(config(images, tmp_path / "one", dtype="int8"))
    for rank in (1, 0):
        extract(config(images, tmp_path / "two", dtype="int8", shard=f"{rank}/2"))
    assert contents(tmp_path / "two/train.json") == contents(one / "train.h5")


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"shard": "2/2"}, r"shard: expected R/N with R from 0 to N - 1, env or list, found '2/2'"),
        ({"shard": "-1/2"}, r"shard: expected R/N"),
        ({"shard": "1"}, r"shard: expected R/N"),
        ({"shard": "0/2", "workers": 2}, r"shard: one of several workers starts no others"),
    ],
)
def test_a_share_that_there_is_not_is_refused(fields: dict[str, Any], problem: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=problem):
        config(tmp_path, tmp_path, **fields)
