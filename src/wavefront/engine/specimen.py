"""A step's inputs over some rows, to be recorded and tested with."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from wavefront.cell import Cell, Children, Draw, Given, advance, map_draws
from wavefront.engine.graph import OWNER, Unsupported

__all__ = ["Example", "counts", "fetch", "specimen", "tensors_of"]

PRIMES = (61, 67, 71, 73, 79, 83, 89, 97, 101, 103, 107, 109, 113, 127, 131, 137, 139, 149, 151, 157)


class Example(NamedTuple):
    """As much of a problem as planning looks at."""

    cell: Cell
    inputs: Any
    first: Any
    context: Any
    draws: Any


def counts(problem: Any) -> tuple[int, int]:
    """Rows and edges to record a step with: numbers that no size of it is a multiple of, so that what has rows can be told by its shape."""
    cell = problem.cell
    sizes = {n for _, path, name in tensors_of(cell) for n in fetch(cell, path, name).shape}
    given = pytree.tree_leaves((problem.inputs, problem.first, problem.context))
    sizes |= {n for t in given if isinstance(t, Tensor) for n in t.shape[1:]}
    rows, edges, *_ = [*(p for p in PRIMES if all(n % p for n in sizes if n)), None, None]
    if rows is None or edges is None:
        raise Unsupported("its sizes leave no number of rows to trace with")
    return rows, edges


def tensors_of(cell: Cell) -> list[tuple[Any, str, str]]:
    """All parameters and buffers once: (name in the graph, path of the module, attribute)."""
    seen: set[int] = set()
    found = []
    for path, module in cell.named_modules():
        for table in (module._parameters, module._buffers):
            for name, tensor in table.items():
                if tensor is not None and id(tensor) not in seen:
                    seen.add(id(tensor))
                    found.append((("param", f"{path}.{name}".lstrip(".")), path, name))
    return found


def fetch(cell: Cell, path: str, name: str) -> Tensor:
    module: Any = cell.get_submodule(path)
    table = module._parameters if name in module._parameters else module._buffers
    return table[name]


def specimen(problem: Any, rows: int, edges: int) -> tuple[dict[Any, Tensor], list[Any], list[Any], Callable[..., Any], int]:
    """Inputs of a step over some rows: names and tensors, which of them have no rows, which are given once per sequence, and the step itself.
    Any number of predecessors are so many edges, of some of the nodes."""
    cell = problem.cell
    generator = torch.Generator().manual_seed(0)

    def like(t: Tensor, leading: bool = True, rows: int = rows) -> Tensor:
        shape = (rows, *t.shape[1:]) if leading else t.shape
        if t.dtype is torch.bool:
            return (torch.rand(shape, generator=generator) < 0.5).to(t.device)
        return torch.randn(shape, generator=generator, dtype=t.dtype).to(t.device)

    names: dict[Any, Tensor] = {}
    prepared: list[Any] = []
    sequence: list[Any] = []

    def name(kind: Any, tree: Any, make: Callable[[Tensor], Tensor] = like) -> Any:
        leaves, spec = pytree.tree_flatten(tree)
        made = [make(leaf) for leaf in leaves]
        names.update({(*kind, n): leaf for n, leaf in enumerate(made)})
        return pytree.tree_unflatten(made, spec)

    before: Any
    if cell.slots == "any":
        names[OWNER.attr] = torch.randint(rows, (edges,), generator=generator).sort().values.to(pytree.tree_leaves(problem.first)[0].device)
        before = Children(name(("state", 0), problem.first, partial(like, rows=edges)), names[OWNER.attr], rows)
    else:
        before = tuple(name(("state", slot), problem.first) for slot in range(cell.slots))
        before = before[0] if cell.slots == 1 else before
    x = name(("x",), problem.inputs)
    context = None
    if problem.context is not None:
        context = name(("context",), problem.context)
        sequence += [k for k in names if k[0] == "context"]
    drawn = None
    if problem.draws is not None:
        numbers = iter(range(1000))

        def one(draw: Draw, value: Tensor) -> Tensor:
            key = ("front draw" if draw.per == "step" and not draw.per_row else "draw", next(numbers))
            names[key] = like(value if draw.per_row else value.new_empty(draw.shape), draw.per_row).abs()
            if not draw.per_row:
                prepared.append(key)
            elif draw.per == "unfolding":
                sequence.append(key)
            return names[key]

        drawn = map_draws(one, cell.draws(1), problem.draws)

    def step(phase: int = 0) -> Any:
        here = x
        if context is not None:
            here = Given(x, context) if isinstance(cell.inputs, Given) else torch.cat([x, context], -1)
        new, output = advance(cell, before, here, drawn, phase)
        return new, output

    return names, prepared, sequence, step, len(pytree.tree_leaves(problem.first))
