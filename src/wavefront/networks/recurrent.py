"""A cell over sequences, as modules to build with: in one direction, and in both."""

from __future__ import annotations

from collections.abc import Callable, Sequence as Many
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import unset_fake_temporarily
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
    state_of,
)
from wavefront.engine.operator import Opaque, storable
from wavefront.engine.single import single
from wavefront.errors import ShapeError
from wavefront.structure import Sequence
from wavefront.unfolding import sample_draws, unfold

__all__ = ["Bidirectional", "Recurrent"]


def _line(
    batch: int,
    steps: int,
    reverse: bool,
    skips: tuple[int, ...],
    start: int,
    together: int,
    lengths: Tensor | Many[int] | None = None,
    resets: Tensor | None = None,
) -> Sequence:
    return Sequence(batch, steps, lengths, resets, reverse, skips, start, together)


_whole = lru_cache(maxsize=8)(_line)  # whole sequences of one form come again and again


def _plainly() -> bool:
    """Whether a tensor made now serves any later call: one made under a transform of torch.func does not."""
    return torch._C._functorch.peek_interpreter_stack() is None


class Recurrent(Opaque):
    """Any cell, unfolded over a batch of sequences.

    cell     one step; `Recurrent(wrap.Stack(...))` is a deep network
    skips    the delays whose states the step gets: (1,) is the usual network; (1, 5) hands a two-slot cell h(t-1) and h(t-5)  [10.9.1]
    reverse  from the end of each sequence to its start
    backend, precision  as in `unfold`

    Called with

        x        [B, T, cell.inputs], or a NamedTuple of tensors [B, T, ...]
        state    one row per sequence; None: the cell's initial state. With skips, a tuple of the last max(skips) states, latest first
        lengths  [B], how long each sequence really is; outputs past it are zero, the final state is the state there, and a reversed network
                 starts there
        resets   [B, T] bool, true where a sequence begins anew before that step
        context  [B, ...], given once per sequence
        draws    given draws instead of fresh ones, as `self.draws` makes them
        start    number of the first step, for cells with clocks

    it returns outputs [B, T, cell.outputs] and the final state, which carries on where a sequence was cut.

    >>> from wavefront import Recurrent, cells
    >>> net = Recurrent(cells.LSTM(3, 5))
    >>> x = torch.randn(2, 7, 3)
    >>> outputs, state = net(x, lengths=[7, 4])
    >>> outputs.shape, state.h.shape
    (torch.Size([2, 7, 5]), torch.Size([2, 5]))
    >>> state, output = net.step(None, x[:, 0])       # streaming: the same network, one step at a time
    >>> torch.allclose(output, outputs[:, 0])
    True
    """

    def __init__(self, cell: Cell, skips: Many[int] = (1,), reverse: bool = False, backend: str = "auto", precision: str | None = None):
        super().__init__()
        if isinstance(cell, type) and issubclass(cell, Cell):
            raise TypeError(f"Recurrent unfolds a cell, got the class {cell.__name__}: make one, {cell.__name__}(inputs, units).")
        if not isinstance(cell, Cell):
            raise TypeError(
                f"Recurrent unfolds a wavefront.Cell, got {type(cell).__name__}. Derive yours from Cell, with a step(state, x)."
            )
        if isinstance(cell.slots, int) and cell.slots < len(tuple(skips)):
            raise ShapeError(f"{named(cell)} takes {cell.slots} predecessor(s), skips={tuple(skips)} are {len(tuple(skips))}.")
        Sequence(0, 0, skips=skips)  # refuses impossible skips now, not at the first call
        self.cell, self.skips, self.reverse, self.backend, self.precision = cell, tuple(skips), reverse, backend, precision

    def forward(
        self,
        x: Any,
        state: Any = None,
        lengths: Tensor | Many[int] | None = None,
        resets: Tensor | None = None,
        context: Any = None,
        draws: Any = None,
        start: int = 0,
    ) -> tuple[Tensor, Any]:
        if torch.compiler.is_compiling() and draws is None:
            return self._opaque(x, state, lengths, resets, context, start)
        form = *self._batch(x, context), self.reverse, self.skips, start, self._together()
        line = _whole(*form) if lengths is None and resets is None and _plainly() else _line(*form, lengths, resets)
        if draws is not None:
            draws = map_draws(lambda d, v: line.pack(v) if d.per == "step" and d.per_row else v, self.cell.draws(1), draws)
        packed = line.pack(x) if isinstance(x, Tensor) else pytree.tree_map(line.pack, x)
        outputs, state = unfold(
            self.cell, line, packed, state, context=context, draws=draws, backend=self.backend, precision=self.precision
        )
        return line.unpack(outputs), state

    def _opaque(self, x: Any, state: Any, lengths: Any, resets: Tensor | None, context: Any, start: int) -> tuple[Tensor, Any]:
        """`forward` inside somebody's torch.compile or torch.export: one operator of their program."""
        rows, _ = self._batch(x, context)
        lengths = lengths if lengths is None or isinstance(lengths, Tensor) else torch.tensor(list(lengths))
        given, around = ([] if tree is None else pytree.tree_leaves(tree) for tree in (state, context))
        outputs, *final = self._as_operator(pytree.tree_leaves(x), given, around, lengths, resets, start)
        like = self._first(rows)
        if torch.compiler.is_exporting():
            storable(like)
        return outputs, pytree.tree_unflatten(final, pytree.tree_structure(like))

    def _first(self, rows: int) -> Any:
        """The initial state in the form in which one is given; with skips, one for each step back."""
        first = self.cell.initial_state(rows)
        return first if max(self.skips) == 1 else (first,) * max(self.skips)

    def _arguments(
        self, x: list[Tensor], state: list[Tensor], context: list[Tensor], lengths: Tensor | None, resets: Tensor | None, start: int
    ) -> tuple[Any, ...]:
        sizes = self.cell.inputs
        given: Any = None
        if context:
            given = state_of(context, sizes.context) if isinstance(sizes, Given) else context[0]
            sizes = sizes.x if isinstance(sizes, Given) else 1
        before = pytree.tree_unflatten(state, pytree.tree_structure(self._first(0))) if state else None
        return state_of(x, sizes), before, lengths, resets, given, None, start

    def _results(self, x: list[Tensor]) -> list[Tensor]:
        with unset_fake_temporarily():  # the cell's own parameters are no fakes
            leaves = pytree.tree_leaves(self._first(0))
        rows, steps = x[0].shape[:2]
        final = [x[0].new_empty((rows, *t.shape[1:]), dtype=t.dtype) for t in leaves]
        return [x[0].new_empty((rows, steps, self.cell.outputs), dtype=leaves[0].dtype), *final]

    def draws(self, x: Any) -> Any:
        """Fresh draws for inputs like x, to be given again and again: [B, T, ...] per step, [B, ...] per unfolding. None in eval mode."""
        leaf = pytree.tree_leaves(x)[0]
        line = Sequence(leaf.shape[0], leaf.shape[1])
        drawn = sample_draws(self.cell, line, leaf)
        return map_draws(lambda d, v: line.unpack(v) if d.per == "step" and d.per_row else v, draws_wanted(self.cell, 1), drawn)

    def step(self, state: Any, x: Any, context: Any = None, start: int = 0) -> tuple[Any, Tensor]:
        """One step of a stream, state first as in a cell: x [B, inputs] -> the next state, output [B, outputs]. state None: the first step."""
        cell: Cell = self._modules["cell"]  # type: ignore[assignment]  # `self.cell` takes as long as a part of the step
        if context is not None:
            x = Given(x, context) if isinstance(cell.inputs, Given) else torch.cat([x, context], -1)
        if state is not None and self.skips == (1,) and not self.reverse and cell.slots == 1 and self.backend in ("auto", "compiled"):
            found = single(cell, state, x)
            if found is not None:
                return found
        if self.reverse:
            raise ShapeError(f"{named(self.cell)} runs from end to start here: it cannot stream. Use a network that looks backward only.")
        rows = check_inputs(cell, x)
        history = max(self.skips)
        past = (cell.initial_state(rows),) * history if state is None else state if history > 1 else (state,)
        if history > 1 and (not isinstance(past, (tuple, list)) or len(past) != history):
            got = len(past) if isinstance(past, (tuple, list)) else f"a {type(past).__name__}"
            raise ShapeError(f"{named(cell)} over skips={self.skips} carries a tuple of {history} states, latest first; got {got}.")
        latest = [past[d - 1] for d in self.skips]
        for part in latest:  # the others when their turn comes: a step costs the same whatever the delay
            check_state(cell, part, rows)
        before: Any
        if cell.slots == "any":
            owner = torch.arange(rows).repeat_interleave(len(latest))
            before = Children(pytree.tree_map(lambda *parts: torch.stack(parts, 1).flatten(0, 1), *latest), owner, rows)
        else:
            missing = int(cell.slots) - len(latest)
            latest += [cell.initial_state(rows)] * missing if missing else []
            before = latest[0] if cell.slots == 1 else tuple(latest)
        like = pytree.tree_leaves(x)[0]
        drawn = map_draws(lambda draw: draw.sample(draw.shape, like), draws_wanted(cell, rows))
        new, output = advance(cell, before, x, drawn, start)
        return (new, *past[:-1]) if history > 1 else new, output

    def _together(self) -> int:
        """Steps that do not see each other are one front, unless the cell tells the steps apart: by its clock, by a draw for each."""
        if self.skips == (1,):
            return 1
        drawn: list[Any] = []
        map_draws(lambda draw: drawn.append(draw.per == "step" and not draw.per_row), draws_wanted(self.cell, 1))
        return 1 if self.cell.phases > 1 or any(drawn) else min(self.skips)

    def extra_repr(self) -> str:
        return ", ".join(([f"skips={self.skips}"] if self.skips != (1,) else []) + (["reverse=True"] if self.reverse else []))

    def _batch(self, x: Any, context: Any) -> tuple[int, int]:
        """B and T, when x is what the cell takes."""
        leaves = leaves_of(x)
        sizes = self.cell.inputs.x if context is not None and isinstance(self.cell.inputs, Given) else self.cell.inputs
        shapes = state_leaves(sizes)
        want = "[B, T, " + ", ".join(map(str, shapes[0])) + "]"
        if len(leaves) != len(shapes) or not all(isinstance(leaf, Tensor) for leaf in leaves):
            kind = type(sizes).__name__ if len(shapes) > 1 else "tensor"
            raise ShapeError(f"Recurrent({named(self.cell)}) expects x to be one {kind} of {len(shapes)} part(s), got {type(x).__name__}.")
        for leaf, shape in zip(leaves, shapes):
            if leaf.dim() != len(shape) + 2:
                hint = " One step? Use net.step(state, x). One sequence without a batch? x[None]." if leaf.dim() == len(shape) + 1 else ""
                raise ShapeError(f"Recurrent({named(self.cell)}) expects x of {want}, got {list(leaf.shape)}.{hint}")
            if leaf.shape[:2] != leaves[0].shape[:2]:
                raise ShapeError(
                    f"Recurrent({named(self.cell)}): the parts of x differ in batch or time: {[list(p.shape) for p in leaves]}."
                )
            if context is None and tuple(leaf.shape[2:]) != shape:
                raise ShapeError(f"Recurrent({named(self.cell)}) expects x of {want}, got {list(leaf.shape)}.")
        return leaves[0].shape[0], leaves[0].shape[1]


