"""Series with gaps and holes: cells that are told how much time has passed, and what was observed."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from wavefront.cell import Cell
from wavefront.cells._parts import hidden_to_hidden, input_to_hidden
from wavefront.errors import SettingsError

__all__ = ["GRUD", "CfC", "Irregular"]


class Irregular(NamedTuple):
    """One step of an irregular series: values, the time since the step before, and which of the values were observed.

    A value that was not observed is never looked at: it may be anything, NaN too.
    """

    value: Any  # [N, inputs]
    gap: Any  # in whatever unit of time, [N, 1]
    observed: Any  # 1 or 0, [N, inputs]


def there(x: Irregular) -> Tensor:
    """The values, zero where nothing was observed."""
    return torch.where(x.observed != 0, x.value, 0.0)


class GRUDState(NamedTuple):
    h: Tensor  # [N, units]
    last: Tensor  # the last observed value of each input, [N, inputs]
    since: Tensor  # the time from then to the last step, [N, inputs]


class GRUD(Cell[GRUDState]):
    """GRU-D: inputs that fade to their mean, and a state that fades, for as long as nothing is observed.

    [Che et al. 2018, arXiv:1606.01865, eq. 3-10]

        δ = since + gap       γₓ = exp(-max(0, wₓ ⊙ δ + bₓ))       γₕ = exp(-max(0, W_γ δ + bₕ))
        x̂ = m ⊙ x + (1 - m) ⊙ (γₓ ⊙ last + (1 - γₓ) ⊙ x̄)       ĥ = γₕ ⊙ h
        r, z = σ(U [x̂, m] + W ĥ + b)       n = tanh(Uₙ [x̂, m] + Wₙ (r ⊙ ĥ) + b)       h' = (1 - z) ⊙ ĥ + z ⊙ n

    state (h [N, units], the last values and the times since then [N, inputs] each), x an `Irregular(value, gap, observed)` -> output h'. m is
    `observed`. z near one replaces. Rows of U: r, z, n, its columns x̂, m; of W: r, z.

    mean   x̄ of each input, [inputs]; default zeros, as of standardised series

    >>> cell = GRUD(3, 5)
    >>> x = Irregular(torch.randn(2, 3), torch.ones(2, 1), torch.tensor([[1., 0., 1.], [0., 0., 0.]]))
    >>> state, output = cell(None, x)
    >>> state.since.tolist(), output.shape
    ([[0.0, 1.0, 0.0], [1.0, 1.0, 1.0]], torch.Size([2, 5]))
    """

    mean: Tensor

    def __init__(self, inputs: int, units: int, mean: Tensor | None = None):
        super().__init__(Irregular(inputs, 1, inputs), state=GRUDState(units, inputs, inputs))  # type: ignore[arg-type]
        self.U = input_to_hidden(2 * inputs, units, 3)
        self.W, self.W_n = hidden_to_hidden(units, units, 2), hidden_to_hidden(units, units)
        self.w_x, self.b_x = nn.Parameter(torch.full((inputs,), 0.1)), nn.Parameter(torch.zeros(inputs))
        self.fade = nn.Linear(inputs, units)
        nn.init.constant_(self.fade.weight, 0.1 / max(1, inputs))
        nn.init.zeros_(self.fade.bias)
        known = torch.zeros(inputs) if mean is None else torch.as_tensor(mean).detach().to(self.w_x.dtype).clone()
        if tuple(known.shape) != (inputs,):
            raise SettingsError(f"cells.GRUD: mean is one number for each of the {inputs} inputs; got {list(known.shape)}.")
        self.register_buffer("mean", known)

    def initial_state(self, rows):
        return super().initial_state(rows)._replace(last=self.mean.expand(rows, -1))

    def step(self, state, x):
        m, delta = x.observed, state.since + x.gap
        fade_x = (-(self.w_x * delta + self.b_x).relu()).exp()
        seen = torch.where(m != 0, x.value, fade_x * state.last + (1 - fade_x) * self.mean)
        before = (-self.fade(delta).relu()).exp() * state.h
        x_r, x_z, x_n = self.U(torch.cat([seen, m], -1)).chunk(3, -1)
        h_r, h_z = self.W(before).chunk(2, -1)
        r, z = (x_r + h_r).sigmoid(), (x_z + h_z).sigmoid()
        n = (x_n + self.W_n(r * before)).tanh()
        h = (1 - z) * before + z * n
        return GRUDState(h, torch.where(m != 0, x.value, state.last), (1 - m) * delta), h


class CfC(Cell[Tensor]):
    """Closed-form continuous-time cell: how far the state moves between two values is a gate of the time that has passed.

    [Hasani et al. 2022, Nature Machine Intelligence 4, eq. 4; arXiv:2106.13898]

        a = 1.7159 tanh(⅔ (U [m ⊙ x, m] + W h + b))       g, k = tanh(V a + b)       f, f₀ = V' a + b'
        s = σ(f₀ - f gap)       h' = s ⊙ g + (1 - s) ⊙ k

    state h [N, units], x an `Irregular(value, gap, observed)` -> output h' [N, units]. m is `observed`. Rows of V: g, k, f, f₀ (the time at gap 0,
    which the authors' code has and the equation has not). a, the backbone: LeCun's tanh.

    backbone   units of a, by default `units`

    >>> x = Irregular(torch.randn(2, 3), torch.tensor([[0.1], [7.0]]), torch.ones(2, 3))
    >>> CfC(3, 5)(None, x)[1].shape
    torch.Size([2, 5])
    """

    def __init__(self, inputs: int, units: int, backbone: int | None = None):
        super().__init__(Irregular(inputs, 1, inputs), state=units)
        width = units if backbone is None else backbone
        if width < 1:
            raise SettingsError(f"cells.CfC: backbone is a number of units, at least 1; got {width}.")
        self.U, self.W = input_to_hidden(2 * inputs, width), hidden_to_hidden(units, width)
        self.V = input_to_hidden(width, units, 4)

    def step(self, state, x):
        a = self.U(torch.cat([there(x), x.observed], -1)) + self.W(state)
        g, k, f, start = self.V(1.7159 * (a * (2 / 3)).tanh()).chunk(4, -1)
        s = (start - f * x.gap).sigmoid()
        h = s * g.tanh() + (1 - s) * k.tanh()
        return h, h
