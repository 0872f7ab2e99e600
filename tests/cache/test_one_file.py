"""What an open cache gives is of one file, whatever happens to the path: deleted, replaced, written over."""

import gc
import os
import pickle
import resource
import shutil
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
from support.samples import features, header, image_digests

from cache import CacheError, CacheWriter, FeatureCache

OTHER = "another file took its place since it was opened, or somebody wrote into it; open it again"


def made(path: Path, weights: int, sign: int = 1, images: int = 0) -> Path:
    """A cache of 3 rows, always of one size, made from other weights, with other maps, or other images."""
    described = header(3, identity={"weights": weights})
    with CacheWriter(path, described) as writer:
        rows = range(3)
        writer.write(rows, sign * features(described, rows), image_digests(range(images, images + 3)))
        return writer.publish()


def keep_times(path: Path, found: os.stat_result) -> None:
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))


def test_a_number_that_the_file_system_gives_away_again_is_no_disguise(tmp_path: Path) -> None:
    """ext4 gives the next file a deleted one's number; sizes are equal anyhow, and times by chance."""
    path = made(tmp_path / "train.h5", 1)
    cache, before = FeatureCache(path), path.stat()
    path.unlink()
    for i in range(20):
        other = made(tmp_path / f"{i}.h5", 2)
        keep_times(other, before)
        assert other.stat().st_size == before.st_size
        assert other.stat().st_ino != before.st_ino
        os.replace(other, path)
        for use in (lambda: cache.take([0]), lambda: cache.image_digests, lambda: cache.verify([0])):
            with pytest.raises(CacheError, match=rf"^{path}: {OTHER}"):
                use()
    assert cache.identity == {"weights": 1}


@pytest.mark.parametrize("is_mapped", [True, False])
def test_a_file_that_is_written_over_in_place_is_refused(is_mapped: bool, tmp_path: Path) -> None:
    """As by `cp other.h5 train.h5`, which keeps the number; the map shows the new maps at once."""
    path, other = made(tmp_path / "train.h5", 1), made(tmp_path / "other.h5", 2, sign=-1)
    cache = FeatureCache(path)
    if is_mapped:
        assert cache.take([0]).any()
    time.sleep(0.02)  # a clock tick: some systems count a file's time in them
    shutil.copyfile(other, path)
    for use in (lambda: cache.take([0]), lambda: cache.image_digests, lambda: cache.verify([0])):
        with pytest.raises(CacheError, match=OTHER):
            use()


def test_rows_that_are_mapped_stay_those_of_the_file_that_was_opened(tmp_path: Path) -> None:
    path = made(tmp_path / "train.h5", 1)
    cache = FeatureCache(path)
    expected = cache.take([0, 2])
    os.replace(made(tmp_path / "other.h5", 2, sign=-1), path)
    assert np.array_equal(cache.take([0, 2]), expected)
    cache.release()
    with pytest.raises(CacheError, match=OTHER):
        cache.take([0, 2])
    assert np.array_equal(FeatureCache(path).take([0, 2]), -expected)


def first_row(cache: FeatureCache) -> np.ndarray:
    return cache.take([0])


@pytest.mark.parametrize("change", [{"weights": 2}, {"sign": -1}, {"images": 1}])
def test_a_worker_that_is_sent_a_cache_refuses_another_file(change: dict[str, int], tmp_path: Path) -> None:
    """With an error of the task: one in unpickling would end the worker."""
    path = made(tmp_path / "train.h5", 1)
    cache = FeatureCache(path)
    expected = cache.take([0])
    sent = pickle.dumps(cache)
    assert len(sent) < 500
    with ProcessPoolExecutor(1, get_context("fork")) as pool:
        shutil.copy(path, tmp_path / "copy.h5")
        os.replace(tmp_path / "copy.h5", path)  # the same file in all that counts
        assert np.array_equal(pool.submit(first_row, pickle.loads(sent)).result(), expected)
        os.replace(made(tmp_path / "other.h5", **{"weights": 1, **change}), path)
        with pytest.raises(CacheError, match=rf"^{path}: {OTHER}"):
            pool.submit(first_row, pickle.loads(sent)).result()
        path.unlink()
        with pytest.raises(CacheError, match=r"train\.h5: no such file"):
            pool.submit(first_row, pickle.loads(sent)).result()


def test_a_forked_child_goes_on_with_the_parent_s_file(tmp_path: Path) -> None:
    path = made(tmp_path / "train.h5", 1)
    cache = FeatureCache(path)
    expected = cache.take([0])
    ready, tell = os.pipe()
    if not (pid := os.fork()):
        try:
            outcome = cache.take([0]).tobytes() + bytes(bool(cache.verify()))
            del cache
            os.write(tell, outcome)
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    os.close(tell)
    with os.fdopen(ready, "rb") as told:
        assert told.read() == expected.tobytes()
    cache.verify()  # the child closed descriptors of its own


def test_a_cache_holds_one_file_open_until_it_goes(sample: Path) -> None:
    if not Path("/proc/self/fd").exists():
        pytest.skip("only Linux lists a process's open files")

    def open_files() -> int:
        gc.collect()
        links = [f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")]
        return sum(os.readlink(link) == str(sample) for link in links if os.path.lexists(link))

    cache = FeatureCache(sample)
    assert open_files() == 1
    cache.verify()
    kept = cache.features, cache.image_digests
    assert open_files() == 2  # a memory map has its own
    del kept
    cache.release()
    assert open_files() == 1
    copied = pickle.loads(pickle.dumps(cache))
    assert open_files() == 1
    del cache, copied
    assert open_files() == 0


def test_more_caches_than_files_that_may_be_open_are_one_clear_line(tiny: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(limits[0], 200), limits[1]))
    try:
        for _ in range(300):  # one after the other is no matter
            FeatureCache(tiny).take([0])
        kept: list[FeatureCache] = []
        with pytest.raises(CacheError, match=rf"^{tiny}: can't be opened: Too many open files$"):
            kept.extend(FeatureCache(tiny) for _ in range(300))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
