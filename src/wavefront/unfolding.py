"""The one loop: a cell, unfolded over a structure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from wavefront.cell import (
    Cell,
    Children,
    Given,
    advance,
    check_inputs,
    check_state,
    draws_wanted,
    leaves_of,
    map_draws,
    named,
    state_leaves,
)
from wavefront.engine import choose
from wavefront.errors import ShapeError
from wavefront.structure import NONE, Structure

__all__ = ["Problem", "reference", "sample_draws", "unfold"]


def unfold(
    cell: Cell,
    structure: Structure,
    inputs: Any,
    state: Any = None,
    *,
    context: Any = None,
    draws: Any = None,
    backend: str = "auto",
    precision: str | None = None,
) -> tuple[Tensor, Any]:
    """Run the cell over all nodes of the structure, front by front. What it means is exactly this:

        for front in structure.fronts():
            before = gather(nodes, structure.predecessors[front])   # a state; for k slots a tuple of k; for "any" a Children
            nodes[front], outputs[front] = cell.step(before, inputs[front])
        return outputs, gather(nodes, structure.ends)

    where `gather` finds, for each code, the state of that node; or, where there is nothing before, the row of the given `state`; or, after a
    reset, the cell's initial state. All nodes of a front are one batch for `step`.

    cell       any `Cell`; it sees its rows, and nothing of time, lengths or direction
    inputs     a tensor [nodes, ...] or NamedTuple of such, as `cell.inputs` says, in the order of the nodes (`structure.pack`)
    state      one row per sequence, every leaf [rows, ...]; None is `cell.initial_state`. A structure with a history (skips through time) is
               given a tuple of states, latest first, and returns one
    context    what is constant per sequence, [rows, ...]. A cell whose inputs are a `Given(x, context)` gets it so; a cell whose input is one
               vector gets [x, context] joined. It is never repeated over time in memory
    draws      what a cell that draws at random gets instead of fresh draws, as `sample_draws` gives it
    backend    "auto", or by name: "reference" (the loop above in plain torch, differentiable any number of times), "compiled" (what has to be in
               the loop as native code, everything else before and after it), or "torch" (the same plan in torch operations)
    precision  "bf16": the large products and, where the machine has instructions for it, those in the compiled loop take bfloat16, forward and
               backward, and sum in float32; states, gates and weights stay float32.
               "float32": all of it. None: as `torch.autocast` says around the call

    -> outputs [nodes, cell.outputs], and the final state of each row

    Raises ShapeError for tensors that do not fit, BackendError when a backend asked for by name cannot run this cell.

    >>> from wavefront import Sequence, cells, unfold
    >>> line = Sequence(batch=2, steps=4, lengths=[4, 2])
    >>> outputs, state = unfold(cells.Elman(3, 5), line, line.pack(torch.randn(2, 4, 3)))
    >>> outputs.shape, state.shape     # six nodes; one final state per sequence
    (torch.Size([6, 5]), torch.Size([2, 5]))
    """
    if torch.compiler.is_dynamo_compiling():  # somebody's torch.compile: one graph break, and the loop runs as it does without
        again = torch.compiler.disable(unfold)
        return again(cell, structure, inputs, state, context=context, draws=draws, backend=backend, precision=precision)
    rows = _check(cell, structure, inputs, context)
    first = cell.initial_state(structure.rows)
    if state is None:
        given = (first,) * structure.history
    else:
        given = (state,) if structure.history == 1 else tuple(state)
        if len(given) != structure.history:
            raise ShapeError(
                f"{named(cell)} over these skips carries a tuple of {structure.history} states, latest first; got {len(given)}."
            )
        for part in given:
            check_state(cell, part, structure.rows)
    if draws is None:
        draws = sample_draws(cell, structure, leaves_of(inputs)[0])
    elif rows:
        _check_draws(cell, structure, draws)
    outputs, ends = choose(Problem(cell, structure, inputs, first, given, context, draws), backend, reference, precision)
    return outputs, ends[0] if structure.history == 1 else ends


class Problem(NamedTuple):
    """One unfolding, checked and complete: what every backend is handed."""

    cell: Cell
    structure: Structure
    inputs: Any  # leaves [nodes, ...]
    first: Any  # the cell's initial state, [rows, ...]
    given: tuple[Any, ...]  # a state for each part of the history, [rows, ...]
    context: Any  # leaves [rows, ...], or None
    draws: Any  # as `sample_draws` makes them, or None


def reference(problem: Problem) -> tuple[Tensor, tuple[Any, ...]]:
    """The loop in plain torch. -> outputs [nodes, ...], and a tuple of final states, one for each part of the history."""
    cell, structure, inputs, first, given, context, draws = problem
    spec = pytree.tree_structure(first)
    states = States([pytree.tree_leaves(first), *map(pytree.tree_leaves, given)], structure)
    finder = Finder(structure, cell.slots)
    wanted = cell.draws(1) if draws is not None else None
    joined = context is not None and not isinstance(cell.inputs, Given)
    outputs = []
    for number, (front, slots) in enumerate(finder.fronts()):
        before: Any = tuple(pytree.tree_unflatten(states.gather(places), spec) for places in slots)
        if cell.slots == 1:
            (before,) = before
        elif cell.slots == "any":
            before = Children(before[0], finder.owner(front).to(states.device), front.stop - front.start)
        x = pytree.tree_map(lambda leaf, f=front: leaf[f], inputs)
        if context is not None:
            here = pytree.tree_map(lambda leaf, f=front: states.rows_of(leaf, f), context)
            x = torch.cat([x, here], -1) if joined else Given(x, here)
        drawn = None
        if draws is not None:
            drawn = map_draws(lambda d, v, f=front, n=number: _at(d, v, f, n, states), wanted, draws)
        result = advance(cell, before, x, drawn, structure.start + number)
        new, output = _check_step(cell, result, front.stop - front.start, spec)
        states.blocks.append(pytree.tree_leaves(new))
        outputs.append(output)
    ends = tuple(pytree.tree_unflatten(states.gather(places), spec) for places in finder.ends())
    like = pytree.tree_leaves(inputs)[0]
    return torch.cat(outputs) if outputs else like.new_zeros((0, cell.outputs)), ends


def sample_draws(cell: Cell, structure: Structure, like: Tensor) -> Any:
    """What the cell wants drawn, drawn, for all fronts before the loop, so that every backend sees the same. None in eval mode.

    Leaves: [nodes, ...] for a draw per step, [rows, ...] per unfolding; without rows, [fronts, ...] and [...].
    """
    wanted = draws_wanted(cell, 1)
    return None if wanted is None else map_draws(lambda draw: draw.sample(_drawn_shape(draw, structure), like), wanted)


def _drawn_shape(draw: Any, structure: Structure) -> tuple[int, ...]:
    if draw.per_row:
        return (structure.nodes if draw.per == "step" else structure.rows, *draw.shape[1:])
    return (len(structure.sizes), *draw.shape) if draw.per == "step" else draw.shape


def _at(draw: Any, value: Tensor, front: slice, number: int, states: States) -> Tensor:
    """The part of a draw that one front gets."""
    if draw.per_row:
        return value[front] if draw.per == "step" else states.rows_of(value, front)
    return value[number] if draw.per == "step" else value


class Places(NamedTuple):
    """Where the states of one slot of one front lie: part of one block, or parts of several put in order."""

    parts: list[tuple[int, slice | Tensor]]  # (block, rows in it)
    order: Tensor | None  # of the parts' rows, one after the other; None: as they are


class Finder:
    """Codes of predecessors, turned front by front into places in blocks of states; all blocks that hold what was given come first.

    Most fronts of sequences are one run of rows of one block, which costs a view; the rest is gathered block by block, so that the cost is that of
    the edges, whatever the shape of the structure.
    """

    def __init__(self, structure: Structure, slots: int | str):
        self.structure = structure
        self.given = 1 + structure.history
        if slots == "any":
            source, self._owner = structure.in_edges()
            self.columns = _array(source)[:, None]
            self.edges = np.searchsorted(_array(self._owner), structure.offsets)
        else:
            assert isinstance(slots, int)
            self.columns, self.edges = _array(structure.in_slots(slots)), structure.offsets
            self._owner = torch.arange(structure.nodes)

    def fronts(self) -> Iterator[tuple[slice, list[Places]]]:
        rows = _array(self.structure.row)[_array(self._owner)]
        slots = self.columns.shape[1]
        # runs: codes that count up by one, all of them nodes of one block
        step = np.diff(self.columns, axis=0, prepend=0) == 1
        for number, front in enumerate(self.structure.fronts()):
            a, b = int(self.edges[number]), int(self.edges[number + 1])
            places = []
            for slot in range(slots):
                codes = self.columns[a:b, slot]
                if b > a and codes[0] >= 0 and step[a + 1 : b, slot].all():
                    block = int(np.searchsorted(self.structure.offsets, codes[0], side="right")) - 1
                    if codes[-1] < self.structure.offsets[block + 1]:
                        start = int(codes[0] - self.structure.offsets[block])
                        places.append(Places([(self.given + block, slice(start, start + b - a))], None))
                        continue
                places.append(self._places(codes, rows[a:b]))
            yield front, places

    def ends(self) -> Iterator[Places]:
        codes = _array(self.structure.ends)
        for part in range(codes.shape[1]):
            yield self._places(codes[:, part], np.arange(len(codes)))

    def owner(self, front: slice) -> Tensor:
        first, last = np.searchsorted(_array(self._owner), [front.start, front.stop])
        return self._owner[first:last] - front.start

    def _places(self, codes: np.ndarray, rows: np.ndarray) -> Places:
        block = np.where(codes >= 0, self.given + np.searchsorted(self.structure.offsets, codes, side="right") - 1, NONE - codes)
        local = np.where(codes >= 0, codes - self.structure.offsets[(block - self.given).clip(0)], rows)
        order = np.argsort(block, kind="stable")
        used, first = np.unique(block[order], return_index=True)
        parts = []
        for number, among in zip(used.tolist(), np.split(local[order], first[1:])):
            run = len(among) > 0 and (np.diff(among) == 1).all()
            where = slice(int(among[0]), int(among[0]) + len(among)) if run else torch.from_numpy(among)
            parts.append((number, where))
        if not parts:
            return Places([(0, slice(0, 0))], None)
        inverse = None if (np.diff(block) >= 0).all() else torch.from_numpy(np.argsort(order, kind="stable"))
        return Places(parts, inverse)


class States:
    """All states so far, in blocks: the initial state, what was given, then one block per front; each a list of leaves."""

    def __init__(self, blocks: list[list[Tensor]], structure: Structure):
        self.blocks = blocks
        self.device = blocks[0][0].device if blocks[0] else torch.device("cpu")
        self.row = structure.row.to(self.device)
        self.in_order = bool(structure.rows) and structure.nodes % structure.rows == 0 and _is_cycle(structure)

    def gather(self, places: Places) -> list[Tensor]:
        leaves = []
        for number in range(len(self.blocks[0])):
            found = [_rows(self.blocks[block][number], where) for block, where in places.parts]
            leaf = found[0] if len(found) == 1 else torch.cat(found)
            leaves.append(leaf if places.order is None else leaf.index_select(0, places.order.to(leaf.device)))
        return leaves

    def rows_of(self, value: Tensor, front: slice) -> Tensor:
        """What is held once per row, for the nodes of a front."""
        return value if self.in_order else value.index_select(0, self.row[front])


def _array(indices: Tensor) -> np.ndarray:
    """Indices as NumPy has them. The transforms of torch.func wrap whatever tensor is made under them, indices too."""
    while torch._C._functorch.is_functorch_wrapped_tensor(indices):
        indices = torch._C._functorch.get_unwrapped(indices)
    with torch._C._DisableFuncTorch():
        return indices.numpy()


def _is_cycle(structure: Structure) -> bool:
    """Every front is all rows in order."""
    return bool((structure.sizes == structure.rows).all()) and bool(
        (structure.row.view(-1, structure.rows) == torch.arange(structure.rows)).all()
    )


def _rows(leaf: Tensor, where: slice | Tensor) -> Tensor:
    if isinstance(where, slice):
        return leaf if where.start == 0 and where.stop == leaf.shape[0] else leaf[where]
    return leaf.index_select(0, where.to(leaf.device))


def _check(cell: Cell, structure: Structure, inputs: Any, context: Any) -> int:
    """The inputs have a row for each node and the sizes that the cell declares, the context a row for each sequence."""
    if context is None:
        rows = check_inputs(cell, inputs)
    else:
        for leaf in pytree.tree_leaves(context):
            if not isinstance(leaf, Tensor) or leaf.dim() == 0 or leaf.shape[0] != structure.rows:
                got = list(leaf.shape) if isinstance(leaf, Tensor) else type(leaf).__name__
                raise ShapeError(f"{named(cell)}: context has one row per sequence, [{structure.rows}, ...]; got {got}.")
        part = pytree.tree_map(lambda leaf: leaf[:0], inputs)
        here = pytree.tree_map(lambda leaf: leaf[:0], context)
        if isinstance(cell.inputs, Given):
            check_inputs(cell, Given(part, here))
        elif isinstance(part, Tensor) and isinstance(here, Tensor) and isinstance(cell.inputs, int):
            if part.dim() != 2 or here.dim() != 2 or part.shape[-1] + here.shape[-1] != cell.inputs:
                raise ShapeError(
                    f"{named(cell)} gets x and context joined: expected {cell.inputs} numbers in all, got x of {list(inputs.shape)}"
                    f" and a context of {list(context.shape)}."
                )
            check_inputs(cell, torch.cat([part, here], -1))
        else:
            raise ShapeError(
                f"{named(cell)}: a cell whose inputs are not one vector takes a context when it declares inputs=Given(x=..., context=...)."
            )
        rows = pytree.tree_leaves(inputs)[0].shape[0]
    if rows != structure.nodes:
        raise ShapeError(f"{named(cell)}: the structure has {structure.nodes} nodes, the inputs have {rows} rows. Use structure.pack(x).")
    return rows


def _check_draws(cell: Cell, structure: Structure, draws: Any) -> None:
    def check(draw: Any, value: Any) -> None:
        want = _drawn_shape(draw, structure)
        if not isinstance(value, Tensor) or tuple(value.shape) != want:
            got = list(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise ShapeError(f"{named(cell)} wants draws of {list(want)}, got {got}. Take them from sample_draws over the same structure.")

    map_draws(check, cell.draws(1), draws)


def _check_step(cell: Cell, result: Any, rows: int, spec: Any) -> tuple[Any, Tensor]:
    """A step of somebody's own cell may return anything: say so here, not three layers further down."""
    if type(result) is not tuple or len(result) != 2:
        raise ShapeError(f"{named(cell)}.step has to return two things, (state, output); it returned one {type(result).__name__}.")
    new, output = result
    leaves, found = pytree.tree_flatten(new)
    if found != spec:
        raise ShapeError(
            f"{named(cell)}.step returned a state of another form than the one it declares, {cell.sizes}: {type(new).__name__}."
        )
    for leaf, shape in zip(leaves, state_leaves(cell.sizes)):
        if tuple(leaf.shape) != (rows, *shape):
            raise ShapeError(f"{named(cell)}.step returned a state of {list(leaf.shape)}; it declares {[rows, *shape]}.")
    if not isinstance(output, Tensor) or tuple(output.shape) != (rows, cell.outputs):
        got = list(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise ShapeError(f"{named(cell)}.step returned an output of {got}; it declares {[rows, cell.outputs]}.")
    return new, output
