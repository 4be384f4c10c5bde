"""An echo state network as a forecaster: its readout is found in closed form, from sums over all windows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from wavefront.cells import Reservoir
from wavefront.errors import DataError
from wavefront.networks.recurrent import Recurrent
from wavefront.networks.ridge import Ridge
from wavefront.tasks.forecast.networks import Forecaster, Shape, Windows

__all__ = ["PENALTIES", "Echo"]

PENALTIES = tuple(10.0**k for k in range(-4, 6))  # times the mean square of a feature; one is chosen by generalised cross-validation


class Echo(Forecaster):
    """A reservoir reads the past, and a linear readout says all steps of the horizon.  [Jaeger 2001, GMD 148; the readout: `Ridge`]

        h(t) = (1 - leak) h(t-1) + leak tanh(U [z(t), is it there, covariates(t)] + W h(t-1) + b)        centre = start + V [h(L), z] + c

    `solve` finds V and c; nothing is learned by gradients.
    """

    V: Tensor
    c: Tensor

    def __init__(self, shape: Shape, units: int, spectral_radius: float, leak: float, input_scaling: float):
        super().__init__(shape, "mean", 1)
        reservoir = Reservoir(2 + shape.past, units, spectral_radius=spectral_radius, leak=leak, input_scaling=input_scaling, bias=0.2)
        self.encoder = Recurrent(reservoir)
        self.register_buffer("V", torch.zeros(shape.horizon, units + shape.window))
        self.register_buffer("c", torch.zeros(shape.horizon))
        for parameter in self.output.parameters():  # what is said is the centre itself
            nn.init.zeros_(parameter).requires_grad_(False)

    def read(self, w: Windows) -> Tensor:
        """[h(L), z], [B, units + L]"""
        _, h = self.encoder(torch.cat([w.z[..., None], w.there[..., None], w.past], -1))
        return torch.cat([h, w.z], -1)

    def forward(self, w: Windows) -> tuple[Tensor, Tensor]:
        centre = w.start + self.read(w) @ self.V.T + self.c
        return torch.zeros_like(centre)[..., None], centre

    @torch.no_grad()
    def solve(self, windows: Iterable[Windows], penalties: Sequence[float]) -> float:
        """Finds the readout from all windows whose horizon has every value. -> the penalty that was chosen"""
        sums = Ridge(self.V.shape[1], self.V.shape[0])
        for w in windows:
            whole = ~w.target.isnan().any(1)
            sums.add(self.read(w)[whole], (w.target - w.start)[whole])
        if sums.count < 2:
            raise DataError("an echo state network is solved from windows without a missing value in their horizon, and there are none.")
        size = float(sums.ff.diagonal().mean())
        penalty, found = sums.best([one * size for one in penalties])
        self.V.copy_(found.V)
        self.c.copy_(found.c)
        return penalty
