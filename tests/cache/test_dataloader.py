"""torch's DataLoader on a cache: the batches that a list of its rows gives, from any kind of worker."""

import pickle
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.samples import extract, header
from torch.utils.data import BatchSampler, ConcatDataset, DataLoader, RandomSampler, Subset
from torch.utils.data._utils.collate import default_collate_fn_map

from cache import CacheError, FeatureCache, Rows
from cache.loading import Batch, Sent


@pytest.fixture(params=["float16", "bfloat16"])
def cache(request: pytest.FixtureRequest, tmp_path: Path) -> FeatureCache:
    return FeatureCache(extract(tmp_path / "train.h5", header(300, views=2, dtype=request.param)))


def compare(batches: Sequence[Any], cache: FeatureCache, rows: Sequence[int], batch: int = 64) -> None:
    """Each batch is what stacking single rows gives."""
    assert len(batches) == -(-len(rows) // batch)
    for found, at in zip(batches, range(0, len(rows), batch), strict=True):
        features, labels = found
        expected = [cache[row] for row in rows[at : at + batch]]
        assert torch.equal(features, torch.stack([torch.tensor(row.features) for row in expected]))
        assert torch.equal(labels, torch.tensor([row.labels for row in expected]))


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_the_rows_in_order(cache: FeatureCache, workers: int) -> None:
    loader = DataLoader(cache, batch_size=64, num_workers=workers)
    for _ in range(2):
        compare(list(loader), cache, range(300))


@pytest.mark.parametrize("workers", [0, 1])
def test_shuffled_batches_hold_every_row_once(cache: FeatureCache, workers: int) -> None:
    def sampler() -> RandomSampler:
        return RandomSampler(range(300), generator=torch.Generator().manual_seed(3))

    loader = DataLoader(cache, batch_size=64, sampler=sampler(), num_workers=workers)
    compare(list(loader), cache, list(sampler()))


def test_spawned_workers_open_the_file_themselves(sample: Path) -> None:
    cache = FeatureCache(sample)
    loader = DataLoader(cache, batch_size=512, num_workers=1, multiprocessing_context="spawn")
    compare(list(loader), cache, range(2500), 512)


def test_subsets_and_joined_caches_are_datasets_too(cache: FeatureCache) -> None:
    rows = [7, 3, 299, 0, 3]
    compare(list(DataLoader(Subset(cache, rows), batch_size=2)), cache, rows, 2)
    joined = ConcatDataset([cache, cache])
    compare(list(DataLoader(joined, batch_size=64)), cache, [*range(300), *range(300)])


def test_a_sampler_of_batches_needs_no_collation(cache: FeatureCache) -> None:
    batches = BatchSampler(range(300), 64, drop_last=False)
    loader = DataLoader(cache, batch_size=None, sampler=batches)
    compare(list(loader), cache, range(300))


def test_multi_label_batches_hold_rows_of_labels(tmp_path: Path) -> None:
    labels = np.array([[1, 0, -1], [0, 0, 0], [0, 1, 1]])
    cache = FeatureCache(extract(tmp_path / "a.h5", header(3, labels=labels, classes=["a", "b", "c"])))
    loader = DataLoader(cache, batch_size=3, num_workers=1)
    (batch,) = loader
    assert batch.labels.tolist() == labels.tolist()


def first_features(rows: Sequence[Rows]) -> torch.Tensor:
    """A collation of one's own, which looks at each row."""
    return torch.stack([torch.as_tensor(features) for features, _ in rows]).float()


def doubled(rows: Sequence[Rows]) -> list[torch.Tensor]:
    """A collation of one's own, on top of torch's."""
    features, labels = torch.utils.data.default_collate(rows)  # type: ignore[arg-type]
    return [2 * features, labels]


@pytest.mark.parametrize("workers", [0, 1])
def test_collations_of_one_s_own_see_a_sequence_of_rows(cache: FeatureCache, workers: int) -> None:
    expected = torch.from_numpy(cache[:].features)
    loader = DataLoader(cache, batch_size=100, num_workers=workers, collate_fn=first_features)
    assert torch.equal(torch.cat(list(loader)), expected.float())
    loader = DataLoader(cache, batch_size=100, num_workers=workers, collate_fn=doubled)
    assert torch.equal(torch.cat([features for features, _ in loader]), 2 * expected)


def test_a_batch_is_a_sequence_of_rows(cache: FeatureCache) -> None:
    batch = cache.__getitems__([5, 1, 1])
    assert len(batch) == 3
    assert np.array_equal(batch[-1].features, cache[1].features)
    assert [row.labels for row in batch[1:]] == [cache[1].labels] * 2


def test_what_a_batch_gives_belongs_to_the_caller(cache: FeatureCache) -> None:
    batch = cache.__getitems__([5, 1, 1])
    row, (features, _) = batch[0], torch.utils.data.default_collate(batch)  # type: ignore[arg-type]
    features.zero_()
    again, _ = torch.utils.data.default_collate(batch)  # type: ignore[arg-type]
    for found in (row.features, again[0], batch[0].features):
        assert np.array_equal(found, cache[5].features)


def test_a_worker_sends_row_numbers_and_the_batch_is_read_where_it_arrives(cache: FeatureCache) -> None:
    batch = cache.__getitems__(range(256))
    assert isinstance(batch, Batch)
    sent = pickle.dumps(Sent(batch))
    assert len(sent) < 3000 < batch.cache[:256].features.nbytes
    received = pickle.loads(sent)
    assert torch.equal(received.features, torch.from_numpy(cache[:256].features))


def test_torch_without_a_table_of_collations_still_makes_batches(
    cache: FeatureCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That table isn't promised for ever."""
    monkeypatch.delitem(default_collate_fn_map, Rows, raising=False)
    monkeypatch.setattr("cache.loading._COLLATION", "gone")
    compare(list(DataLoader(cache, batch_size=64)), cache, range(300))
    assert Rows not in default_collate_fn_map


@pytest.mark.parametrize("workers", [0, 1])
def test_a_file_that_was_replaced_is_refused(cache: FeatureCache, workers: int) -> None:
    loader = DataLoader(cache, batch_size=10, num_workers=workers)
    batches = iter(loader)
    next(batches)
    time.sleep(0.02)  # a clock tick: some systems count a file's time in them
    with cache.path.open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\7")
    with pytest.raises(CacheError, match="another file took its place"):
        list(batches)
