"""The contract: a cell is one pure step. Everything else in the package is a user of that.

    h(t) = f(h(t-1), x(t); θ)                                                      [Goodfellow et al. 2016, eq. 10.5]

A cell stores nothing on itself, and knows no time, no batch, no direction and no kernel.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence as Many
from itertools import chain
from typing import Any, Generic, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from wavefront.errors import ShapeError

__all__ = ["Cell", "Children", "Draw", "Given", "Sizes", "advance", "draws_wanted", "leaves_of", "map_draws", "state_leaves", "state_of"]

S = TypeVar("S")
Sizes = Any  # an int (a vector), a tuple of ints (a matrix: `Size`), or a NamedTuple / tuple of such, nested as needed


class Given(NamedTuple):
    """The input of a cell that tells what varies from node to node (x) from what is given once per sequence (context)."""

    x: Any
    context: Any


class Draw(NamedTuple):
    """What a cell wants drawn at random: a shape and a distribution, anew for each step or once per unfolding.

    shape         of the draw that `step` receives; `shape[0]` is the rows it was asked for, unless `per_row` is False
    distribution  "keep": 1/(1-p) with probability 1-p, else 0 (inverted dropout); "bernoulli": 1 with probability p, else 0;
                  "uniform": in [0, 1), in float32 at least; "normal": mean 0, variance 1
    per           "step" or "unfolding"
    per_row       False for what has no rows: a mask over weights, say
    """

    shape: tuple[int, ...]
    distribution: str
    p: float = 0.0
    per: str = "step"
    per_row: bool = True

    def sample(self, shape: tuple[int, ...], like: Tensor) -> Tensor:
        # of numbers of half precision there are too few in [0, 1) to choose with: what is rare would never be drawn
        wide = torch.promote_types(like.dtype, torch.float32) if self.distribution == "uniform" else like.dtype
        new = torch.empty(shape, dtype=wide, device=like.device)
        if self.distribution == "keep":
            return new.bernoulli_(1 - self.p).div_(1 - self.p) if self.p < 1 else new.zero_()
        if self.distribution == "bernoulli":
            return new.bernoulli_(self.p)
        if self.distribution == "uniform":
            return new.uniform_()
        if self.distribution == "normal":
            return new.normal_()
        raise ValueError(f'Draw.distribution is one of "keep", "bernoulli", "uniform", "normal", got {self.distribution!r}')


class Children(NamedTuple):
    """The predecessors of N nodes that may have any number each, edge by edge: what a cell with `slots = "any"` gets.

    states  the state at the far end of each edge; every leaf [E, ...]
    owner   the node that each edge belongs to, [E], ascending, each in 0..nodes-1
    nodes   N

    A node of 10,000 children costs 10,000 edges, never padding.

    >>> children = Children(torch.tensor([[1.], [2.], [5.]]), owner=torch.tensor([0, 0, 2]), nodes=3)
    >>> children.sum(children.states).flatten().tolist()
    [3.0, 0.0, 5.0]
    >>> children.expand(torch.tensor([[1.], [2.], [3.]])).flatten().tolist()
    [1.0, 1.0, 3.0]
    """

    states: Any
    owner: Tensor
    nodes: int

    def sum(self, edge_values: Tensor) -> Tensor:
        """Edge values [E, ...] summed at their nodes -> [N, ...]; zero where a node has no predecessor."""
        return edge_values.new_zeros((self.nodes, *edge_values.shape[1:])).index_add(0, self.owner, edge_values)

    def expand(self, node_values: Tensor) -> Tensor:
        """Node values [N, ...] copied to each of the node's edges -> [E, ...]."""
        return node_values.index_select(0, self.owner)


def is_size(sizes: Sizes) -> bool:
    """An int, or a plain tuple of ints: the size of one tensor (a NamedTuple of ints is several)."""
    return isinstance(sizes, int) or (type(sizes) is tuple and len(sizes) > 0 and all(isinstance(n, int) for n in sizes))