MERGES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "concat": lambda a, b: torch.cat([a, b], -1),
    "sum": torch.add,
    "mean": lambda a, b: (a + b) / 2,
    "product": torch.mul,
}


class Bidirectional(nn.Module):
    """Two cells over the same sequences, one forward in time with state h(t), one backward with state g(t).    [Goodfellow et al. 2016, 10.3]

        o(t) = merge(h(t), g(t))            h(t) = f(h(t-1), x(t))            g(t) = f'(g(t+1), x(t))

    merge  "concat" (outputs side by side), "sum", "mean", "product", a function of two tensors, or None: the pair of outputs
    x, lengths, resets, context as in `Recurrent`; state, and the state returned, is the pair (forward, backward).

    >>> from wavefront import Bidirectional, cells
    >>> net = Bidirectional(cells.GRU(3, 5), cells.GRU(3, 5))
    >>> outputs, (forward, backward) = net(torch.randn(2, 7, 3), lengths=[7, 4])
    >>> outputs.shape, backward.shape
    (torch.Size([2, 7, 10]), torch.Size([2, 5]))
    """

    def __init__(
        self,
        forward: Cell,
        backward: Cell,
        merge: str | Callable[[Tensor, Tensor], Tensor] | None = "concat",
        skips: Many[int] = (1,),
        backend: str = "auto",
        precision: str | None = None,
    ):
        super().__init__()
        if isinstance(merge, str) and merge not in MERGES:
            raise ValueError(f"merge is one of {', '.join(MERGES)}, a function, or None; got {merge!r}.")
        if forward is backward:
            raise ValueError(
                "Bidirectional takes two cells; this is one cell twice. Its weights shared? Say so with copy.deepcopy or two Recurrents."
            )
        if merge in ("sum", "mean", "product") and forward.outputs != backward.outputs:
            raise ShapeError(f"merge={merge!r} needs outputs of one size, got {forward.outputs} and {backward.outputs}.")
        self.ahead = Recurrent(forward, skips, backend=backend, precision=precision)
        self.back = Recurrent(backward, skips, reverse=True, backend=backend, precision=precision)
        self.merge = merge

    @property
    def outputs(self) -> int:
        """The size of the merged output, where `merge` is one of the names."""
        return self.ahead.cell.outputs + (self.back.cell.outputs if self.merge == "concat" else 0)

    def forward(
        self,
        x: Any,
        state: Any = None,
        lengths: Tensor | Many[int] | None = None,
        resets: Tensor | None = None,
        context: Any = None,
        draws: Any = None,
    ) -> tuple[Any, tuple[Any, Any]]:
        if state is not None and (not isinstance(state, (tuple, list)) or len(state) != 2):
            raise ShapeError(f"Bidirectional has a pair of states, (forward, backward); got a {type(state).__name__}. None: start anew.")
        states, drawn = state or (None, None), draws or (None, None)
        h, last = self.ahead(x, states[0], lengths, resets, context, drawn[0])
        g, first = self.back(x, states[1], lengths, resets, context, drawn[1])
        merge = MERGES[self.merge] if isinstance(self.merge, str) else self.merge
        return (h, g) if merge is None else merge(h, g), (last, first)

    def draws(self, x: Any) -> Any:
        """Fresh draws for both directions, to be given again."""
        return self.ahead.draws(x), self.back.draws(x)

    def step(self, state: Any, x: Any) -> Any:
        """Refused: what comes later is not known yet."""
        raise ShapeError("Bidirectional looks at what comes later: it cannot stream. Use a Recurrent, which looks backward only.")

    def extra_repr(self) -> str:
        return f"merge={self.merge!r}"
