"""Deep recurrent networks: the book's three ways of adding depth."""

from __future__ import annotations

from collections.abc import Callable, Sequence as Many

from wavefront import cells, wrap
from wavefront.cell import Cell
from wavefront.cells._parts import Activation
from wavefront.errors import SettingsError
from wavefront.networks.recurrent import Recurrent

__all__ = ["Deep"]


class Deep(Recurrent):
    """A deep recurrent network, in any mixture of the three ways.  [Goodfellow et al. 2016, 10.5, figure 10.13; Pascanu et al. 2014, arXiv:1312.6026]

        (a) stacked states            h¹(t) = f¹(h¹(t-1), x(t))        hˡ(t) = fˡ(hˡ(t-1), hˡ⁻¹(t))
        (b) deeper paths              f¹(·, before(x(t)))              fˡ(transition(hˡ(t-1)), ·)              o(t) = after(hᴸ(t))
        (c) shortcuts in time         fˡ(hˡ(t-1) + transition(hˡ(t-1)), ·)

    units       (a) the size of each layer's state: (128, 64) is two layers
    before      (b) input to hidden: the widths of the layers between x and the first state
    transition  (b) hidden to hidden: the widths of the layers that every layer's state passes through from one step to the next; () is one layer,
                (64,) two; None: none
    after       (b) hidden to output: the widths of the layers over the last state; the last width is that of the outputs
    shortcut    (c) the state also skips the transition, which would else make the way from t-1 to t longer
    cell        what makes a layer of (inputs, units): a class of `wavefront.cells`, or any function that returns a cell
    activation  of the layers in (b); the last of `after` has none

    Called, and streamed with `step`, as `Recurrent`; the state is the tuple of the layers' states (one layer: its state).

    >>> import torch
    >>> from wavefront import Deep, cells
    >>> net = Deep(3, units=(8, 6), before=(16,), transition=(12,), after=(10, 4), shortcut=True)
    >>> outputs, (first, second) = net(torch.randn(2, 7, 3), lengths=[7, 4])
    >>> outputs.shape, first.shape, second.shape
    (torch.Size([2, 7, 4]), torch.Size([2, 8]), torch.Size([2, 6]))
    >>> Deep(3, units=(8, 6), cell=cells.LSTM)(torch.randn(2, 7, 3))[0].shape     # (a) alone
    torch.Size([2, 7, 6])
    """

    def __init__(
        self,
        inputs: int,
        units: Many[int],
        *,
        before: Many[int] = (),
        transition: Many[int] | None = None,
        after: Many[int] = (),
        shortcut: bool = False,
        cell: Callable[[int, int], Cell] = cells.Elman,
        activation: str | Activation = "tanh",
        skips: Many[int] = (1,),
        reverse: bool = False,
        backend: str = "auto",
    ):
        if isinstance(units, int) or not units:
            raise SettingsError(f"Deep takes the units of each layer, such as units=(128, 64); got {units!r}.")
        if shortcut and transition is None:
            raise SettingsError("Deep: a shortcut skips the transition, and there is none; give one, such as transition=(64,).")
        widths = [before[-1] if before else inputs]
        layers: list[Cell] = []
        for n in units:
            layer = cell(widths[-1], n)
            if transition is not None:
                layer = wrap.Deepened(layer, transition=transition, shortcut=shortcut, activation=activation)
            layers.append(layer)
            widths.append(layer.outputs)
        whole = layers[0] if len(layers) == 1 else wrap.Stack(*layers)
        if before or after:
            whole = wrap.Deepened(whole, before=(inputs, *before) if before else (), after=after, activation=activation)
        super().__init__(whole, skips, reverse, backend)
