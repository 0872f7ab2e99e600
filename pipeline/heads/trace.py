"""One pass of recurrent attention over a batch: its steps, and the same back, by hand.

A forward pass keeps the inputs of all steps next to each other and the way back their gradients, so that each
weight's gradient is one product over all steps, where autograd has one for each, written out in the weight's
full size and added up. Products are computed in the maps' precision, all else in the weights'.

Shapes: M heads, B images, R rows (a crop of an image each), S regions, T = S + 1 steps, h width, D = p·q·C
numbers of a region, L cells of an image.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from pipeline.heads.gradients import empty_gradient
from pipeline.heads.lstm import Cell, cell, cell_gradient
from pipeline.heads.products import by_rows
from pipeline.heads.transformer import Look, Transformer

Mask = Callable[[Tensor], Tensor]
"""Draws what values like these are multiplied by: dropout."""


class Layers(NamedTuple):
    """Weights (M, inputs, outputs) and biases (M, outputs), and where regions start (M, S, 4)."""

    look_weight: Tensor
    look_bias: Tensor
    lstm_weight: Tensor
    lstm_bias: Tensor
    state_weight: Tensor
    state_bias: Tensor
    place_weight: Tensor
    starts: Tensor


class Trace:
    """What a forward pass leaves for the way back; without `keep`, for its own next step alone."""

    def __init__(self, transformer: Transformer, maps: Tensor, seen: Tensor, layers: Layers) -> None:
        """`maps`: (B, L, C). `seen`: memory for what each step sees, (M, T, R, D), or (M, 1, R, D) without a
        way back."""
        self.transformer, self.maps, self.seen, self.layers = transformer, maps, seen, layers
        self.short = Layers(*(part.to(maps.dtype) for part in layers))
        heads, slots, rows, _ = seen.shape
        self.width, self.keep = layers.look_weight.shape[2], slots > 1
        self.steps = layers.starts.shape[1] + 1
        # [x, hidden] of each step, and a last one for what is hidden after all of them.
        self.inputs = seen.new_zeros(heads, slots + self.keep, rows, 2 * self.width)
        self.states = layers.starts.new_empty(heads, self.steps, rows, self.width)
        self.memory = layers.starts.new_zeros(heads, rows, self.width)
        self.ground = transformer.ground(maps, heads, layers.starts.dtype)
        self.cells: list[Cell] = []
        self.looks: list[Look] = []
        self.masks: list[Tensor] = []  # of x and of the state, in turns

    def first(self, rows: Tensor) -> None:
        """Let step 0 see these rows of the maps, (R, p·q)."""
        table = self.maps.flatten(0, 1)
        torch.index_select(table, 0, rows.flatten(), out=self.seen[0, 0].view(-1, table.shape[1]))
        self.seen[1:, 0] = self.seen[0, 0]

    def look(self, k: int, theta: Tensor) -> None:
        """Let step k see the regions (M, R, 4)."""
        look = self.transformer.look(theta.unflatten(1, (len(self.maps), -1)), self.ground)
        self.seen[:, self._at(k)] = self.transformer.sample(self.maps, look).flatten(1, 2)
        if self.keep:
            self.looks.append(look)

    def step(self, k: int, mask: Mask | None) -> Tensor:
        """Go from what step k sees to its state (M, R, h)."""
        short, at = self.short, self._at(k)
        x = self.inputs[:, at, :, : self.width]
        torch.baddbmm(short.look_bias[:, None], self.seen[:, at], short.look_weight, out=x).relu_()
        if mask:
            self.masks.append(mask(x))
            x.mul_(self.masks[-1])
        known = self._known(k)
        gates = torch.baddbmm(
            short.lstm_bias[:, None], self.inputs[:, at, :, :known], short.lstm_weight[:, :known]
        )
        hidden = self.inputs[:, self._at(k + 1), :, self.width :]
        step = cell(gates, self.memory, hidden)
        z = torch.baddbmm(short.state_bias[:, None], hidden, short.state_weight).relu_()
        if mask:
            self.masks.append(mask(z))
            z.mul_(self.masks[-1])
        self.states[:, k], self.memory = z, step.after
        if self.keep:
            self.cells.append(step)
        return self.states[:, k]

    def _at(self, k: int) -> int:
        return k if self.keep else 0

    def _known(self, k: int) -> int:
        """How many inputs the LSTM has: nothing is hidden before the first step."""
        return 2 * self.width if k else self.width


class Back:
    """The way back: from the gradients of states to those of the layers."""

    def __init__(self, trace: Trace) -> None:
        heads, slots, rows, _ = trace.seen.shape
        self.trace = trace
        self.x, self.gates, self.states = (
            trace.inputs.new_empty(heads, slots, rows, n * trace.width) for n in (1, 4, 1)
        )
        self.hidden = self.memory = torch.zeros_like(trace.memory)

    def step(self, k: int, z: Tensor) -> None:
        """Go back from the gradient of step k's state (M, R, h) to that of x, in `x[:, k]`."""
        trace, short, width = self.trace, self.trace.short, self.trace.width
        z = z * trace.masks[2 * k + 1] if trace.masks else z
        torch.ops.aten.threshold_backward(z, trace.states[:, k], 0, grad_input=self.states[:, k])
        hidden = by_rows(self.states[:, k], short.state_weight)
        gates = self.gates[:, k]
        self.memory = cell_gradient(trace.cells[k], self.hidden + hidden, self.memory, gates)
        known = by_rows(gates, short.lstm_weight[:, : trace._known(k)])
        x, hidden = known.tensor_split([width], 2)
        x = x * trace.masks[2 * k] if trace.masks else x
        torch.ops.aten.threshold_backward(x, trace.inputs[:, k, :, :width], 0, grad_input=self.x[:, k])
        self.hidden = hidden.to(self.memory.dtype)

    def look(self, k: int) -> Tensor:
        """Go on to the gradient of the regions (M, R, 4) that step k saw."""
        trace = self.trace
        seen = by_rows(self.x[:, k], trace.short.look_weight)
        look = trace.looks[k - 1]
        return trace.transformer.gradient(trace.maps, look, trace.ground, seen).flatten(1, 2)

    def layers(self, thetas: Tensor) -> Layers:
        """The gradients of all layers, given those of the regions (M, S, R, 4)."""
        trace, of, width = self.trace, self.trace.layers, self.trace.width
        hidden = trace.inputs[:, 1:, :, width:]
        region, lstm, state, place = (
            empty_gradient(weight)
            for weight in (of.look_weight, of.lstm_weight, of.state_weight, of.place_weight)
        )
        _product(trace.seen, self.x, region)
        _product(trace.inputs[:, :-1, :, :width], self.gates, lstm[:, :width])
        _product(hidden[:, :-1], self.gates[:, 1:], lstm[:, width:])
        _product(hidden, self.states, state)
        _product(trace.states[:, :-1], thetas, place)
        x, gates, states = (
            part.sum((1, 2), dtype=thetas.dtype) for part in (self.x, self.gates, self.states)
        )
        return Layers(region, x, lstm, gates, state, states, place, thetas.sum(2))


def _product(inputs: Tensor, grads: Tensor, out: Tensor) -> None:
    """Write the gradient of a weight, given its inputs and the gradients of its outputs at all steps."""
    inputs, grads = inputs.flatten(1, 2).transpose(1, 2), grads.flatten(1, 2)
    if inputs.dtype == out.dtype:
        torch.bmm(inputs, grads, out=out)
    else:
        out.copy_(torch.bmm(inputs, grads))
