"""An LSTM's step without its matrix product, and the same back: a launch each.

Legend: M heads, R rows, h width. Gates lie as in `pipeline.heads.lstm`. Numbers are computed in float32.
"""

# Kernels are written in Triton's language, whose types are not Python's.
# pyright: reportArgumentType=false, reportCallIssue=false

import torch
import triton
import triton.language as tl
from torch import Tensor

COLUMNS = 256
"""Hidden units per program."""


@triton.jit
def _tanh(x):
    return 2 * tl.sigmoid(2 * x) - 1


@triton.jit
def _cell(
    gates, before, active, after, seen, hidden, rows, width, head_stride, row_stride, COLUMNS: tl.constexpr
):
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    inside = column < width
    gate, at = row * 4 * width + column, row * width + column
    take = tl.sigmoid(tl.load(gates + gate, inside, 0.0).to(tl.float32))
    keep = tl.sigmoid(tl.load(gates + gate + width, inside, 0.0).to(tl.float32))
    candidate = _tanh(tl.load(gates + gate + 2 * width, inside, 0.0).to(tl.float32))
    show = tl.sigmoid(tl.load(gates + gate + 3 * width, inside, 0.0).to(tl.float32))
    memory = keep * tl.load(before + at, inside, 0.0) + take * candidate
    state = _tanh(memory)
    tl.store(active + gate, take, inside)
    tl.store(active + gate + width, keep, inside)
    tl.store(active + gate + 2 * width, candidate, inside)
    tl.store(active + gate + 3 * width, show, inside)
    tl.store(after + at, memory, inside)
    tl.store(seen + at, state, inside)
    tl.store(hidden + (row // rows) * head_stride + (row % rows) * row_stride + column, show * state, inside)


@triton.jit
def _cell_gradient(
    active, before, seen, hidden, after, gates, memory, rows, width, head_stride, COLUMNS: tl.constexpr
):
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    inside = column < width
    gate, at = row * 4 * width + column, row * width + column
    take = tl.load(active + gate, inside, 0.0)
    keep = tl.load(active + gate + width, inside, 0.0)
    candidate = tl.load(active + gate + 2 * width, inside, 0.0)
    show = tl.load(active + gate + 3 * width, inside, 0.0)
    state, to_hidden = tl.load(seen + at, inside, 0.0), tl.load(hidden + at, inside, 0.0)
    to_memory = tl.load(after + at, inside, 0.0) + to_hidden * show * (1 - state * state)
    into = gates + (row // rows) * head_stride + (row % rows) * 4 * width + column
    tl.store(into, to_memory * candidate * take * (1 - take), inside)
    tl.store(into + width, to_memory * tl.load(before + at, inside, 0.0) * keep * (1 - keep), inside)
    tl.store(into + 2 * width, to_memory * take * (1 - candidate * candidate), inside)
    tl.store(into + 3 * width, to_hidden * state * show * (1 - show), inside)
    tl.store(memory + at, to_memory * keep, inside)


def cell(gates: Tensor, before: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Take a step from gates (M, R, 4h) before their activation and memory (M, R, h) float32. The hidden
    state is written into `hidden` (M, R, h), whose rows need not be neighbours.

    Returns active gates, the memory after the step and its tanh, in float32.
    """
    heads, rows, width = before.shape
    active = torch.empty_like(gates, dtype=torch.float32)
    after, seen = torch.empty_like(before), torch.empty_like(before)
    _cell[_grid(heads * rows, width)](
        gates, before, active, after, seen, hidden, rows, width, *hidden.stride()[:2], COLUMNS
    )
    return active, after, seen


def cell_gradient(
    active: Tensor, before: Tensor, seen: Tensor, hidden: Tensor, after: Tensor, gates: Tensor
) -> Tensor:
    """The gradient of the memory before a step, given those of hidden state and memory after it; that of the
    gates is written into `gates` (M, R, 4h), heads of which need not be neighbours."""
    heads, rows, width = before.shape
    memory = torch.empty_like(before)
    _cell_gradient[_grid(heads * rows, width)](
        active, before, seen, hidden, after, gates, memory, rows, width, gates.stride(0), COLUMNS
    )
    return memory


def _grid(rows: int, width: int) -> tuple[int, int]:
    return rows, triton.cdiv(width, COLUMNS)
