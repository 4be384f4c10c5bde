"""One step at a time, for streams and decoding: a cell's whole step as one native call, with as little Python around it as is safe.

Weights are read where they lie at the moment of the call, so that every change to them is seen, one of `.data` too. A parameter that is another
tensor than last time, an attribute that was set, a hook: the step is looked at anew. What needs a gradient goes the ordinary way.
"""

from __future__ import annotations

import contextlib
import ctypes
import threading
import weakref
from collections.abc import Callable
from operator import itemgetter
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from wavefront.cell import Cell, Given, draws_wanted
from wavefront.engine.choose import Example, Planned, fetch, plan_of, runs
from wavefront.engine.graph import Unsupported, Value, evaluate, needed, order
from wavefront.engine.plan import make_plan
from wavefront.engine.watch import Watch

__all__ = ["single"]

LARGE = 1 << 24  # multiplications of one step from which torch's products, on all its threads, are faster
FORMS = 64  # numbers of rows for which a cell keeps its tables

_singles: dict[int, Single | Refused] = {}
_lock = threading.RLock()


def single(cell: Cell, state: Any, x: Any) -> tuple[Any, Tensor] | None:
    """`cell.step(state, x)` in one native call; None where this call has to go the ordinary way: then nothing has been done."""
    if (
        torch.is_grad_enabled()
        or torch.compiler.is_compiling()
        or torch._C._functorch.peek_interpreter_stack() is not None
        or torch._C._len_torch_dispatch_stack()
        or torch._C._len_torch_function_stack()
        or torch.is_autocast_enabled("cpu")
        or torch.autograd.forward_ad._current_level >= 0
    ):
        return None
    known = _singles.get(id(cell))
    if known is None or known.cell() is not cell or not known.watch.holds():
        known = _made(cell, x)
    return known(state, x)


def _made(cell: Cell, x: Any) -> Single | Refused:
    number, watch = id(cell), Watch(cell)
    alive = weakref.ref(cell, lambda _: _singles.pop(number, None))
    found: Single | Refused = Refused(alive, watch)
    first = cell.initial_state(1)
    dtypes = {leaf.dtype for leaf in pytree.tree_leaves((first, x)) if leaf.dtype is not torch.bool}
    if len(dtypes) > 1:
        return found
    fits = cell.slots != "any" and cell.phases == 1 and draws_wanted(cell, 1) is None and not watch.hooked
    if fits and dtypes in ({torch.float32}, {torch.float64}) and pytree.tree_leaves(first)[0].device.type == "cpu":
        inputs, context = (x.x, x.context) if isinstance(cell.inputs, Given) else (x, None)
        planned = plan_of(Example(cell, inputs, first, context, None))
        if isinstance(planned, Planned):
            with contextlib.suppress(Unsupported):
                found = Single(cell, alive, watch, planned, first, x)
    _singles[number] = found
    return found


class Refused:
    """A cell whose step goes the ordinary way, as long as it is what it is now."""

    def __init__(self, cell: Any, watch: Watch):
        self.cell, self.watch = cell, watch

    def __call__(self, state: Any, x: Any) -> None:
        return None


class Part(NamedTuple):
    """A prepared value that lies in a tensor of the cell."""

    tensor: Tensor
    shape: torch.Size
    stride: tuple[int, ...]
    offset: int  # in bytes
    at: int  # in the table


class Form(NamedTuple):
    """What a call over so many rows needs."""

    given: list[tuple[int, ...]]  # none: so many rows go the ordinary way
    made: list[tuple[tuple[int, ...], int]]  # with the place of its address
    tables: list[tuple[Any, int, Any]]  # filled in but for addresses, with their scratch memory: one for each call that is under way


class Step(NamedTuple):
    """A planned step, all of it carried, and its kernels by how the weights lie."""

    inputs: list[Value]
    results: list[Value]
    after: list[int]  # which of the results
    output: int
    weights: list[Value]
    kernels: dict[Any, Any]


