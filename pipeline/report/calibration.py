"""Is a probability of 80 % right in 80 of 100 cases? A curve over bins, with how many cases each has."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.scored import Predictions
from pipeline.metrics.intervals import wilson
from pipeline.metrics.single_label import BINS, calibration_error
from pipeline.metrics.thresholds import sigmoid
from pipeline.report.chart import Frame
from pipeline.report.markup import Markup, element


class Bin(NamedTuple):
    """Cases of about one probability; figures in per cent."""

    low: float
    cases: int
    confidence: float
    accuracy: float


def probabilities(logits_NK: NDArray[np.floating], multi_label: bool) -> NDArray[np.float64]:
    """(N, K) softmax, or sigmoid where an image may have several labels."""
    logits = logits_NK.astype(np.float64)
    if multi_label:
        return sigmoid(logits)
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def cases(kept: Predictions) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Probabilities and whether each came true: of the predicted class of each image; where images have
    several labels, of each label that is counted."""
    if kept.multi_label:
        counted = kept.labels >= 0
        return sigmoid(kept.logits[counted].astype(np.float64)), kept.labels[counted] == 1
    top = kept.logits.max(1, keepdims=True).astype(np.float64)
    confidence = 1 / np.exp(kept.logits.astype(np.float64) - top).sum(1)
    return confidence, kept.correct


def bins(confidence: NDArray[np.float64], right: NDArray[np.bool_]) -> list[Bin]:
    """The cases in 15 equal bins, as the calibration error counts them; without the empty ones."""
    places = np.digitize(confidence, np.linspace(0, 1, BINS + 1)[1:-1])
    found = []
    for place in np.unique(places).tolist():
        own = places == place
        figures = 100 * float(confidence[own].mean()), 100 * float(right[own].mean())
        found.append(Bin(100 * place / BINS, int(own.sum()), *figures))
    return found


def calibration(kept: Predictions) -> Markup:
    """The curve beside the diagonal that it should follow, and its figures."""
    confidence, right = cases(kept)
    found = bins(confidence, right)
    error = calibration_error(confidence, right)
    what = "labels of images" if kept.multi_label else "predictions"
    words = (
        f"Expected calibration error {error:.2f} % over {len(right):,} {what}. "
        + ("On average the head is too sure. " if confidence.mean() > right.mean() else "")
        + "Below the diagonal it is too sure, above it not sure enough. Upright lines are 95 % intervals."
    )
    return element(
        "section",
        element("h2", "Calibration", id="calibration"),
        element("p", words, class_="muted"),
        element("figure", _chart(found), _table(found), class_="square"),
    )


def _chart(found: list[Bin]) -> Markup:
    frame = Frame((0.0, 100.0), (0.0, 100.0), width=460, height=400)
    most = max(one.cases for one in found)
    bars = []
    for one in found:
        end = one.low + 100 / BINS
        (left, top), (right, bottom) = frame.at(one.low, 24 * one.cases / most), frame.at(end, 0)
        title = element("title", f"{one.cases:,} cases from {one.low:.0f} to {end:.0f} %")
        width, height = round(right - left - 1, 1), round(bottom - top, 1)
        bars.append(element("rect", title, x=left, y=top, width=width, height=height, class_="fill s7 light"))
    dots = [
        frame.dot(
            one.confidence,
            one.accuracy,
            f"{one.accuracy:.1f} % of {one.cases:,} right",
            4.5,
            class_="fill s0",
        )
        for one in found
    ]
    sure = [
        frame.line(
            [(one.confidence, end) for end in wilson(one.accuracy, one.cases)], class_="series s0 soft"
        )
        for one in found
    ]
    curve = frame.line([(one.confidence, one.accuracy) for one in found], class_="series s0")
    diagonal = frame.line([(0, 0), (100, 100)], class_="zero")
    title = "Calibration curve: share that came true against probability; bars: how many cases"
    labels = {"x_label": "probability, %", "y_label": "came true, %"}
    return frame.drawn(*bars, diagonal, *sure, curve, *dots, title=title, **labels)


def _table(found: list[Bin]) -> Markup:
    rows = [
        element(
            "tr",
            element("th", f"{one.low:.0f} to {one.low + 100 / BINS:.0f}", scope="row"),
            element("td", f"{one.cases:,}", class_="number"),
            element("td", f"{one.confidence:.1f}", class_="number"),
            element("td", f"{one.accuracy:.1f}", class_="number"),
        )
        for one in found
    ]
    heads = ("probability, %", "cases", "mean probability, %", "came true, %")
    head = [element("th", word, scope="col") for word in heads]
    parts = element("thead", element("tr", head)), element("tbody", rows)
    return element("details", element("summary", "In figures"), element("table", parts))