def state_leaves(sizes: Sizes) -> list[tuple[int, ...]]:
    """The shape of each leaf, without its rows, in the order of `pytree.tree_leaves` of the state."""
    if is_size(sizes):
        return [_numbers(sizes)]
    leaves = sizes if _is_flat(sizes) else pytree.tree_leaves(sizes, is_leaf=is_size)
    return [_numbers(s) for s in leaves]


def state_of(leaves: Many[Any], sizes: Sizes) -> Any:
    """Leaves in the form that sizes have."""
    if is_size(sizes):
        return leaves[0]
    return type(sizes)(*leaves) if _is_flat(sizes) else pytree.tree_unflatten(leaves, pytree.tree_structure(sizes, is_leaf=is_size))


def leaves_of(tree: Any) -> list[Any]:
    """`pytree.tree_leaves`, at once for what most states and inputs are: one tensor, or a tuple of tensors."""
    if tree is None or isinstance(tree, Tensor):
        return [tree]
    if isinstance(tree, tuple):
        for part in tree:
            if not isinstance(part, Tensor):
                break
        else:
            return list(tree)
    return pytree.tree_leaves(tree)


def _is_flat(sizes: Sizes) -> bool:
    """A NamedTuple of nothing but sizes, as most states are."""
    return hasattr(sizes, "_fields") and all(map(is_size, sizes))


def _numbers(size: Any) -> tuple[int, ...]:
    return size if isinstance(size, tuple) else (size,)


class Cell(nn.Module, ABC, Generic[S]):
    """One step of a network with memory: override `step`, and only that.

        step(state, x) -> (state, output)

    inputs   what x is: an int (a vector [N, inputs]), or a NamedTuple of sizes (x is then that NamedTuple of tensors)
    state    what the state is: an int for a vector [N, units], a plain tuple of ints for a matrix [N, slots, width] (as one part of a
             NamedTuple or tuple), or a NamedTuple / tuple of those, nested as needed. Every leaf has leading dimension N: the rows, the
             nodes that are done together
    outputs  size of the output; by default that of the first state part
    slots    how many predecessors a node has: 1 (`step` gets the bare state), k (a tuple of k states), "any" (a `Children`)
    phases   k: the step gets `phase`, the number of its front modulo k, as a plain integer (a cell with clocks)

    A cell that draws at random overrides `draws(rows)` as well, and its `step(state, x, draws)` gets what was drawn, None in eval mode.
    A cell that learns its first state overrides `initial_state(rows)`.

    >>> class Echo(Cell):
    ...     def __init__(self, inputs, units):
    ...         super().__init__(inputs, state=units)
    ...         self.U, self.W = nn.Linear(inputs, units), nn.Linear(units, units, bias=False)
    ...     def step(self, state, x):
    ...         h = (self.U(x) + self.W(state)).tanh()
    ...         return h, h
    >>> state, output = Echo(3, 5)(None, torch.randn(2, 3))   # one step, checked; a whole sequence: Recurrent(Echo(3, 5))
    >>> output.shape
    torch.Size([2, 5])
    """

    inputs: Sizes
    outputs: int
    sizes: Sizes
    slots: int | str
    phases: int

    def __init__(self, inputs: Sizes, state: Sizes, outputs: int | None = None, slots: int | str = 1, phases: int = 1):
        super().__init__()
        for name, sizes in (("inputs", inputs), ("state", state)):
            if any(not isinstance(n, int) or isinstance(n, bool) or n < 0 for leaf in state_leaves(sizes) for n in leaf):
                raise ShapeError(f"{type(self).__name__}: {name} is made of sizes, whole numbers of at least 0; got {sizes!r}")
        if not (slots == "any" or (isinstance(slots, int) and slots >= 1)):
            raise ShapeError(f'{type(self).__name__}: slots is a whole number of at least 1, or "any"; got {slots!r}')
        if outputs is None and not state_leaves(state):
            raise ShapeError(
                f"{type(self).__name__}: a cell without a state says what it gives: super().__init__(inputs, state=(), outputs=...)."
            )
        self.inputs, self.sizes, self.slots, self.phases = inputs, state, slots, phases
        self.outputs = state_leaves(state)[0][-1] if outputs is None else outputs

    @abstractmethod
    def step(self, state: Any, x: Any) -> tuple[S, Tensor]:
        """The equation. state: every leaf [N, ...]; x [N, inputs] -> the next state, and the output [N, outputs]."""

    def initial_state(self, rows: int) -> S:
        """Zeros of the declared sizes, in dtype and on device of the first floating parameter, or buffer where there is none."""
        like = _like(self)
        like = torch.empty(0) if like is None else like
        return state_of([like.new_zeros((rows, *shape)) for shape in state_leaves(self.sizes)], self.sizes)

    def draws(self, rows: int) -> Any:
        """A `Draw`, or a tuple or NamedTuple of them, for a step over `rows` rows; None: this cell draws nothing."""
        return None

    def forward(self, state: Any, x: Any) -> tuple[S, Tensor]:
        """One checked step, `cell(state, x)`; state None is the initial state. With one slot a bare state, else a tuple of them."""
        rows = check_inputs(self, x)
        if state is None:
            first = self.initial_state(rows)
            state = first if self.slots == 1 else (first,) * self.slots if isinstance(self.slots, int) else _no_children(first, x)
        elif self.slots != "any":
            for part in (state,) if self.slots == 1 else state:
                check_state(self, part, rows)
        like = pytree.tree_leaves(x)[0]
        drawn = map_draws(lambda draw: draw.sample(draw.shape, like), draws_wanted(self, rows))
        return advance(self, state, x, drawn)

    def extra_repr(self) -> str:
        parts = [f"inputs={self.inputs}", f"state={self.sizes}"]
        if self.outputs != state_leaves(self.sizes)[0][-1]:
            parts.append(f"outputs={self.outputs}")
        if self.slots != 1:
            parts.append(f"slots={self.slots!r}")
        return ", ".join(parts)


