"""Recurrences that are linear in their state: what x decides, the state only fades and gathers. Steps in a row are one step: `combine`."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from wavefront.cell import Cell
from wavefront.cells._parts import Activation, function, input_to_hidden
from wavefront.errors import SettingsError

__all__ = ["QRNN", "SRU", "Affine", "LinearRecurrence", "MinGRU", "MinLSTM"]


class Affine(NamedTuple):
    """The map s -> a ⊙ s + b: what one step, or any number of steps in a row, do to the state of a `LinearRecurrence`."""

    a: Any  # as the state, [N, units]
    b: Any  # as the state, [N, units]


class LinearRecurrence(Cell[Any]):
    """A cell whose state moves by a map that x alone decides.  [Blelloch 1990, 1.4; Martin & Cundy 2018, arXiv:1709.04057]

        s' = a(x) ⊙ s + b(x)       output = read(s', x)

    Override `affine`, which gives a and b, and `read`. Two steps in a row are one of the same kind, (a₂ a₁, a₂ b₁ + b₂): this is `combine`, and
    it is associative, so that the states of a whole sequence can be had in log₂ T sweeps in place of T steps (`networks.Scan`).

    >>> cell, x = MinGRU(3, 5), torch.randn(2, 2, 3)
    >>> both = cell.combine(cell.affine(x[0]), cell.affine(x[1]))
    >>> h = torch.randn(2, 5)
    >>> torch.allclose(both.a * h + both.b, cell.step(cell.step(h, x[0])[0], x[1])[0], atol=1e-6)
    True
    """

    @abstractmethod
    def affine(self, x: Any) -> Affine:
        """The map of one step: a and b, [N, ...] each, for x [N, inputs]."""

    def read(self, state: Any, x: Any) -> Tensor:
        """The output for the new state."""
        h: Tensor = state
        return h

    def step(self, state, x):
        state = self.act(self.affine(x), state)
        return state, self.read(state, x)

    @classmethod
    def act(cls, step: Affine, state: Any) -> Any:
        """a ⊙ s + b"""
        return pytree.tree_map(torch.add, cls.times(step.a, state), step.b)

    @classmethod
    def combine(cls, first: Affine, then: Affine) -> Affine:
        """The one map that does what the two do, first and then."""
        return Affine(cls.times(then.a, first.a), cls.act(then, first.b))

    @staticmethod
    def times(a: Any, s: Any) -> Any:
        """a ⊙ s, of real numbers where it is not overridden."""
        return a * s


class MinGRU(LinearRecurrence):
    """The GRU, with gates that see x alone and no reset gate.  [Feng et al. 2024, arXiv:2410.01201, 3.1]

        z = σ(U_z x + b)       n = φ(Uₙ x + b)       h' = (1 - z) ⊙ h + z ⊙ n

    state h [N, units], x [N, inputs] -> output h' [N, units]. z near one replaces. Rows of U: z, n. φ is the identity, as in the paper.

    >>> MinGRU(3, 5)(None, torch.randn(2, 3))[1].shape
    torch.Size([2, 5])
    """

    def __init__(self, inputs: int, units: int, *, activation: str | Activation = "identity", bias: bool = True):
        super().__init__(inputs, state=units)
        self.U = input_to_hidden(inputs, units, 2, bias)
        self.activation = function(activation)

    def affine(self, x):
        z, n = self.U(x).chunk(2, -1)
        z = z.sigmoid()
        return Affine(1 - z, z * self.activation(n))


class MinLSTM(LinearRecurrence):
    """The LSTM, with gates that see x alone, that add up to one, and no output gate.  [Feng et al. 2024, arXiv:2410.01201, 3.2]

        i, f = σ(U x + b)       n = φ(Uₙ x + b)       h' = f/(f + i) ⊙ h + i/(f + i) ⊙ n

    state h [N, units], x [N, inputs] -> output h' [N, units]. Rows of U: i, f, n. φ is the identity, as in the paper.

    forget_bias   b_f at the start

    >>> MinLSTM(3, 5)(None, torch.randn(2, 3))[1].shape
    torch.Size([2, 5])
    """

    def __init__(self, inputs: int, units: int, *, activation: str | Activation = "identity", forget_bias: float = 1.0):
        super().__init__(inputs, state=units)
        self.U = input_to_hidden(inputs, units, 3)
        self.activation = function(activation)
        with torch.no_grad():
            self.U.bias.chunk(3)[1].fill_(forget_bias)

    def affine(self, x):
        i, f, n = self.U(x).chunk(3, -1)
        i, f = i.sigmoid(), f.sigmoid()
        return Affine(f / (f + i), i / (f + i) * self.activation(n))


class SRU(Cell[Tensor]):
    """Simple recurrent units: no unit sees another's past.  [Lei et al. 2018, arXiv:1709.02755v5, eq. 1-4]

        f = σ(U_f x + v_f ⊙ c + b)       r = σ(Uᵣ x + vᵣ ⊙ c + b)
        c' = f ⊙ c + (1 - f) ⊙ U x       output = r ⊙ c' + (1 - r) ⊙ P x

    state c [N, units], x [N, inputs] -> output [N, units]. f near one keeps. Rows of U: c, f, r; of v: f, r. P is the identity where
    inputs = units, as in the paper, else a matrix without bias.

    >>> SRU(3, 5)(None, torch.randn(2, 3))[1].shape
    torch.Size([2, 5])
    """

    def __init__(self, inputs: int, units: int):
        super().__init__(inputs, state=units)
        self.U = input_to_hidden(inputs, units, 3, bias=False)
        self.v, self.b = nn.Parameter(torch.zeros(2 * units)), nn.Parameter(torch.zeros(2 * units))
        self.P = nn.Identity() if inputs == units else input_to_hidden(inputs, units, bias=False)

    def step(self, state, x):
        (new, x_f, x_r), (v_f, v_r), (b_f, b_r) = self.U(x).chunk(3, -1), self.v.chunk(2), self.b.chunk(2)
        f = (x_f + v_f * state + b_f).sigmoid()
        r = (x_r + v_r * state + b_r).sigmoid()
        c = f * state + (1 - f) * new
        return c, r * c + (1 - r) * self.P(x)


class QRNNState(NamedTuple):
    c: Tensor  # [N, units]
    past: Tensor  # the last inputs, oldest first, [N, width - 1, inputs]


class QRNN(Cell[QRNNState]):
    """Quasi-recurrent network: gates from a window of inputs, a memory that fades.  [Bradbury et al. 2017, arXiv:1611.01576, eq. 3-5, fo-pooling]

        z = tanh(U_z x̄)       f, o = σ(U x̄)       x̄ = [x(t-width+1), ..., x(t)]
        c' = f ⊙ c + (1 - f) ⊙ z       output = o ⊙ c'

    state (c [N, units], the past [N, width - 1, inputs]), x [N, inputs] -> output [N, units]. f near one keeps. Rows of U: z, f, o; its columns go
    from the oldest input to x.

    >>> QRNN(3, 5, width=4)(None, torch.randn(2, 3))[0].past.shape
    torch.Size([2, 3, 3])
    """

    def __init__(self, inputs: int, units: int, *, width: int = 2):
        if width < 1:
            raise SettingsError(f"cells.QRNN: width is a number of steps, at least 1; got {width}.")
        super().__init__(inputs, state=QRNNState(c=units, past=(width - 1, inputs)))  # type: ignore[arg-type]
        self.U = input_to_hidden(width * inputs, units, 3)

    def step(self, state, x):
        window = torch.cat([state.past, x[:, None]], 1)
        z, f, o = self.U(window.flatten(1)).chunk(3, -1)
        f = f.sigmoid()
        c = f * state.c + (1 - f) * z.tanh()
        return QRNNState(c, window[:, 1:]), o.sigmoid() * c
