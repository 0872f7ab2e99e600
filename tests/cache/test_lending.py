"""Memory that workers lend: never overwritten while somebody looks at it, used again when nobody does."""

import gc
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from support.samples import extract, header
from torch.utils.data import DataLoader

from cache import FeatureCache
from cache.lending import PIECES, Borrower, Lender, Loan
from cache.loading import Sent, _lender

pytestmark = pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="no memory without a name here")
SHAPE, HALF = (4, 3), np.dtype("<f2")


def lend(lender: Lender, value: float) -> Loan:
    lent = lender.lend(SHAPE, HALF)
    assert lent is not None
    lent[1][...] = value
    return lent[0]


def test_what_is_looked_at_is_what_was_lent() -> None:
    found = Borrower().look_at(lend(Lender(), 7))
    assert found is not None
    assert (found.dtype, found.shape) == (HALF, SHAPE)
    assert (found == 7).all()


def test_a_piece_is_lent_again_once_no_view_of_it_is_left() -> None:
    lender, borrower = Lender(), Borrower()
    first = lend(lender, 1)
    whole = borrower.look_at(first)
    assert whole is not None
    view = torch.from_numpy(whole)[1:, :2]
    del whole
    assert lend(lender, 2).inode != first.inode
    assert (view == 1).all()
    del view
    gc.collect()
    assert lend(lender, 3).inode == first.inode


def test_larger_arrays_get_larger_pieces() -> None:
    lender = Lender()
    small = lend(lender, 1)
    lender.take_back(small)
    large = lender.lend((1000, 3), HALF)
    assert large is not None
    assert large[0].inode != small.inode
    lender.take_back(large[0])
    assert lend(lender, 2).inode == small.inode


def test_no_more_pieces_than_allowed_are_lent() -> None:
    lender = Lender()
    for _ in range(PIECES):
        lend(lender, 0)
    assert lender.lend(SHAPE, HALF) is None


def test_memory_of_another_or_of_no_process_is_not_looked_at() -> None:
    loan = lend(Lender(), 1)
    assert Borrower().look_at(loan._replace(inode=loan.inode + 1)) is None
    assert Borrower().look_at(loan._replace(process=2**22 + 1)) is None


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_batches_that_are_kept_stay_what_they_were(tmp_path: Path, dtype: str) -> None:
    cache = FeatureCache(extract(tmp_path / "train.h5", header(300, views=2, dtype=dtype)))
    kept = list(DataLoader(cache, batch_size=5, num_workers=2))  # more than there are pieces
    assert torch.equal(torch.cat([batch.features for batch in kept]), torch.from_numpy(cache[:].features))
    kept[0].features.zero_()  # they belong to whoever got them
    assert torch.equal(kept[1].features, torch.from_numpy(cache[5:10].features))


def test_without_such_memory_row_numbers_are_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = FeatureCache(extract(tmp_path / "train.h5", header(300)))
    monkeypatch.delattr(os, "memfd_create")
    _lender.cache_clear()
    batches = list(DataLoader(cache, batch_size=100, num_workers=1))
    assert torch.equal(torch.cat([b.features for b in batches]), torch.from_numpy(cache[:].features))
    _, (_, rows, loan) = Sent(cache.__getitems__([1, 2])).__reduce__()
    assert (loan, rows.tolist()) == (None, [1, 2])


def test_memory_that_the_other_side_cannot_open_is_read_there_again(tmp_path: Path) -> None:
    cache = FeatureCache(extract(tmp_path / "train.h5", header(300)))
    received, (same, rows, loan) = Sent(cache.__getitems__([5, 1])).__reduce__()
    assert loan is not None
    batch = received(same, rows, loan._replace(inode=0))
    assert torch.equal(batch.features, torch.from_numpy(cache[[5, 1]].features))
