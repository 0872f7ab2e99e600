"""Caches that several tests read."""

import shutil
from pathlib import Path

import pytest
from support.samples import extract, header


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """2,500 rows of one 2×2×2 map in three blocks. Not to be changed."""
    return extract(tmp_path_factory.mktemp("sample") / "train.h5", header())


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three rows, a file of 5,632 bytes. Not to be changed."""
    return extract(tmp_path_factory.mktemp("tiny") / "train.h5", header(3, map_shape=(16, 4, 4)))


@pytest.fixture
def copy(sample: Path, tmp_path: Path) -> Path:
    """The sample, to be damaged."""
    return Path(shutil.copy(sample, tmp_path))
