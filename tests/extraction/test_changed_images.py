"""A split is never called complete with a file of other images than those that are there now, however it got
its files; and no image is read in vain to know that."""

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.bitmaps import expected, make_bitmaps
from support.sharing import config

from cache import FeatureCache
from pipeline.config import ExtractConfig
from pipeline.datasets.files import FileReader
from pipeline.extraction import stage, stamp
from pipeline.extraction.stage import extract
from pipeline.extraction.together import Task

TRAIN = 1030
OF_FIRST = "train/a/00007.bmp"


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bitmaps(tmp_path_factory.mktemp("images"), TRAIN)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each image is read from now on; all are old enough for their stamps to be believed."""
    monkeypatch.setattr(stamp, "FRESH_NS", 0)
    monkeypatch.setattr(stage, "check_parity", lambda *_: 0.0)  # which reads some
    counts, bytes_of = Counter[str](), FileReader.bytes_of
    monkeypatch.setattr(
        FileReader, "bytes_of", lambda self, row: (counts.update([self.paths[row]]), bytes_of(self, row))[1]
    )
    return counts


@pytest.fixture
def change(images: Path) -> Iterator[Callable[..., None]]:
    """Write other pixels into an image of the first file, and `more` behind them."""
    path = images / "photos" / OF_FIRST
    before = path.read_bytes()

    def write(more: bytes = b"") -> None:
        path.write_bytes(before[:-64] + bytes(64) + more)

    yield write
    path.write_bytes(before)


def test_workers_vouch_for_no_cache_that_is_whole(
    images: Path,
    change: Callable[..., None],
    read: Counter[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They are started for the other split, and haven't compared its images."""
    extract(config(images, tmp_path))
    for left in tmp_path.glob("test.h5*"):
        left.unlink()
    change()
    monkeypatch.setattr(stage, "together", one_by_one)
    extract(config(images, tmp_path, workers=2))
    extract(config(images, tmp_path))
    found = FeatureCache(tmp_path / "train.json")
    assert [bytes(row) for row in found.image_digests] == expected(images)


def one_by_one(settings: ExtractConfig, jobs: object, workers: int, task: Task) -> Iterator[str]:
    """As `together`, in this process."""
    return (task(settings, rank, workers) for rank in range(workers))