def draws_wanted(cell: Cell, rows: int) -> Any:
    """What the cell wants drawn now: None in eval mode. Wrappers ask their inner cells through this too."""
    return cell.draws(rows) if cell.training else None


def map_draws(f: Callable[..., Any], wanted: Any, *drawn: Any) -> Any:
    """f(draw, ...) for each `Draw` in a nest of them (and what stands in its place in `drawn`); None stays None."""
    if wanted is None:
        return None
    return pytree.tree_map(lambda d, *v: None if d is None else f(d, *v), wanted, *drawn, is_leaf=lambda d: isinstance(d, Draw))


def advance(cell: Cell, state: Any, x: Any, draws: Any = None, phase: int = 0) -> tuple[Any, Tensor]:
    """`cell.step`, handed what the cell declares and nothing else: draws if it draws, its phase if it has clocks."""
    extra: dict[str, Any] = {}
    if type(cell).draws is not Cell.draws:
        extra["draws"] = draws
    if cell.phases > 1:
        extra["phase"] = phase % cell.phases
    return cell.step(state, x, **extra)


def _no_children(first: Any, x: Any) -> Children:
    leaf = pytree.tree_leaves(x)[0]
    empty = pytree.tree_map(lambda t: t[:0], first)
    return Children(empty, torch.empty(0, dtype=torch.long, device=leaf.device), leaf.shape[0])


def named(cell: Cell) -> str:
    """How an error calls a cell: cells.GRU(inputs=3)."""
    kind = type(cell)
    home = "cells." if kind.__module__.startswith("wavefront.cells") else "wrap." if kind.__module__.startswith("wavefront.wrap") else ""
    return f"{home}{kind.__name__}(inputs={cell.inputs})"


