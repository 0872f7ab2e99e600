"""Folders that pretraining goes on in, and those that it refuses: other settings, damaged files."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from safetensors.torch import load_file, save_file
from support.pretraining import dark_and_light, settings

from pipeline.datasets.base import open_dataset
from pipeline.errors import RunError, UserError
from pipeline.pretraining.stage import pretrain
from pipeline.runs.claim import held


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return dark_and_light(tmp_path_factory.mktemp("images"))


def test_other_settings_in_the_same_folder_are_refused_by_flag(images: Path, tmp_path: Path) -> None:
    pretrain(settings(images, tmp_path, epochs=1))
    pretrain(settings(images, tmp_path, epochs=1))  # up to date
    with pytest.raises(RunError, match="--weight-decay"):
        pretrain(settings(images, tmp_path, epochs=1, weight_decay=0.1))


def test_two_processes_do_not_train_into_one_folder(images: Path, tmp_path: Path) -> None:
    pretrain(settings(images, tmp_path, epochs=1))
    with held(tmp_path), pytest.raises(RunError, match="another process is training into it; wait for it"):
        pretrain(settings(images, tmp_path, epochs=1))
    pretrain(settings(images, tmp_path, epochs=1))


def test_a_loss_that_is_no_number_ends_the_run(images: Path, tmp_path: Path) -> None:
    config = settings(images, tmp_path, lr=100.0, weight_decay=1.0, epochs=60)
    with pytest.raises(RunError, match=r"finite loss in epoch \d+, found nan; give an --lr below 100 and"):
        pretrain(config)
    assert not (tmp_path / "trunk.safetensors").exists()
    pretrain(settings(images, tmp_path / "another", epochs=1))


def test_other_images_held_out_than_before_make_another_run(tmp_path: Path) -> None:
    """They are drawn over all classes, so an image of a class that isn't trained on moves them."""
    folder = dark_and_light(tmp_path / "images")
    few = {"epochs": 1, "classes": ("light",), "val_fraction": 0.25}
    pretrain(settings(folder, tmp_path / "run", **few))
    for i in range(16):
        shutil.copy(folder / "train/dark/0.png", folder / f"train/dark/more-{i}.png")
    with pytest.raises(
        RunError, match=r"holds a run made with held-out images [0-9a-f]{12}, not [0-9a-f]{12};"
    ):
        pretrain(settings(folder, tmp_path / "run", **few))


def test_a_run_that_lacks_a_setting_is_another_run(images: Path, tmp_path: Path) -> None:
    pretrain(settings(images, tmp_path, epochs=1))
    described = json.loads((tmp_path / "config.json").read_text())
    del described["mirror_maps"]
    (tmp_path / "config.json").write_text(json.dumps(described))
    with pytest.raises(RunError, match="--mirror-maps unset, not False"):
        pretrain(settings(images, tmp_path, epochs=1))
    assert json.loads((tmp_path / "config.json").read_text()) == described


def test_a_damaged_config_is_refused_by_name(images: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").touch()
    with pytest.raises(RunError, match=r"config\.json: can't be read as JSON"):
        pretrain(settings(images, tmp_path))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(
        RunError, match=r"config\.json: expected the format 1, found None; give another folder"
    ):
        pretrain(settings(images, tmp_path))


@pytest.mark.parametrize("wrong", [{"weights": "nowhere.safetensors"}, {"classes": ("dark", "blue")}])
def test_a_wrong_flag_leaves_the_folder_to_the_right_one(
    images: Path, tmp_path: Path, wrong: dict[str, Any]
) -> None:
    with pytest.raises(UserError):
        pretrain(settings(images, tmp_path, epochs=1, **wrong))
    assert pretrain(settings(images, tmp_path, epochs=1)).is_file()


def test_a_damaged_checkpoint_is_refused_by_name(images: Path, tmp_path: Path) -> None:
    done = pretrain(settings(images, tmp_path, epochs=1))
    shutil.move(done, tmp_path / "checkpoint.safetensors")  # weights alone are no checkpoint
    with pytest.raises(RunError, match=r"checkpoint\.safetensors: no checkpoint of this run"):
        pretrain(settings(images, tmp_path, epochs=1))


def repaint(path: Path, shade: int) -> None:
    """Other pixels in a file of the same size."""
    before = path.stat().st_size
    Image.new("RGB", (32, 32), (shade, 0, 0)).save(path)
    assert path.stat().st_size == before


@pytest.mark.parametrize("finished", [True, False])
def test_a_trunk_of_other_pixels_or_labels_is_another_trunk(finished: bool, tmp_path: Path) -> None:
    """Files of the same names and sizes, and a checkpoint or a trunk that was trained on what they held."""
    images, out = dark_and_light(tmp_path / "images"), tmp_path / "out"
    bmp = [path.rename(path.with_suffix(".bmp")) for path in sorted(images.glob("*/*/*.png"))]
    for path in bmp:
        Image.open(path).convert("RGB").save(path)
    given = settings(images, out, epochs=1)
    done = pretrain(given)
    if not finished:
        done.unlink()
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    described = json.loads(before["config.json"])
    train_set = open_dataset(given.dataset)["train"].images
    joined = b"".join(map(train_set.digest, range(48)))
    assert described["dataset_images"] == hashlib.sha256(joined).hexdigest()
    changed = images / "train/light/9.bmp"
    kept = changed.read_bytes()
    repaint(changed, 7)
    made = (
        rf"^{out}: holds a run made with a --dataset with the images {described['dataset_images'][:12]}, not "
    )
    with pytest.raises(RunError, match=made + r"[0-9a-f]{12}; give another --out$"):
        pretrain(given)
    changed.write_bytes(kept)
    (images / "train/dark").rename(images / "train/bark")
    (images / "test/dark").rename(images / "test/bark")
    with pytest.raises(RunError, match=r"a --dataset with the labels [0-9a-f]{12}, not [0-9a-f]{12}; give"):
        pretrain(given)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_weights_to_start_from_are_known_by_what_is_in_the_file(
    images: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, moved = tmp_path / "first.safetensors", tmp_path / "moved.safetensors"
    shape: dict[str, Any] = {"widths": (64, 256, 256)}
    shutil.copy(weights, first)
    pretrain(settings(images, tmp_path / "out", epochs=1, weights=str(first), **shape))
    say = r"^--weights: .*first\.safetensors: holds a trunk of another shape; give --widths 64 256 256 --st"
    with pytest.raises(UserError, match=say + r"age-layers 2$"):
        pretrain(settings(images, tmp_path / "other", epochs=1, weights=str(first)))
    first.rename(moved)
    capsys.readouterr()
    pretrain(settings(images, tmp_path / "out", epochs=1, weights=str(moved), **shape))
    assert "up to date" in capsys.readouterr().out
    tensors = load_file(moved)
    name = min(tensors)
    save_file(tensors | {name: tensors[name] + 1}, first)
    for other in ({"weights": str(first)}, {"weights": None}):
        with pytest.raises(RunError, match=r"made with --weights with the digest [0-9a-f]{12}, not "):
            pretrain(settings(images, tmp_path / "out", epochs=1, **shape, **other))
