"""Linear recurrences without a loop: all states at once, by a parallel scan over the steps' maps."""

from __future__ import annotations

from collections.abc import Callable, Sequence as Many
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from wavefront.cell import named
from wavefront.cells.linear import LinearRecurrence
from wavefront.errors import ShapeError
from wavefront.networks.recurrent import Recurrent

__all__ = ["Scan"]


def scan(combine: Callable[[Any, Any], Any], steps: Any) -> Any:
    """All prefixes of an associative `combine(first, then)`.  [Blelloch 1990, Prefix Sums and Their Applications]

    steps   tensors, or a nest of them, [T, ...]: T elements
    -> of the same form: element t is steps 0 to t, combined. 2 log₂ T calls of `combine`, of T pairs altogether.

    >>> scan(torch.add, torch.tensor([1, 2, 3, 4, 5])).tolist()
    [1, 3, 6, 10, 15]
    """
    T = pytree.tree_leaves(steps)[0].shape[0]
    if T < 2:
        return steps
    pick = lambda nest, which: pytree.tree_map(lambda leaf: leaf[which], nest)  # noqa: E731
    even, odd = pick(steps, slice(0, None, 2)), pick(steps, slice(1, None, 2))
    at_odd = scan(combine, combine(pick(even, slice(0, T // 2)), odd))
    after = combine(pick(at_odd, slice(0, (T - 1) // 2)), pick(even, slice(1, None)))
    return pytree.tree_map(_interleaved, pytree.tree_map(lambda first, rest: torch.cat([first[:1], rest]), even, after), at_odd)


def _interleaved(even: Tensor, odd: Tensor) -> Tensor:
    """a₀ b₀ a₁ b₁ ..., the last a alone if there is one more of them."""
    both = torch.stack([even[: len(odd)], odd], 1).flatten(0, 1)
    return torch.cat([both, even[-1:]]) if len(even) > len(odd) else both


class Scan(nn.Module):
    """`Recurrent(cell)` for a `cells.LinearRecurrence`, in log₂ T sweeps over all steps in place of T steps.  [Martin & Cundy 2018, arXiv:1709.04057]

    Where steps cost more than arithmetic (many processors, or no compiled loop) this is faster than a loop; on a CPU the compiled loop is, which
    reads everything once. Called, and equal, as `Recurrent(cell)`: x [B, T, inputs], state, lengths, resets -> outputs [B, T, outputs], final state.

    >>> from wavefront import Recurrent, cells
    >>> cell, x = cells.RGLRU(3, 5), torch.randn(2, 9, 3)
    >>> torch.allclose(Scan(cell)(x, lengths=[9, 4])[0], Recurrent(cell)(x, lengths=[9, 4])[0], atol=1e-6)
    True
    """

    def __init__(self, cell: LinearRecurrence):
        super().__init__()
        if not isinstance(cell, LinearRecurrence):
            raise TypeError(
                f"Scan is for a cells.LinearRecurrence, such as MinGRU or LRU; the state of {named(cell)} decides where it goes. Use Recurrent."
            )
        self.loop = Recurrent(cell)

    @property
    def cell(self) -> LinearRecurrence:
        return self.loop.cell  # type: ignore[return-value]

    def forward(
        self, x: Tensor, state: Any = None, lengths: Tensor | Many[int] | None = None, resets: Tensor | None = None
    ) -> tuple[Tensor, Any]:
        cell = self.cell
        if x.dim() != 3 or x.shape[2] != cell.inputs:
            raise ShapeError(f"Scan({named(cell)}) expects x of [B, T, {cell.inputs}], got {list(x.shape)}.")
        B, T, _ = x.shape
        first = cell.initial_state(B)
        before = first if state is None else state
        if T == 0:
            return x.new_zeros(B, 0, cell.outputs), before
        left = torch.full((B,), T) if lengths is None else torch.as_tensor(lengths)
        inside = (torch.arange(T) < left[:, None]).T[..., None].to(x.device)  # [T, B, 1]
        x = torch.where(inside, x.transpose(0, 1), 0.0)
        step = pytree.tree_map(lambda leaf: leaf.expand(T * B, -1).unflatten(0, (T, B)), cell.affine(x.flatten(0, 1)))
        if resets is not None:
            cut = resets.T[..., None]
            anew = cell.act(step, first)
            step = type(step)(
                pytree.tree_map(lambda a: torch.where(cut, 0.0, a), step.a),
                pytree.tree_map(lambda n, b: torch.where(cut, n, b), anew, step.b),
            )
        states = cell.act(scan(cell.combine, step), before)
        outputs = cell.read(pytree.tree_map(lambda s: s.flatten(0, 1), states), x.flatten(0, 1)).unflatten(0, (T, B))
        ends = left.to(x.device).view(1, B, 1)
        final = pytree.tree_map(lambda s0, s: torch.cat([s0[None], s]).gather(0, ends.expand(1, B, s.shape[2]))[0], before, states)
        return torch.where(inside, outputs, 0.0).transpose(0, 1), final

    def step(self, state: Any, x: Tensor) -> tuple[Any, Tensor]:
        """One step of a stream, state first as in a cell."""
        return self.loop.step(state, x)