def _like(cell: Cell) -> Tensor | None:
    """A tensor of the cell's dtype, on its device."""
    every = (t for module in cell.modules() for t in module._parameters.values() if t is not None)  # `parameters()`, in half the time
    return next((t for t in chain(every, cell.buffers()) if t.is_floating_point()), None)


def _shape(sizes: tuple[int, ...]) -> str:
    return "[" + ", ".join(["N", *map(str, sizes)]) + "]"


def check_inputs(cell: Cell, x: Any, whose: str = "") -> int:
    """The rows of x, which has to be what `cell.inputs` says: [N, inputs] in each leaf."""
    leaves, shapes = leaves_of(x), state_leaves(cell.inputs)
    if len(leaves) != len(shapes) or not all(isinstance(leaf, Tensor) for leaf in leaves):
        got = type(x).__name__ if not isinstance(x, Tensor) else "one tensor"
        want = "one tensor" if len(shapes) == 1 else f"a {type(cell.inputs).__name__} of {len(shapes)} tensors"
        raise ShapeError(f"{named(cell)} expects x to be {want}, got {got} with {len(leaves)} part(s).")
    like = _like(cell)
    for leaf, shape in zip(leaves, shapes):
        if tuple(leaf.shape[1:]) != shape or leaf.dim() == 0:
            hint = " A whole sequence? Use Recurrent(cell)(x)." if leaf.dim() == len(shape) + 2 else ""
            raise ShapeError(f"{named(cell)} expects x of {_shape(shape)}, got {list(leaf.shape)}.{hint}")
        if like is not None and leaf.device != like.device:
            raise ShapeError(f"{named(cell)} is on {like.device}, x on {leaf.device}. Move one of them: x.to({str(like.device)!r}).")
        if like is not None and leaf.is_floating_point() and leaf.dtype != like.dtype and not torch.is_autocast_enabled(leaf.device.type):
            raise ShapeError(f"{named(cell)} has parameters of {like.dtype}, x is {leaf.dtype}. Convert one: x.to({like.dtype}).")
        if not leaf.is_floating_point() and not leaf.is_complex() and len(shapes) == 1:
            raise ShapeError(f"{named(cell)} expects x of a floating dtype, got {leaf.dtype}. Symbols? Put an nn.Embedding before.")
    rows = {leaf.shape[0] for leaf in leaves}
    if len(rows) != 1:
        raise ShapeError(f"{named(cell)}: the parts of x have different numbers of rows: {[list(leaf.shape) for leaf in leaves]}.")
    return rows.pop()


def check_state(cell: Cell, state: Any, rows: int) -> None:
    """The state has to have the parts that the cell declares, of [rows, ...] each."""
    leaves, shapes = leaves_of(state), state_leaves(cell.sizes)
    if len(leaves) != len(shapes) or not all(isinstance(leaf, Tensor) for leaf in leaves):
        raise ShapeError(f"{named(cell)} has a state of {len(shapes)} part(s), {cell.sizes}; got {len(leaves)}: {type(state).__name__}.")
    like = _like(cell)
    for number, (leaf, shape) in enumerate(zip(leaves, shapes)):
        if tuple(leaf.shape) != (rows, *shape):
            raise ShapeError(
                f"{named(cell)} expects a state of {[rows, *shape]} (one row per sequence), got {list(leaf.shape)}."
                " State of another batch? Pass state=None to start anew."
            )
        if like is None or (leaf.dtype, leaf.device) == (like.dtype, like.device) or torch.is_autocast_enabled(leaf.device.type):
            continue
        own = pytree.tree_leaves(cell.initial_state(1))[number]  # which may be of another dtype than the parameters
        if (leaf.dtype, leaf.device) != (own.dtype, own.device):
            raise ShapeError(
                f"{named(cell)} has a state of {own.dtype} on {own.device}, got {leaf.dtype} on {leaf.device}."
                f" Convert it: state.to({str(own.device)!r}, {own.dtype})."
            )
