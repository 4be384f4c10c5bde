"""Long short-term memory, in the variants that people ask for."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

import torch
from torch import Tensor, nn

from wavefront.cell import Cell, Draw
from wavefront.cells._parts import Activation, chrono, function, hidden_to_hidden, identity, input_to_hidden
from wavefront.errors import SettingsError

__all__ = ["LSTM", "FullGateLSTM"]

REMOVABLE = ("input_gate", "forget_gate", "output_gate", "input_activation", "output_activation")


class LSTMState(NamedTuple):
    h: Tensor  # [N, units], or [N, projection]
    c: Tensor  # [N, units]


class Gate(nn.Module):
    """σ(a + p ⊙ c): a gate, which sees the memory c through its peepholes p if it has them."""

    def __init__(self, units: int, gate: Activation, peephole: bool):
        super().__init__()
        self.gate = gate
        # small, so that at first a gate is ruled by its inputs
        self.p = nn.Parameter(torch.empty(units).uniform_(-0.1, 0.1)) if peephole else None

    def forward(self, a: Tensor, c: Tensor) -> Tensor:
        return self.gate(a if self.p is None else a + self.p * c)


class Open(nn.Module):
    """A gate that is not there: always one."""

    def forward(self, a: None, c: Tensor) -> float:
        return 1.0


class LSTM(Cell[LSTMState]):
    """Long short-term memory.  [Hochreiter & Schmidhuber 1997; Gers et al. 2000; Goodfellow et al. 2016, eq. 10.40-10.44]

        i = σ(Uᵢ x + Wᵢ h + bᵢ [+ pᵢ ⊙ c])       f = σ(U_f x + W_f h + b_f [+ p_f ⊙ c])       g = φ(U_g x + W_g h + b_g)
        c' = f ⊙ c + i ⊙ g                        o = σ(Uₒ x + Wₒ h + bₒ [+ pₒ ⊙ c'])          h' = [V] (o ⊙ ψ(c'))

    state (h [N, units], c [N, units]), x [N, inputs] -> output h'. Rows of U and W: i, f, g, o, as torch.nn.LSTM, without those of a gate that
    is not there. The bias is U's; the forget gate's starts at `forget_bias` (Gers et al. 2000).

    peepholes          the gates see the memory  [Gers & Schmidhuber 2000]
    coupled            f = 1 - i: one gate less  [Greff et al. 2017, CIFG]
    projection         h' = V (...), of `projection` units; W and the outputs are as much narrower  [Sak et al. 2014]
    layer_norm         LN(U x) + LN(W h) + b, and ψ(LN(c')); the bias is the first LN's shift  [Ba et al. 2016, eq. 20-22]
    recurrent_dropout  the probability that a unit's candidate g is dropped in a step; never the memory  [Semeniuta et al. 2016, arXiv:1603.05118]
    tau_max            the longest time to remember: b_f = ln u, bᵢ = -b_f, u uniform in [1, tau_max - 1]  [Tallec & Ollivier 2018]
    gate, candidate, output   the activations σ, φ, ψ
    without            parts to leave out, of "input_gate", "forget_gate", "output_gate" (the gate is one), "input_activation",
                       "output_activation" (φ or ψ is the identity): with peepholes=True the ablations NIG, NFG, NOG, NIAF, NOAF
                       [Greff et al. 2017, arXiv:1503.04069; NP is peepholes=False, CIFG is coupled=True, FGR is `FullGateLSTM`]

    >>> state, output = LSTM(3, 5, peepholes=True, projection=4)(None, torch.randn(2, 3))
    >>> output.shape, state.c.shape
    (torch.Size([2, 4]), torch.Size([2, 5]))
    """

    def __init__(
        self,
        inputs: int,
        units: int,
        *,
        bias: bool = True,
        peepholes: bool = False,
        coupled: bool = False,
        projection: int | None = None,
        layer_norm: bool = False,
        recurrent_dropout: float = 0.0,
        forget_bias: float = 1.0,
        tau_max: float | None = None,
        gate: str | Activation = "sigmoid",
        candidate: str | Activation = "tanh",
        output: str | Activation = "tanh",
        without: Collection[str] = (),
    ):
        hidden = units if projection is None else projection
        super().__init__(inputs, state=LSTMState(h=hidden, c=units))  # type: ignore[arg-type]
        _check(bias, coupled, recurrent_dropout, tau_max, without)
        there = {"i": "input_gate" not in without, "f": not coupled and "forget_gate" not in without, "o": "output_gate" not in without}
        self.units, self.coupled, self.recurrent_dropout = units, coupled, recurrent_dropout
        self.blocks = tuple(b for b in "ifgo" if there.get(b, True))
        self.U = input_to_hidden(inputs, units, len(self.blocks), bias=bias and not layer_norm)
        self.W = hidden_to_hidden(hidden, units, len(self.blocks))
        self.V = identity if projection is None else hidden_to_hidden(units, projection)
        self.i, self.f, self.o = (Gate(units, function(gate), peepholes) if there[b] else Open() for b in "ifo")
        self.candidate = function("identity" if "input_activation" in without else candidate)
        self.output = function("identity" if "output_activation" in without else output)
        # b is LN(U x)'s shift; a shift of LN(W h) would be the same parameter twice
        self.norm_x = nn.LayerNorm(len(self.blocks) * units, bias=bias) if layer_norm else identity
        self.norm_h = nn.LayerNorm(len(self.blocks) * units, bias=False) if layer_norm else identity
        self.norm_c = nn.LayerNorm(units, bias=bias) if layer_norm else identity
        if bias:
            self._start_biases(self.get_parameter("norm_x.bias" if layer_norm else "U.bias"), forget_bias, tau_max)

    @torch.no_grad()
    def _start_biases(self, bias: Tensor, forget_bias: float, tau_max: float | None) -> None:
        of = dict(zip(self.blocks, bias.chunk(len(self.blocks))))
        keep = torch.full((self.units,), forget_bias) if tau_max is None else chrono(self.units, tau_max)
        if "f" in of:
            of["f"].copy_(keep)
        if "i" in of and (self.coupled or tau_max is not None):  # coupled: σ(-keep) = 1 - σ(keep)
            of["i"].copy_(-keep)

    def draws(self, rows):
        return Draw((rows, self.units), "keep", self.recurrent_dropout) if self.recurrent_dropout else None

    def step(self, state, x, draws=None):
        h, c = state
        a = dict(zip(self.blocks, (self.norm_x(self.U(x)) + self.norm_h(self.W(h))).chunk(len(self.blocks), -1)))
        i = self.i(a.get("i"), c)
        f = 1 - i if self.coupled else self.f(a.get("f"), c)
        g = self.candidate(a["g"]) if draws is None else self.candidate(a["g"]) * draws
        c = f * c + i * g
        o = self.o(a.get("o"), c)
        h = self.V(o * self.output(self.norm_c(c)))
        return LSTMState(h, c), h


def _check(bias: bool, coupled: bool, recurrent_dropout: float, tau_max: float | None, without: Collection[str]) -> None:
    if isinstance(without, str) or not set(without) <= set(REMOVABLE):
        raise SettingsError(f"cells.LSTM: without is a collection of {', '.join(REMOVABLE)}; got {without!r}.")
    if coupled and {"input_gate", "forget_gate"} & set(without):
        raise SettingsError("cells.LSTM: coupled gates (f = 1 - i) cannot be left out one by one; choose coupled or without.")
    if not 0 <= recurrent_dropout < 1:
        raise SettingsError(f"cells.LSTM: recurrent_dropout is a probability below 1, got {recurrent_dropout}.")
    if tau_max is not None and not bias:
        raise SettingsError("cells.LSTM: tau_max sets the start of the biases; with bias=False there are none.")


class FullGateState(NamedTuple):
    h: Tensor
    c: Tensor
    i: Tensor
    f: Tensor
    o: Tensor


class FullGateLSTM(Cell[FullGateState]):
    """LSTM whose gates see all gates of the step before, as the first LSTM's did.  [Hochreiter & Schmidhuber 1997; Greff et al. 2017, FGR]

        i' = σ(Uᵢ x + Wᵢ h + Rᵢ [i, f, o] + pᵢ ⊙ c + bᵢ)       f' likewise with p_f ⊙ c       g = tanh(U_g x + W_g h + b_g)
        c' = f' ⊙ c + i' ⊙ g       o' = σ(Uₒ x + Wₒ h + Rₒ [i, f, o] + pₒ ⊙ c' + bₒ)       h' = o' ⊙ tanh(c')

    state (h, c, i, f, o), [N, units] each, x [N, inputs] -> output h' [N, units]. Rows of U and W: i, f, g, o; of R: i, f, o.

    >>> state, output = FullGateLSTM(3, 5)(None, torch.randn(2, 3))
    >>> len(state), output.shape
    (5, torch.Size([2, 5]))
    """

    def __init__(self, inputs: int, units: int, *, forget_bias: float = 1.0):
        super().__init__(inputs, state=FullGateState(units, units, units, units, units))  # type: ignore[arg-type]
        self.U, self.W = input_to_hidden(inputs, units, 4), hidden_to_hidden(units, units, 4)
        self.R = hidden_to_hidden(3 * units, units, 3)
        self.i, self.f, self.o = (Gate(units, torch.sigmoid, peephole=True) for _ in "ifo")
        nn.init.constant_(self.U.bias.chunk(4)[1], forget_bias)

    def step(self, state, x):
        h, c, *gates = state
        i, f, g, o = (self.U(x) + self.W(h)).chunk(4, -1)
        r_i, r_f, r_o = self.R(torch.cat(gates, -1)).chunk(3, -1)
        i, f = self.i(i + r_i, c), self.f(f + r_f, c)
        c = f * c + i * g.tanh()
        o = self.o(o + r_o, c)
        h = o * c.tanh()
        return FullGateState(h, c, i, f, o), h
