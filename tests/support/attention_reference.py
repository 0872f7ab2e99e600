"""Recurrent attention written the slow and plain way, one image, crop, point and neighbour at a time.

Nothing of pipeline/heads is used: weights come as a head's plain matrices, crops as arrays.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
ANCHORS = [(0.0, 0.0), (0.5, 0.5), (0.5, -0.5), (-0.5, 0.5), (-0.5, -0.5)]
ANCHORS += [(0.5, 0.0), (-0.5, 0.0), (0.0, 0.5), (0.0, -0.5)]


def sample(crop_CHW: Array, theta: Sequence[float], rows: int, columns: int) -> Array:
    """(C, rows, columns) bilinear samples of a region, corners aligned, zero outside of the crop."""
    channels, height, width = crop_CHW.shape
    sx, sy, tx, ty = theta
    out = np.zeros((channels, rows, columns))
    for i in range(rows):
        for j in range(columns):
            y = (sy * _place(i, rows) + ty + 1) / 2 * (height - 1)
            x = (sx * _place(j, columns) + tx + 1) / 2 * (width - 1)
            for row in (math.floor(y), math.floor(y) + 1):
                for column in (math.floor(x), math.floor(x) + 1):
                    if 0 <= row < height and 0 <= column < width:
                        out[:, i, j] += (1 - abs(y - row)) * (1 - abs(x - column)) * crop_CHW[:, row, column]
    return out


def _place(i: int, count: int) -> float:
    return -1 + 2 * i / (count - 1) if count > 1 else 0.0


def look(
    crop_CHW: Array, weights: Mapping[str, Array], steps: int, rows: int, columns: int
) -> tuple[list[Array], list[Array]]:
    """The regions of one crop, and the scores of each."""
    width = len(weights["state_bias"])
    hidden = memory = np.zeros(width)
    theta, thetas, scores = np.array([1.0, 1.0, 0.0, 0.0]), [], []
    for k in range(steps + 1):
        region = sample(crop_CHW, tuple(theta), rows, columns)
        x = np.maximum(region.ravel() @ weights["look_weight"] + weights["look_bias"], 0)
        gates = x @ weights["lstm_weight"][:width] + hidden @ weights["lstm_weight"][width:]
        take, keep, candidate, show = np.split(gates + weights["lstm_bias"], 4)
        memory = _sigmoid(keep) * memory + _sigmoid(take) * np.tanh(candidate)
        hidden = _sigmoid(show) * np.tanh(memory)
        z = np.maximum(hidden @ weights["state_weight"] + weights["state_bias"], 0)
        if k >= 1:
            scores.append(z @ weights["score_weight"] + weights["score_bias"])
        if k < steps:
            starts = weights["place_bias"]
            start = starts if len(starts) == 4 else starts[4 * k : 4 * k + 4]
            theta = z @ weights["place_weight"] + start
            thetas.append(theta)
    return thetas, scores


def _sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def localisation(thetas: Sequence[Array], constraints: Sequence[str]) -> float:
    """Of the regions of one crop, summed."""
    total = 0.0
    for k, (sx, sy, tx, ty) in enumerate(thetas):
        cx, cy = ANCHORS[k % 9]
        if "anchor" in constraints:
            total += 0.01 * 0.5 * ((tx - cx) ** 2 + (ty - cy) ** 2)
        if "scale" in constraints:
            total += max(abs(sx) - 0.5, 0) ** 2 + max(abs(sy) - 0.5, 0) ** 2
        if "positive" in constraints:
            total += 0.1 * (max(0.1 - sx, 0) + max(0.1 - sy, 0))
    return total


def classification(logits: Array, labels: Array, kind: str) -> float:
    """Loss of one image; labels (K,) of 1, 0 and -1, or a class."""
    if kind == "cross-entropy":
        return math.log(sum(math.exp(score) for score in logits)) - float(logits[int(labels)])
    if kind == "bce":
        total = 0.0
        for score, label in zip(logits, labels, strict=True):
            if label >= 0:
                probability = 1 / (1 + math.exp(-score))
                total -= math.log(probability if label else 1 - probability)
        return total
    present = [float(label == 1) for label in labels]
    if not sum(present):
        return 0.0
    normaliser = sum(math.exp(score) for score in logits)
    return sum(
        (math.exp(score) / normaliser - y / sum(present)) ** 2
        for score, y in zip(logits, present, strict=True)
    )
