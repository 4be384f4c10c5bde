"""The plan of a cell, for people: which of its operations are in the loop, which are not, and what runs them.

prepared   parameters alone: once per unfolding
hoisted    inputs too: before the loop, all steps at once
carried    in the loop: what the next state needs of the state
deferred   after the loop, all steps at once: outputs that feed no state, what a next layer's loop takes of this one's, and the gradients of weights
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from wavefront.cell import Cell, Given, draws_wanted, is_size, map_draws, named
from wavefront.engine.choose import plan_of
from wavefront.engine.graph import PRODUCTS, Unsupported, Value, order
from wavefront.engine.plan import Colour, Reach
from wavefront.engine.single import planned_alone
from wavefront.engine.specimen import Example

__all__ = ["explain"]


def explain(network: nn.Module, code: bool = False) -> str:
    """What the engine makes of each cell in a network (or of a cell): its operations by colour, their arithmetic, what is stored, which backend runs.

    code  also the native code of the loop, forward, as LLVM prints it

    >>> from wavefront import cells
    >>> print(explain(cells.Elman(3, 5)))
    cells.Elman(inputs=3): compiled, for float32 in vectors of ... numbers
      prepared  t, t
      hoisted   mm [5], add [5]: 35 operations of arithmetic a step, in large products
      carried   mm [5], add [5], tanh [5]: 60 operations of arithmetic a step, in one native call for all steps
      deferred  nothing
      backward  carried: one native call; once for all steps: 2 product(s), 1 sum(s) for weights; stored for each step: the state
      one step  alone: one native call
    """
    if not isinstance(network, nn.Module):
        raise TypeError(f"explain takes a network or a cell, got {type(network).__name__}.")
    found = _outermost(network)
    if not found:
        raise TypeError(
            f"There is no cell in this {type(network).__name__}, so nothing to explain: wavefront.convert(network) swaps torch's LSTM, GRU and RNN."
        )
    return "\n".join(_one(cell, code) for cell in found)


def _outermost(network: nn.Module) -> list[Cell]:
    """The cells that are unfolded: those that are no part of another cell."""
    if isinstance(network, Cell):
        return [network]
    drop_in: Any = network
    if hasattr(network, "layer_cells"):  # it makes its cells of flat parameters
        return list(drop_in.layer_cells())
    return [cell for child in network.children() for cell in _outermost(child)]


def _one(cell: Cell, code: bool) -> str:
    example = _example(cell)
    planned = plan_of(example)
    if isinstance(planned, str):
        return f"{named(cell)}: the reference loop, in plain torch: {planned}"
    plan = planned.plan
    shown: dict[Colour, list[Value]] = {colour: [] for colour in Colour}
    for v in plan.operations():
        shown[plan.colour(v)].append(v)
    if planned.reason is not None:
        return "\n".join(
            [
                f"{named(cell)}: the plan in torch operations: {planned.reason}",
                f"  prepared  {_names(shown[Colour.PREPARED], sizes=False)}",
                f"  hoisted   {_names(shown[Colour.HOISTED])}{_arithmetic(shown[Colour.HOISTED], 'in large products')}",
                f"  carried   {_names(shown[Colour.CARRIED])}{_arithmetic(shown[Colour.CARRIED], 'one operation after the other')}",
                f"  deferred  {_names(shown[Colour.DEFERRED])}{_arithmetic(shown[Colour.DEFERRED], 'in large products')}",
            ]
        )
    from wavefront.engine.backends.compiled.program import Program

    double = _dtype(cell) is torch.float64
    programs = [Program(stage, tuple(not v.rows or _trainable(v) for v in stage.into), double) for stage in plan.stages]
    kernels = [planned.programs[number, None, double].forward[0] for number in range(len(plan.stages))]
    calls = "one native call" if len(kernels) == 1 else f"{len(kernels)} native calls, one after the other,"
    contributions = [c for program in programs for c in program.contributions]
    products = sum(c.a is not None for c in contributions)
    stored = [f"{v.kind} {list(v.shape)}" for program in programs for v in program.keeps]
    sums = len(contributions) - products
    lines = [
        f"{named(cell)}: compiled, for {str(_dtype(cell)).removeprefix('torch.')} in vectors of {kernels[0].width} numbers",
        f"  prepared  {_names(shown[Colour.PREPARED], sizes=False)}",
        f"  hoisted   {_names(shown[Colour.HOISTED])}{_arithmetic(shown[Colour.HOISTED], 'in large products')}",
        f"  carried   {_names(shown[Colour.CARRIED])}{_arithmetic(shown[Colour.CARRIED], f'in {calls} for all steps')}",
        f"  deferred  {_names(shown[Colour.DEFERRED])}{_arithmetic(shown[Colour.DEFERRED], 'in large products')}",
        f"  backward  carried: {calls.rstrip(',')}; once for all steps: {products} product(s), {sums} sum(s) for weights;"
        f" stored for each step: {', '.join(['the state', *stored])}",
    ]
    once = [v for v in plan.into if v.rows and plan.reach[v] is Reach.SEQUENCE]
    if once:
        lines.append(f"  once per sequence: {_names(once)}")
    lines.append(f"  one step  {_alone(example)}")
    return "\n".join(lines + ([kernel.text for kernel in kernels] if code else []))


def _alone(example: Example) -> str:
    """What runs a step by itself, of a stream or a decoder, where no gradient is asked for."""
    try:
        planned_alone(example)
    except Unsupported as refusal:
        return f"alone, in plain torch: {refusal}"
    return "alone: one native call"


def _names(values: list[Value], sizes: bool = True) -> str:
    def name(v: Value) -> str:
        word = v.attr[0].__name__.split(".")[0] if v.kind in ("torch", "call") else v.kind
        return f"{word} {list(v.shape)}" if sizes else word

    return ", ".join(name(v) for v in values if v.kind not in ("reshape", "narrow", "stop")) or "nothing"


def _arithmetic(values: list[Value], how: str) -> str:
    count = sum(
        2 * v.args[1].size * (v.size // v.shape[-1] if v.kind == "mm" else 1) if v.kind in PRODUCTS else v.size
        for v in values
        if v.kind not in ("reshape", "narrow", "stop")
    )
    return f": {count:,} operations of arithmetic a step, {how}" if count else ""


def _trainable(v: Value) -> bool:
    """Whether what comes into the loop hangs on a parameter, so that training wants its gradient."""
    return any(a.kind == "input" and a.attr[0] == "param" for a in order([v]))


def _dtype(cell: Cell) -> torch.dtype:
    return next((p.dtype for p in cell.parameters() if p.is_floating_point()), torch.get_default_dtype())


def _example(cell: Cell) -> Example:
    """Two rows of zeros."""

    def zeros(sizes: Any) -> Any:
        return pytree.tree_map(lambda s: torch.zeros((2, s) if isinstance(s, int) else (2, *s), dtype=_dtype(cell)), sizes, is_leaf=is_size)

    given = isinstance(cell.inputs, Given)
    draws = map_draws(lambda d: torch.zeros(2 if d.per_row else d.shape[0], *d.shape[1:], dtype=_dtype(cell)), draws_wanted(cell, 2))
    inputs, context = (zeros(cell.inputs.x), zeros(cell.inputs.context)) if given else (zeros(cell.inputs), None)
    return Example(cell, inputs, cell.initial_state(2), context, draws)
