"""The configuration of the report."""

import dataclasses
from typing import Annotated

from pipeline.checks import Checked, FilePath, Range


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReportConfig(Checked):
    """Write a report of runs: one HTML file that any browser opens from disk, without a network.

    RUN is a run, a sweep, or a folder with any number of them. The best head comes first, and whether it can
    be told apart from the others; then all runs, learning curves, differences, what the best one got
    wrong on the test images, doubtful labels and duplicates. Test scores are those that evaluate.py left in
    RUN/eval/: the report scores nothing.
    """

    positional = "run", "RUN"

    run: tuple[FilePath, ...] = ("artifacts",)
    """Runs, sweeps, and folders with runs in and below them; the flag may be left out."""
    out: FilePath = "artifacts/report.html"
    """File to write."""
    images: Annotated[int, Range(0, 100)] = 24
    """How many mistakes to show as images, the most confident ones, and how many doubtful labels; half as
    many hits are shown, the least confident ones, and half as many duplicates. 0 shows none and opens no
    dataset."""
