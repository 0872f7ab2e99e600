"""Predictions as rows of a file: CSV for tables, JSON lines for programs.

    path,class,probability,error,p_ant,p_bee                    one class each
    path,labels,error,p_ant,p_bee                               several labels, joined by |
    …,error,class_1,probability_1,class_2,probability_2         with --top-k 2, instead of p_…

An image that couldn't be decoded has a path and an error, and nothing else.
"""

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence

from pipeline.prediction.predicted import Predicted


class CsvRows:
    """Rows of a table with a column for each class, or for the K most probable."""

    def __init__(self, classes: Sequence[str], several: bool, top_k: int | None) -> None:
        self.several, self.top_k = several, top_k and min(top_k, len(classes))
        listed = [f"{name}_{k + 1}" for k in range(self.top_k or 0) for name in ("class", "probability")]
        self.cells = listed if self.top_k else [f"p_{name}" for name in classes]
        self.first = ["labels"] if several else ["class", "probability"]
        self.header = _line(["path", *self.first, "error", *self.cells])

    def rows(self, paths: Sequence[str], found: Predicted, bad: Mapping[int, str]) -> str:
        """The lines of some images; `bad` has the reasons by position."""
        lines = csv_text = io.StringIO()
        writer = csv.writer(lines, lineterminator="\n")
        highest = found.probabilities.max(1).tolist()
        for i, (path, label, cells) in enumerate(zip(paths, found.labels, self._cells(found), strict=True)):
            if i in bad:
                writer.writerow([path, *[""] * len(self.first), bad[i], *[""] * len(self.cells)])
            elif self.several:
                writer.writerow([path, "|".join(label), "", *cells])
            else:
                writer.writerow([path, label, _number(highest[i]), "", *cells])
        return csv_text.getvalue()

    def _cells(self, found: Predicted) -> Iterator[list[str]]:
        if self.top_k:
            for best in found.top_k(self.top_k):
                yield [text for name, p in best for text in (name, _number(p))]
        else:
            for row in found.probabilities.tolist():
                yield list(map(_number, row))


class JsonRows:
    """An object on each line."""

    header = ""

    def __init__(self, classes: Sequence[str], several: bool, top_k: int | None) -> None:
        self.several, self.top_k = several, top_k or len(classes)

    def rows(self, paths: Sequence[str], found: Predicted, bad: Mapping[int, str]) -> str:
        """The lines of some images; `bad` has the reasons by position."""
        lines = []
        for i, (path, label, best) in enumerate(
            zip(paths, found.labels, found.top_k(self.top_k), strict=True)
        ):
            said = {"labels": label} if self.several else {"class": label}
            said |= {"probabilities": {name: float(_number(p)) for name, p in best}}
            lines.append(
                json.dumps({"path": path, **({"error": bad[i]} if i in bad else said)}, ensure_ascii=False)
            )
        return "".join(f"{line}\n" for line in lines)


ROWS = {".csv": CsvRows, ".jsonl": JsonRows}
"""By the suffix of --out."""


def _number(probability: float) -> str:
    return f"{probability:.7g}"


def _line(cells: Sequence[str]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue()
