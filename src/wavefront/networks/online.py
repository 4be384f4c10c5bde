"""Linear readouts that learn step by step, while the stream goes on."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from wavefront.cell import advance
from wavefront.networks.ridge import Linear

if TYPE_CHECKING:
    from wavefront.networks.echo_state import EchoState

__all__ = ["LMS", "RLS", "force"]


class RLS:
    """Recursive least squares: after each row the readout of least squared error so far.  [Haykin 2002, Adaptive Filter Theory, table 9.1]

        k = P f / (λ + fᵀ P f)        e = y - V f        V ← V + e kᵀ        P ← (P - k fᵀ P) / λ

    with f = [features, 1]. With forgetting λ = 1 this is ridge regression whose bias is penalised too; below 1, errors of n rows ago count λⁿ.

    features, targets  how many numbers a row has
    forgetting         λ, in (0, 1]
    penalty            P starts as I / penalty

    >>> f = torch.randn(200, 3, dtype=torch.float64)
    >>> learner = RLS(3, 1, penalty=1e-6)
    >>> for row in f:
    ...     error = learner.update(row, 2 * row[:1] + 5)
    >>> learner.readout.V.round(decimals=4).abs().tolist(), learner.readout.c.round(decimals=4).tolist()
    ([[2.0, 0.0, 0.0]], [5.0])
    """

    def __init__(self, features: int, targets: int, forgetting: float = 1.0, penalty: float = 1.0):
        if not 0 < forgetting <= 1 or not penalty > 0:
            raise ValueError(f"RLS: forgetting lies in (0, 1] and the penalty is more than 0; got {forgetting} and {penalty}.")
        self.forgetting = forgetting
        self.P = torch.eye(features + 1, dtype=torch.float64) / penalty
        self.weights = torch.zeros(targets, features + 1, dtype=torch.float64)

    @torch.no_grad()
    def update(self, f: Tensor, y: Tensor) -> Tensor:
        """One row, f [features] and y [targets]. -> the error before it was learned from, [targets]"""
        f = torch.cat([f, f.new_ones(1)]).to(self.P)
        Pf = self.P @ f
        k = Pf / (self.forgetting + f @ Pf)
        error = y.to(self.P) - self.weights @ f
        self.weights.addr_(error, k)
        self.P.addr_(k, Pf, alpha=-1).div_(self.forgetting)
        return error

    @property
    def readout(self) -> Linear:
        return Linear(self.weights[:, :-1], self.weights[:, -1])


class LMS:
    """Normalised least mean squares: a step down the squared error of the last row.  [Haykin 2002, section 6.1]

        V ← V + rate e fᵀ / |f|²        e = y - V f,   f = [features, 1]

    Costs as much as the readout itself, where `RLS` costs features² a row; converges as slowly as the features are correlated.

    >>> f = torch.randn(2000, 3, dtype=torch.float64)
    >>> learner = LMS(3, 1, rate=0.5)
    >>> errors = [learner.update(row, 2 * row[:1] + 5) for row in f]
    >>> bool(errors[-1].abs() < 1e-6)
    True
    """

    def __init__(self, features: int, targets: int, rate: float = 0.1):
        if not 0 < rate < 2:
            raise ValueError(f"LMS: the rate lies in (0, 2), where errors shrink; got {rate}.")
        self.rate = rate
        self.weights = torch.zeros(targets, features + 1, dtype=torch.float64)

    @torch.no_grad()
    def update(self, f: Tensor, y: Tensor) -> Tensor:
        """One row, f [features] and y [targets]. -> the error before it was learned from, [targets]"""
        f = torch.cat([f, f.new_ones(1)]).to(self.weights)
        error = y.to(self.weights) - self.weights @ f
        self.weights.addr_(error, f, alpha=self.rate / float(f @ f))
        return error

    @property
    def readout(self) -> Linear:
        return Linear(self.weights[:, :-1], self.weights[:, -1])


@torch.no_grad()
def force(
    network: EchoState, x: Tensor, targets: Tensor, learner: RLS | LMS | None = None, listen: Callable[[int, Tensor], None] | None = None
) -> Tensor:
    """FORCE learning: the readout is kept right while the network hears its own outputs, errors and all.  [Sussillo & Abbott 2009, Neuron 63(4)]

    network  with feedback; its readout at the end is the learned one
    x        [T, inputs], targets [T, outputs], of one series
    learner  an `RLS` (the default, as in the paper with penalty 1) or `LMS` of the network's features
    listen   called with the number of each step and the error before learning, [outputs]

    -> the outputs as they were fed back, [T, outputs]

    >>> from wavefront import cells
    >>> from wavefront.networks import EchoState
    >>> wave = torch.sin(torch.arange(800, dtype=torch.float64) / 6)[:, None]
    >>> cell = cells.Reservoir(0, 100, spectral_radius=1.2, feedback=1, leak=0.3, dtype=torch.float64, seed=0)
    >>> net = EchoState(cell, outputs=1, feedback=True)
    >>> fed = force(net, wave[:, :0], wave)
    >>> bool((fed[-100:] - wave[-100:]).abs().max() < 0.01)
    True
    """
    reading = network.reading
    learner = learner or RLS(reading.features, reading.outputs)
    state, fed = reading.initial_state(1), targets.new_zeros(1, reading.outputs)
    heard = []
    for t in range(len(targets)):
        inputs = torch.cat([x[t : t + 1], fed], 1) if network.feedback else x[t : t + 1]
        state, _ = advance(reading.cell, state, inputs)
        f = reading.read(state, inputs)[0]
        error = learner.update(f, targets[t])
        if listen is not None:
            listen(t, error)
        V, c = learner.readout
        fed = (V @ f.to(V) + c)[None].to(targets)
        heard.append(fed)
    network.take(learner.readout)
    return torch.cat(heard)
