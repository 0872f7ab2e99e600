"""Folders that pretraining goes on in, and those that it refuses: other settings, damaged files."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from support.pretraining import dark_and_light, settings

from pipeline.errors import RunError, UserError
from pipeline.pretraining.stage import pretrain


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return dark_and_light(tmp_path_factory.mktemp("images"))


def test_other_settings_in_the_same_folder_are_refused_by_flag(images: Path, tmp_path: Path) -> None:
    pretrain(settings(images, tmp_path, epochs=1))
    pretrain(settings(images, tmp_path, epochs=1))  # up to date
    with pytest.raises(RunError, match="--weight-decay"):
        pretrain(settings(images, tmp_path, epochs=1, weight_decay=0.1))


def test_a_run_that_lacks_a_setting_is_another_run(images: Path, tmp_path: Path) -> None:
    pretrain(settings(images, tmp_path, epochs=1))
    described = json.loads((tmp_path / "config.json").read_text())
    del described["mirror_maps"]
    (tmp_path / "config.json").write_text(json.dumps(described))
    with pytest.raises(RunError, match="--mirror-maps None, not False"):
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
