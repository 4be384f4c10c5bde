"""Dilated stacks: layers that skip through time, each further than the one below."""

from __future__ import annotations

from collections.abc import Callable, Sequence as Many
from typing import Any

from torch import Tensor, nn

from wavefront import cells
from wavefront.cell import Cell
from wavefront.errors import SettingsError
from wavefront.networks.recurrent import Recurrent

__all__ = ["Dilated"]


class Dilated(nn.Module):
    """Dilated recurrent network.  [Chang et al. 2017, arXiv:1710.02224, eq. 2-4; Goodfellow et al. 2016, 10.9.1]

        hˡ(t) = fˡ(hˡ(t-dˡ), oˡ⁻¹(t))       o⁰ = x       dˡ = 1, 2, 4, ...

    Every layer sees every step, but the state of dˡ steps before: what is T steps back is a few steps back at the top, and gradients take the same
    short way. The dˡ interleaved phases of a layer do not see each other, and run as one batch: T/dˡ fronts in place of T.

    layers  how many; the delays are then 1, 2, 4, ...; or give `delays`
    cell    what makes a layer of (inputs, units): a class of `wavefront.cells`, or any function that returns a cell

    Called as `Recurrent`; the state is a tuple of the layers' states, each that of `Recurrent(cell, skips=(d,))`: the last d states.

    >>> import torch
    >>> net = Dilated(3, units=8, layers=4)
    >>> outputs, state = net(torch.randn(2, 20, 3), lengths=[20, 7])
    >>> net.delays, outputs.shape, len(state[3])
    ((1, 2, 4, 8), torch.Size([2, 20, 8]), 8)
    """

    def __init__(
        self,
        inputs: int,
        units: int,
        layers: int | None = None,
        delays: Many[int] | None = None,
        cell: Callable[[int, int], Cell] = cells.GRU,
        reverse: bool = False,
        backend: str = "auto",
    ):
        super().__init__()
        if (layers is None) == (delays is None) or (layers is not None and layers < 1) or (delays is not None and not delays):
            raise SettingsError(f"Dilated wants either layers (at least 1) or delays, one for each layer; got {layers} and {delays}.")
        self.delays = tuple(2**n for n in range(layers)) if layers is not None else tuple(delays or ())
        self.layers = nn.ModuleList()
        for d in self.delays:
            layer = cell(inputs, units)
            self.layers.append(Recurrent(layer, (d,), reverse, backend))
            inputs = layer.outputs
        self.outputs = inputs

    def forward(
        self,
        x: Tensor,
        state: tuple[Any, ...] | None = None,
        lengths: Tensor | Many[int] | None = None,
        resets: Tensor | None = None,
    ) -> tuple[Tensor, tuple[Any, ...]]:
        states = []
        for layer, before in zip(self.layers, state or (None,) * len(self.layers)):
            x, after = layer(x, before, lengths, resets)
            states.append(after)
        return x, tuple(states)

    def step(self, state: tuple[Any, ...] | None, x: Tensor) -> tuple[tuple[Any, ...], Tensor]:
        """One step of a stream, state first as in a cell."""
        states = []
        for layer, before in zip(self.layers, state or (None,) * len(self.layers)):
            after, x = layer.step(before, x)  # type: ignore[operator]
            states.append(after)
        return tuple(states), x
