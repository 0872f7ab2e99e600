"""Predictions on the screen: a table of the first images, bad images by name, and counts of all."""

from collections import Counter
from collections.abc import Mapping, Sequence

from pipeline.prediction.predicted import Predicted
from pipeline.progress import say, warn
from pipeline.runs.table import table
from pipeline.wording import shown, some

BAD = 10
"""Bad images that are named; of further ones the number is said."""
CLASSES = 10
"""Classes whose number of images is said."""


class Screen:
    """Shows the first `rows` images once they are there, and counts all."""

    def __init__(self, rows: int, top_k: int) -> None:
        self.rows, self.top_k = rows, top_k
        self.counts, self.images, self.bad = Counter[str](), 0, 0
        self._waiting: list[list[str]] = []

    def add(self, paths: Sequence[str], found: Predicted, bad: Mapping[int, str]) -> None:
        """Take some images; `bad` has the reasons by position."""
        for i, reason in bad.items():
            if self.bad < BAD:
                warn(f"left out: {shown(paths[i])}: {reason}")
            self.bad += 1
        several = found.thresholds is not None
        labels, left = found.labels, self.rows - len(self._waiting)
        best = found.top_k(self.top_k) if left > 0 else []
        for i in (i for i in range(len(paths)) if i not in bad):
            label = labels[i]
            self.counts.update(label or ["no label"] if isinstance(label, tuple) else [label])
            if left > 0:
                said = [", ".join(labels[i]) or "-"] if several else []
                cells = [text for name, p in best[i] for text in (name, f"{p:.3f}")]
                self._waiting.append([shown(paths[i]), *said, *cells])
                left -= 1
        self.images += len(paths) - len(bad)
        if self.rows and left <= 0:
            self._show(several)
            self.rows = 0

    def end(self, several: bool) -> None:
        """Show what wasn't shown yet."""
        if self.rows and self._waiting:
            self._show(several)
        if self.bad > BAD:
            warn(f"left out: {self.bad - BAD:,} more")

    def summary(self) -> str:
        """How many images there are of each class, or with each label."""
        counted = (f"{shown(name)} {count:,}" for name, count in self.counts.most_common())
        left_out = f"; {self.bad:,} left out" if self.bad else ""
        return f"{self.images:,} images: {some(counted, CLASSES)}{left_out}"

    def _show(self, several: bool) -> None:
        header = ["image", *(["labels"] if several else [])]
        for k in range((max(map(len, self._waiting)) - len(header)) // 2):
            header += [f"top {k + 1}" if k or several else "class", "probability" if not k else ""]
        say(table(header, self._waiting))
