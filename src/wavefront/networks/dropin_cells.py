"""`LSTMCell`, `GRUCell` and `RNNCell` with the faces of `torch.nn`'s: a step of a stream is one native call."""

from __future__ import annotations

from abc import abstractmethod
from operator import is_
from typing import Any

import torch
from torch import Tensor, nn

from wavefront import cells
from wavefront.cell import Cell
from wavefront.engine.single import single

__all__ = ["GRUCell", "LSTMCell", "RNNCell"]


class _OneStep(nn.RNNCellBase):
    """What the three share. The parameters and their start, the checks and steps that want gradients are torch's own.

    A loop written in Python over such a cell can be no faster in training than its own calls; the module over the whole
    sequence (`LSTM`, `GRU`, `RNN`, or a `Recurrent`) is.
    """

    @abstractmethod
    def _form(self) -> Cell:
        """A cell for its form, without numbers."""

    def forward(self, input: Tensor, hx: Any = None) -> Any:
        """As torch's: input [B, input_size] or [input_size], hx the state before -> the state after."""
        if hx is not None and not torch.is_grad_enabled() and input.dim() == 2:
            cell = self._cell()
            found = None if cell is None else single(cell, hx, input)
            if found is not None:
                state = found[0]
                return state if isinstance(state, Tensor) else tuple(state)
        return super().forward(input, hx)

    def _cell(self) -> Cell | None:
        """Our cell, holding this module's parameters: the same until one of them is replaced. None where they are no plain parameters."""
        mine, (cell, held) = self._parameters, self.__dict__.get("_held", (None, {}))
        if len(mine) != len(held) or not all(map(is_, mine.values(), held.values())):
            if not mine.keys() >= {"weight_ih", "weight_hh", "bias_ih", "bias_hh"}:
                return None  # parametrised: they are computed at every call
            cell = self._form()
            for name, way in (("U", "ih"), ("W", "hh")):
                cell.get_submodule(name)._parameters = {part: mine[f"{part}_{way}"] for part in ("weight", "bias")}
            self.__dict__["_held"] = cell, dict(mine)
        return cell

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_held"}


class LSTMCell(_OneStep, nn.LSTMCell):
    """`torch.nn.LSTMCell`: the same constructor, parameters, checks and results; without gradients, one native call a step.

        i, f, g, o = W_ih x + b_ih + W_hh h + b_hh      c' = σ(f) ⊙ c + σ(i) ⊙ tanh(g)      h' = σ(o) ⊙ tanh(c')

    >>> from wavefront import LSTMCell
    >>> with torch.inference_mode():
    ...     h, c = LSTMCell(3, 5)(torch.randn(2, 3), (torch.zeros(2, 5), torch.zeros(2, 5)))
    >>> h.shape
    torch.Size([2, 5])
    """

    def _form(self) -> Cell:
        return cells.LSTM(self.input_size, self.hidden_size)


class GRUCell(_OneStep, nn.GRUCell):
    """`torch.nn.GRUCell`: the same constructor, parameters, checks and results; without gradients, one native call a step.

        r, z = σ(W_ih x + b_ih + W_hh h + b_hh)      n = tanh(W_in x + b_in + r ⊙ (W_hn h + b_hn))      h' = (1 - z) ⊙ n + z ⊙ h

    >>> from wavefront import GRUCell
    >>> with torch.inference_mode():
    ...     h = GRUCell(3, 5)(torch.randn(2, 3), torch.zeros(2, 5))
    >>> h.shape
    torch.Size([2, 5])
    """

    def _form(self) -> Cell:
        return cells.GRU(self.input_size, self.hidden_size)


class RNNCell(_OneStep, nn.RNNCell):
    """`torch.nn.RNNCell`: the same constructor, parameters, checks and results; without gradients, one native call a step.

        h' = tanh(W_ih x + b_ih + W_hh h + b_hh)         or max(0, ·), with nonlinearity="relu"

    >>> from wavefront import RNNCell
    >>> with torch.inference_mode():
    ...     h = RNNCell(3, 5, nonlinearity="relu")(torch.randn(2, 3), torch.zeros(2, 5))
    >>> h.shape
    torch.Size([2, 5])
    """

    def _form(self) -> Cell:
        return cells.Elman(self.input_size, self.hidden_size, activation=self.nonlinearity)
