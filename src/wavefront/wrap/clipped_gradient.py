"""The state's gradient, clipped at every step of the way back."""

from __future__ import annotations

from torch import Tensor
from torch.utils import _pytree as pytree

from wavefront.cell import Cell, advance
from wavefront.clipping import clip_gradient
from wavefront.errors import SettingsError
from wavefront.wrap._parts import check_cell, each_slot
from wavefront.wrap.wrapper import Wrapper

__all__ = ["ClippedGradient"]


class ClippedGradient(Wrapper):
    """A cell through whose state no gradient larger than a limit flows back.  [Graves 2013, arXiv:1308.0850, section 2.1; Hannun et al. 2014]

        (h', o) = f(h, x)      forward as ever      ∂L/∂h(t-1) = clip([∂h(t)/∂h(t-1)]ᵀ ∂L/∂h(t), -limit, limit) + what comes by o(t-1)

    State, x and output as the cell's. The clipping is in the backward loop, step by step: not of the whole gradient at the end, which is
    `learning.clip_norm`. Elsewhere in a step of your own: `wavefront.clip_gradient(values, limit)`.

    >>> import torch
    >>> from wavefront import Recurrent, cells
    >>> net = Recurrent(ClippedGradient(cells.Elman(3, 5, "relu"), limit=1e-3))
    >>> x = torch.randn(2, 50, 3, requires_grad=True)
    >>> net(x)[1].sum().backward()      # the last state, 50 steps back
    >>> bool(x.grad[:, 0].abs().max() < 0.01)
    True
    """

    def __init__(self, cell: Cell, limit: float):
        check_cell(cell, "wrap.ClippedGradient")
        if not limit > 0:
            raise SettingsError(f"wrap.ClippedGradient: limit is the largest magnitude of a gradient, above 0; got {limit}.")
        super().__init__(cell)
        self.limit = float(limit)

    def step(self, state, x, draws=None, phase=0):
        state = each_slot(self.slots, state, lambda part: pytree.tree_map(self._clipped, part))
        return advance(self.cell, state, x, draws, phase)

    def _clipped(self, part: Tensor) -> Tensor:
        return clip_gradient(part, self.limit)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, limit={self.limit}"
