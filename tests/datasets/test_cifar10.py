"""CIFAR-10 in its real format: a tiny one, written here, with digests of its own."""

import hashlib
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
from torchvision.datasets import CIFAR10

from pipeline.datasets.cifar10 import open_splits
from pipeline.errors import DataError

NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
PER_BATCH = 4
RNG = np.random.default_rng(0)


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


@pytest.fixture
def tiny(tmp_path: Path) -> tuple[type[CIFAR10], Path, dict[str, np.ndarray]]:
    """torchvision's class with the digests of a small archive, the archive, and the pixels (N, 3, 32, 32)."""
    folder = tmp_path / "made/cifar-10-batches-py"
    folder.mkdir(parents=True)
    pixels = {}
    for name in [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]:
        pixels[name] = RNG.integers(0, 256, (PER_BATCH, 3, 32, 32), np.uint8)
        batch = {"data": pixels[name].reshape(PER_BATCH, 3072), "labels": [len(pixels), 0, 9, 3]}
        (folder / name).write_bytes(pickle.dumps(batch, protocol=2))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": NAMES}, protocol=2))
    archive = tmp_path / "made" / CIFAR10.filename
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder, folder.name)

    class Tiny(CIFAR10):
        url = "http://127.0.0.1:9/cifar-10-python.tar.gz"  # nobody listens: no network
        tgz_md5 = md5(archive)
        train_list = [[f"data_batch_{i}", md5(folder / f"data_batch_{i}")] for i in range(1, 6)]  # noqa: RUF012
        test_list = [["test_batch", md5(folder / "test_batch")]]  # noqa: RUF012
        meta = {**CIFAR10.meta, "md5": md5(folder / "batches.meta")}  # noqa: RUF012

    return Tiny, archive, pixels


def put(archive: Path, root: Path) -> Path:
    root.mkdir()
    (root / archive.name).write_bytes(archive.read_bytes())
    return root


def test_an_archive_put_in_place_is_read(
    tiny: tuple[type[CIFAR10], Path, dict[str, np.ndarray]], tmp_path: Path
) -> None:
    source, archive, pixels = tiny
    splits = open_splits(source, put(archive, tmp_path / "root"))
    train, test = splits["train"], splits["test"]
    assert (len(train), len(test)) == (5 * PER_BATCH, PER_BATCH)
    assert train.classes == test.classes == tuple(NAMES)
    assert train.paths[:2] == ("train/00000", "train/00001")
    assert test.paths[-1] == "test/00003"
    assert train.labels.tolist()[:8] == [1, 0, 9, 3, 2, 0, 9, 3]
    assert train.sizes.tolist() == [3072] * 20
    stored = np.concatenate([pixels[f"data_batch_{i}"] for i in range(1, 6)])
    for row in range(len(train)):
        np.testing.assert_array_equal(train.images.read(row).pixels, np.moveaxis(stored[row], 0, 2))
    np.testing.assert_array_equal(test.images.read(2).pixels, np.moveaxis(pixels["test_batch"][2], 0, 2))


def test_without_a_network_the_error_names_the_way_out(
    tiny: tuple[type[CIFAR10], Path, dict[str, np.ndarray]], tmp_path: Path
) -> None:
    with pytest.raises(DataError) as caught:
        open_splits(tiny[0], tmp_path / "root")
    message = str(caught.value)
    assert "\n" not in message
    for part in (str(tmp_path / "root"), "cifar-10-python.tar.gz", tiny[0].url, "folder:PATH"):
        assert part in message


@pytest.mark.parametrize("damage", ["archive", "batch"])
def test_a_damaged_file_is_not_read(
    tiny: tuple[type[CIFAR10], Path, dict[str, np.ndarray]], tmp_path: Path, damage: str
) -> None:
    source, archive, _ = tiny
    root = put(archive, tmp_path / "root")
    damaged = root / archive.name
    if damage == "batch":
        open_splits(source, root)
        damaged.unlink()
        damaged = root / "cifar-10-batches-py/data_batch_3"
    content = bytearray(damaged.read_bytes())
    content[-50] ^= 1
    damaged.write_bytes(content)
    with pytest.raises(DataError, match=r"cifar-10-python\.tar\.gz"):
        open_splits(source, root)
