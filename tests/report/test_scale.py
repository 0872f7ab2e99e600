"""Two hundred runs, twenty classes, ten thousand test images: a page of bounded size in bounded time."""

import time
from pathlib import Path

import pytest
from support.many_runs import make
from support.reporting import Rows, page_of, section


@pytest.mark.slow
def test_a_report_of_200_runs_is_small_and_soon_there(tmp_path: Path) -> None:
    made = make(tmp_path / "many", seeds=40, classes=20, train=400, test=10_000)
    begun = time.process_time()
    page = page_of(made / "runs")
    seconds = time.process_time() - begun
    print(f"{len(page.encode()) / 1e6:.2f} MB in {seconds:.1f} s of a core")
    assert len(Rows(section(page, "runs")).rows) == 201
    assert page.count('src="data:image/jpeg') >= 36
    assert len(page.encode()) <= 5_000_000
    assert seconds <= 10