def _step_of(planned: Planned) -> Step:
    with _lock:
        if "single" not in planned.programs:  # shared by equal cells
            known = planned.plan
            rows = [v for v in order([*known.after, known.output]) if v.kind == "input" and v.rows]
            plan = make_plan(known.graph, [rows], known.after, known.output, ())
            results = list(dict.fromkeys([*plan.after, plan.output]))
            weights = dict.fromkeys(v.args[1] for v in needed(results, rows_only=True) if v.kind == "mm")
            after, output = [results.index(v) for v in plan.after], results.index(plan.output)
            planned.programs["single"] = Step(rows, results, after, output, list(weights), {})
        step: Step = planned.programs["single"]
        return step


class Single:
    """A cell's step as a native function, and where in memory all that it needs lies."""

    def __init__(self, cell: Cell, alive: Any, watch: Watch, planned: Planned, first: Any, x: Any):
        self.cell, self.watch, self.build = alive, watch, _builder(first)
        states, inputs, slots = pytree.tree_leaves(first), pytree.tree_leaves(x), cell.slots
        assert isinstance(slots, int)
        self.dtype = states[0].dtype
        self.given = [tuple(leaf.shape[1:]) for leaf in (*states * slots, *inputs)]
        step = _step_of(planned)
        self.made = [v.shape for v in step.results]
        self.after, self.output = step.after, step.output
        self.work = sum(w.size for w in step.weights)
        self.forms: dict[int, Form] = {}
        self.like = states[0].new_empty(0)
        self._bind(cell, planned, step)
        before = {"x": slots * len(states), "context": len(self.given) - len(pytree.tree_leaves(x.context if isinstance(x, Given) else ()))}
        place = self.place
        self.inputs: list[tuple[int, int]] = []  # (number of a given tensor, where its address goes)
        for n, v in enumerate(step.inputs):
            if ("node", n) in place:
                kind, *numbers = v.attr
                number = numbers[0] * len(states) + numbers[1] if kind == "state" else before[kind] + numbers[0]
                self.inputs.append((number, place["node", n]))
        self.outputs = [place["node", len(step.inputs) + n] for n in range(len(step.results))]

    def _bind(self, cell: Cell, planned: Planned, step: Step) -> None:
        """The kernel, and where each prepared value that it reads comes from: a tensor of the cell, or made of some at every call."""
        from wavefront.engine.backends.compiled.single import SingleKernel

        of: dict[Any, Tensor] = {key: fetch(cell, path, name) for key, path, name in planned.parameters}
        of |= {("held", n): tensor for n, tensor in enumerate(planned.held)}
        self.parameters = {v: of[v.attr] for v in order(step.results) if v.kind == "input" and not v.rows}
        known = dict(self.parameters)
        evaluate(step.weights, known, self.like, 1)
        self.along = {w: known[w].stride(0) == 1 for w in step.weights}
        key = (tuple(self.along.values()), self.dtype)
        with _lock:
            if key not in step.kernels:
                step.kernels[key] = SingleKernel(step.inputs, step.results, self.along, self.dtype is torch.float64)
            self.kernel = step.kernels[key]
        fixed = self.kernel.fixed
        evaluate(fixed, known, self.like, 1)
        self.place: dict[Any, int] = {key: n for n, key in enumerate(self.kernel.arguments)}
        self.parts: list[Part] = []
        self.anew: list[tuple[Value, int]] = []
        self.steps: dict[int, int] = {}
        for name, values in (("weight", step.weights), ("fixed", fixed)):
            for n, v in enumerate(values):
                tensor, at = known[v], self.place[name, n]
                home = next((p for p in self.parameters.values() if _shares(tensor, p)), None)
                lies = 1 in tensor.stride() if name == "weight" else tensor.is_contiguous()
                if home is None or not lies:
                    self.anew.append((v, at))
                    tensor = self._laid(v, tensor)
                else:
                    self.parts.append(Part(home, home.shape, home.stride(), tensor.data_ptr() - home.data_ptr(), at))
                if name == "weight":
                    self.steps[self.place["step", n]] = tensor.stride(1 if self.along[v] else 0)

    def _laid(self, v: Value, tensor: Tensor) -> Tensor:
        return tensor.t().contiguous().t() if self.along.get(v) else tensor.contiguous()

    def __call__(self, state: Any, x: Any) -> tuple[Any, Tensor] | None:
        given: list[Tensor] = []
        _flat(state, given)
        _flat(x, given)
        rows, dtype = len(given[0]), self.dtype
        form = self.forms.get(rows) or self._form(rows)
        if len(given) != len(form.given):
            return None
        for number, shape in enumerate(form.given):
            tensor = given[number]
            if tensor.shape != shape or tensor.dtype is not dtype or type(tensor) is not Tensor or not tensor.is_cpu:
                self._forget()
                return None
            if not tensor.is_contiguous():
                given[number] = tensor.contiguous()
        try:
            table, address, alive = form.tables.pop()
        except IndexError:
            table, address, alive = self._table(rows)
        for tensor, shape, stride, offset, at in self.parts:
            if tensor.shape != shape or tensor.stride() != stride or tensor.dtype is not dtype:
                self._forget()
                return None
            table[at] = tensor.data_ptr() + offset
        made_anew = self._fill(table) if self.anew else None
        for number, at in self.inputs:
            table[at] = given[number].data_ptr()
        results = []
        for shape, at in form.made:
            results.append(tensor := torch.empty(shape, dtype=dtype))
            table[at] = tensor.data_ptr()
        self.kernel.slice(address, 0)
        del made_anew  # until now, the kernel read it
        form.tables.append((table, address, alive))
        runs["single"] += 1
        return self.build([results[n] for n in self.after]), results[self.output]

    def _forget(self) -> None:
        """Something holds another kind of tensor than it did: to be looked at anew the next time."""
        _singles.pop(id(self.cell()), None)

    def _fill(self, table: Any) -> list[Tensor]:
        known = dict(self.parameters)
        evaluate([v for v, _ in self.anew], known, self.like, 1)
        made = [self._laid(v, known[v]) for v, _ in self.anew]
        for (_, at), tensor in zip(self.anew, made):
            table[at] = tensor.data_ptr()
        return made

    def _form(self, rows: int) -> Form:
        if len(self.forms) >= FORMS:
            self.forms.clear()
        fits = rows > 0 and rows * self.work <= LARGE
        given = [(rows, *shape) for shape in self.given] if fits else []
        self.forms[rows] = form = Form(given, [((rows, *shape), at) for shape, at in zip(self.made, self.outputs)], [])
        return form

    def _table(self, rows: int) -> tuple[Any, int, Any]:
        scratch = self.like.new_empty(max(1, rows * self.kernel.schedule.scratch))
        starts, counts, nodes = torch.tensor([0]), torch.tensor([rows]), torch.arange(rows)
        of = {"fronts": 1, "high": 1, "most": rows, "scratch_size": scratch.numel(), "slices": 1}
        of |= {"starts": starts.data_ptr(), "counts": counts.data_ptr(), "list": nodes.data_ptr(), "scratch": scratch.data_ptr()}
        table = (ctypes.c_int64 * len(self.kernel.arguments))(*(of.get(key, 0) for key in self.kernel.arguments))
        for at, step in self.steps.items():
            table[at] = step
        return table, ctypes.addressof(table), (scratch, starts, counts, nodes)


def _flat(tree: Any, into: list[Tensor]) -> None:
    if isinstance(tree, Tensor):
        into.append(tree)
    else:
        for part in tree:
            _flat(part, into)


def _builder(tree: Any) -> Callable[[list[Tensor]], Any]:
    """Makes a tree of this form of its leaves."""
    if isinstance(tree, Tensor):
        return itemgetter(0)
    if all(isinstance(part, Tensor) for part in tree):
        return type(tree)._make if hasattr(tree, "_make") else type(tree)
    spec = pytree.tree_structure(tree)
    return lambda leaves: pytree.tree_unflatten(leaves, spec)


def _shares(tensor: Tensor, home: Tensor) -> bool:
    return tensor.untyped_storage().data_ptr() == home.untyped_storage().data_ptr() and tensor.dtype is home.dtype
