"""Delays: cells that are given past inputs and past outputs beside what comes now."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from wavefront.cell import Cell, advance
from wavefront.errors import SettingsError, ShapeError
from wavefront.wrap._parts import each_slot, vector_inputs
from wavefront.wrap.wrapper import Wrapper

__all__ = ["Delays"]


class DelaysState(NamedTuple):
    inner: Any
    inputs: Tensor  # x(t-1), x(t-2), ..., [N, the longest delay, inputs]
    outputs: Tensor  # o(t-1), o(t-2), ..., [N, the longest delay, outputs]


class Delays(Wrapper):
    """A cell with tapped delay lines of its inputs, and of its outputs: NARX.  [Waibel et al. 1989; Lin et al. 1996, IEEE TNN 7(6), eq. 2]

        (h', o(t)) = f(h, [x(t-d) for d of inputs] + [o(t-d) for d of outputs])

    state (the cell's, the last inputs [N, D, inputs], the last outputs [N, D', outputs], latest first), x [N, inputs] -> output o(t). Before the
    first step all were zero. Delays of the state itself are `Recurrent(cell, skips=...)`; one output with forcing is `Feedback`.

    size      the size of x; the cell's inputs are len(inputs) × size + len(outputs) × its outputs
    inputs    delays of x, 0 being now
    outputs   delays of o, at least 1 each

    >>> from wavefront import Recurrent, cells
    >>> narx = Delays(cells.Elman(2 * 3 + 3 * 5, 5), 3, inputs=(0, 1), outputs=(1, 2, 7))
    >>> Recurrent(narx)(torch.randn(2, 9, 3))[0].shape
    torch.Size([2, 9, 5])
    """

    def __init__(self, cell: Cell, size: int, inputs: Sequence[int] = (0,), outputs: Sequence[int] = ()):
        for name, delays, least in (("inputs", inputs, 0), ("outputs", outputs, 1)):
            if len(set(delays)) < len(delays) or any(d < least for d in delays):
                raise SettingsError(f"wrap.Delays: {name} are different delays of at least {least} steps; got {tuple(delays)}.")
        want = len(inputs) * size + len(outputs) * cell.outputs
        if vector_inputs(cell, "wrap.Delays") != want or cell.slots == "any":
            raise ShapeError(
                f"wrap.Delays: {len(inputs)} inputs of {size} and {len(outputs)} outputs of {cell.outputs} are {want} numbers, for a cell of a"
                f" fixed number of predecessors; got one of inputs={cell.inputs}, slots={cell.slots}."
            )
        state = DelaysState(cell.sizes, (max(inputs, default=0), size), (max(outputs, default=0), cell.outputs))  # type: ignore[arg-type]
        super().__init__(cell, inputs=size, state=state, outputs=cell.outputs)
        self.of_inputs, self.of_outputs = tuple(inputs), tuple(outputs)

    def initial_state(self, rows):
        inner = self.cell.initial_state(rows)
        like = next((p for p in self.parameters() if p.is_floating_point()), torch.empty(0))
        return DelaysState(inner, *(like.new_zeros(rows, *sizes) for sizes in self.sizes[1:]))

    def step(self, state, x, draws=None, phase=0):
        _, xs, os = state if self.slots == 1 else state[0]
        line = torch.cat([x[:, None], xs], 1)
        taps = [line[:, d] for d in self.of_inputs] + [os[:, d - 1] for d in self.of_outputs]
        inner = each_slot(self.slots, state, lambda part: part.inner)
        inner, output = advance(self.cell, inner, torch.cat(taps, -1), draws, phase)
        outputs = torch.cat([output[:, None], os], 1)[:, : os.shape[1]]
        return DelaysState(inner, line[:, : xs.shape[1]], outputs), output
