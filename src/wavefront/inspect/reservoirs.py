"""How much a reservoir remembers, how fast it forgets, and whether it forgets its first state at all."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from wavefront.cell import Cell, advance, named
from wavefront.cells import Reservoir
from wavefront.errors import ShapeError
from wavefront.networks.recurrent import Recurrent
from wavefront.networks.ridge import Ridge

__all__ = ["Forgetting", "echo_state_property", "effective_spectral_radius", "jacobian_radius", "memory_capacity"]

ROWS = 64  # of a Jacobian at once


@torch.no_grad()
def memory_capacity(
    cell: Cell, longest: int | None = None, steps: int = 4000, washout: int = 200, penalty: float = 1e-7, seed: int = 0
) -> tuple[float, Tensor]:
    """How many of the last inputs can be read from the state: the sum, and its part for each delay.  [Jaeger 2001, GMD 152]

        MC = Σₖ r²(x(t-k), V_k h(t) + c_k)        k = 1 .. longest;  x independent, uniform in [-1, 1]

    Readouts are ridge regressions on `steps` steps; r², the squared correlation, is of as many new ones. longest: twice the units unless told.
    No reservoir has a capacity above the number of its units. The cell has one input; it runs in evaluation mode.

    >>> line = Reservoir(1, 20, topology="delay_line", spectral_radius=0.9, input_scaling=0.01, activation="identity", seed=1)
    >>> total, parts = memory_capacity(line, steps=1000, penalty=1e-14)
    >>> bool(17 < total <= 20), bool(parts[:15].min() > 0.99)
    (True, True)
    """
    if cell.inputs != 1:
        raise ShapeError(f"memory_capacity gives a cell one number a step; {named(cell)} has another input.")
    longest = 2 * cell.outputs if longest is None else longest
    generator = torch.Generator().manual_seed(seed)
    dtype = torch.float64
    was = cell.training
    network = Recurrent(cell).eval()
    like = pytree.tree_leaves(cell.initial_state(1))[0]
    x = torch.rand(1, washout + longest + 2 * steps, 1, generator=generator, dtype=dtype) * 2 - 1
    h = network(x.to(like.dtype))[0][0].to(dtype)
    cell.train(was)
    late = x[0, :, 0].unfold(0, longest + 1, 1).flip(1)[:, 1:]  # at t: x(t-1), x(t-2), ...
    h, late = h[longest + washout :], late[washout:]
    sums = Ridge(h.shape[1], longest)
    sums.add(h[:steps], late[:steps])
    V, c = sums.solve(penalty)
    found, true = h[steps:] @ V.T + c, late[steps:]
    found, true = found - found.mean(0), true - true.mean(0)
    parts = (found * true).sum(0) ** 2 / ((found**2).sum(0) * (true**2).sum(0)).clamp(min=1e-300)
    return float(parts.sum()), parts


def effective_spectral_radius(reservoir: Reservoir) -> float:
    """The largest absolute eigenvalue of a leaky reservoir's step at rest.  [Jaeger et al. 2007, Neural Networks 20(3), definition 3]

        |λ|max of (1 - leak) I + leak W

    >>> round(effective_spectral_radius(Reservoir(1, 30, spectral_radius=0.5, leak=0.2, topology="ring")), 6)    # 0.8 + 0.2 * 0.5
    0.9
    """
    leak = reservoir.leak.double().expand(len(reservoir.W))
    step = torch.diag(1 - leak) + leak[:, None] * reservoir.matrix().double()
    return float(torch.linalg.eigvals(step).abs().max())


def jacobian_radius(cell: Cell, x: Tensor, points: int = 10, state: Tensor | None = None) -> Tensor:
    """The spectral radius of ∂h(t)/∂h(t-1) at a few steps, evenly spaced, of the trajectory that x [T, inputs] drives.  [points]

    Above 1 differences of states grow there; the product of many Jacobians decides whether they grow in the long run. The cell's state is one vector.

    >>> cell = Reservoir(1, 30, spectral_radius=0.9, seed=1)
    >>> still, driven = jacobian_radius(cell, torch.zeros(50, 1)), jacobian_radius(cell, 3 * torch.randn(50, 1))
    >>> round(float(still[0]), 5), bool(driven.mean() < 0.8)        # saturated units hear less
    (0.9, True)
    """
    if not isinstance(cell.sizes, int) or cell.slots != 1:
        raise ShapeError(f"jacobian_radius: a cell whose state is one vector, and that has one predecessor; got {named(cell)}.")
    was = cell.training
    cell.eval()
    with torch.no_grad():
        outputs, _ = Recurrent(cell)(x[None], None if state is None else state[None])
    found = []
    for t in torch.linspace(1, len(x) - 1, min(points, len(x) - 1)).round().long().tolist():
        found.append(torch.linalg.eigvals(_jacobian(cell, outputs[0, t - 1], x[t]).double()).abs().max())
    cell.train(was)
    return torch.stack(found)


class Forgetting(NamedTuple):
    """What `echo_state_property` saw.

    holds  all starts came together
    left   the largest distance between two states at the end, over that at the start
    rate   the mean of ln (distance at a step / distance at the step before): below 0, states come nearer
    """

    holds: bool
    left: float
    rate: float


@torch.no_grad()
def echo_state_property(cell: Cell, x: Tensor, starts: int = 8, near: float = 1e-6, seed: int = 0) -> Forgetting:
    """Does the cell forget its first state under these inputs [T, inputs]?  [Jaeger 2001, GMD 148, definition 1, as it is seen from several starts]

    The same inputs from `starts` random states in [-1, 1]: it holds where at the end all states are within `near` of their first distance. A radius
    below 1 is neither necessary nor sufficient for it; this looks at what happens.

    >>> x = torch.rand(300, 1)
    >>> echo_state_property(Reservoir(1, 50, spectral_radius=0.8, seed=1), x).holds
    True
    >>> echo_state_property(Reservoir(1, 50, spectral_radius=3.0, input_scaling=0.1, seed=1), x).holds
    False
    """
    was = cell.training
    cell.eval()
    fresh, spec = pytree.tree_flatten(cell.initial_state(starts))
    generator = torch.Generator().manual_seed(seed)
    leaves = [torch.rand(leaf.shape, generator=generator, dtype=torch.float64).mul(2).sub(1).to(leaf) for leaf in fresh]
    network, state = Recurrent(cell), pytree.tree_unflatten(leaves, spec)
    distances = [_apart(leaves)]
    pieces = x.split(max(1, len(x) // 100))
    seen = 0
    for piece in pieces:
        _, state = network(piece.expand(starts, *piece.shape), state)
        distances.append(_apart(pytree.tree_leaves(state)))
        seen += len(piece)
        if distances[-1] <= near * distances[0]:
            break
    cell.train(was)
    left = distances[-1] / distances[0]
    rate = torch.tensor(max(left, 1e-300), dtype=torch.float64).log().item() / seen
    return Forgetting(left <= near, left, rate)


def _apart(leaves: list[Tensor]) -> float:
    rows = torch.cat([leaf.flatten(1) for leaf in leaves], 1).double()
    return float((rows - rows[:1]).norm(dim=1).max())


def _jacobian(cell: Cell, h: Tensor, x: Tensor) -> Tensor:
    """∂h'/∂h [units, units] at one state: one row of the batch for each row of it."""
    n, rows = len(h), []
    for first in range(0, n, ROWS):
        many = min(ROWS, n - first)
        with torch.enable_grad():
            before = h.detach().expand(many, n).clone().requires_grad_()
            after, _ = advance(cell, before, x.expand(many, *x.shape))
            mine = after[torch.arange(many), torch.arange(first, first + many)].sum()
            rows.append(torch.autograd.grad(mine, before)[0])
    return torch.cat(rows)
