"""One step at a time, for streams and decoding: a cell's whole step as one native call, with as little Python around it as is safe.

Weights are read where they lie at the moment of the call, so that every change to them is seen, one of `.data` too. A parameter that is another
tensor than last time, an attribute that was set, a hook: the step is looked at anew. What needs a gradient goes the ordinary way.
"""

from __future__ import annotations

import ctypes
import threading
import weakref
from collections.abc import Callable
from functools import partial
from operator import itemgetter
from typing import Any, NamedTuple

import torch
from torch import Tensor, empty_like
from torch._C._dynamo.guards import TensorGuards
from torch.utils import _pytree as pytree

from wavefront.cell import Cell, Given, draws_wanted
from wavefront.engine.choose import Example, Planned, fallbacks, fetch, plan_of, runs
from wavefront.engine.graph import Unsupported, Value, evaluate, needed, order
from wavefront.engine.plan import make_plan
from wavefront.engine.watch import Watch

__all__ = ["planned_alone", "single"]

LARGE = 1 << 24  # multiplications of one step from which torch's products, on all its threads, are faster
FORMS = 64  # numbers of rows for which a cell keeps its tables

_singles: dict[int, Single | Refused] = {}
_lock = threading.RLock()


def single(cell: Cell, state: Any, x: Any) -> tuple[Any, Tensor] | None:
    """`cell.step(state, x)` in one native call; None where this call has to go the ordinary way: then nothing has been done."""
    if (
        torch.is_grad_enabled()
        or torch.compiler.is_compiling()
        or torch._C._len_torch_function_stack()
        or torch.autograd.forward_ad._current_level >= 0
    ):
        return None
    known = _singles.get(id(cell))
    if known is None or known.cell() is not cell or not known.watch.holds():
        known = _made(cell, x)
        if known is None:
            return None
    return known(state, x)


def _elsewhere() -> bool:
    """Whether torch's operations mean something else here than what they say. `Form.check` tells all of this apart, faster."""
    return (
        torch._C._functorch.peek_interpreter_stack() is not None
        or torch._C._len_torch_dispatch_stack() > 0
        or torch.is_autocast_enabled("cpu")
        or torch.jit.is_tracing()
    )


def _made(cell: Cell, x: Any) -> Single | Refused | None:
    """None: not in this call."""
    leaf = pytree.tree_leaves(x)[0]
    if _elsewhere() or not isinstance(leaf, Tensor) or leaf.dtype not in (torch.float32, torch.float64) or not leaf.is_cpu:
        return None
    first = cell.initial_state(1)
    if any(part.dtype is not leaf.dtype or not part.is_cpu for part in pytree.tree_leaves((first, x)) if part.dtype is not torch.bool):
        return None
    number, watch = id(cell), Watch(cell)
    alive = weakref.ref(cell, lambda _: _singles.pop(number, None))
    inputs, context = (x.x, x.context) if isinstance(cell.inputs, Given) else (x, None)
    found: Single | Refused
    try:
        if watch.hooked:
            raise Unsupported("hooks on its modules")
        planned = planned_alone(Example(cell, inputs, first, context, None))
        found = Single(cell, alive, watch, planned, first, x)
    except Unsupported as refusal:
        found = Refused(alive, watch, str(refusal))
    _singles[number] = found
    return found


def planned_alone(example: Example) -> Planned:
    """The plan of a cell that has one and takes its steps alone. Unsupported, with the reason: its steps run in plain torch."""
    cell = example.cell
    if cell.phases > 1:
        raise Unsupported("a cell with a clock")
    if draws_wanted(cell, 1) is not None:
        raise Unsupported("a cell that draws at random")
    planned = plan_of(example)
    if isinstance(planned, str):
        raise Unsupported(planned)
    from wavefront.engine.backends.compiled.single import schedule_of

    step = _step_of(planned)
    schedule_of(step.inputs, step.results)
    return planned


class Refused:
    """A cell whose step goes the ordinary way, as long as it is what it is now."""

    def __init__(self, cell: Any, watch: Watch, reason: str):
        self.cell, self.watch, self.reason = cell, watch, f"one step alone: {reason}"

    def __call__(self, state: Any, x: Any) -> None:
        fallbacks[self.reason] += 1


class Form(NamedTuple):
    """What a call over so many rows needs."""

    check: Callable[..., bool]  # whether what is given, and the parameters, are tensors like those of the call that went well
    made: list[tuple[Tensor, int]]  # like what is to be made, with the place of its address
    tables: list[tuple[Any, int, Any]]  # filled in but for addresses, with their scratch memory: one for each call that is under way


NO_FORM = Form(lambda *_: False, [], [])


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
        self.cell, self.watch = alive, watch
        states, inputs, slots = pytree.tree_leaves(first), pytree.tree_leaves(x), cell.slots
        assert isinstance(slots, int)
        self.dtype = states[0].dtype
        self.shapes = [tuple(leaf.shape[1:]) for leaf in (*states * slots, *inputs)]
        step = _step_of(planned)
        self.made = [v.shape for v in step.results]
        self.flat, self.build = _flattener(first, x, slots), _builder(first, step.after)
        self.output = step.output
        self.work = sum(w.size for w in step.weights)
        self.form, self.forms = NO_FORM, dict[int, Form]()
        self.like = states[0].new_empty(0)
        self._bind(cell, planned, step)
        before = {
            "x": slots * len(states),
            "context": len(self.shapes) - len(pytree.tree_leaves(x.context if isinstance(x, Given) else ())),
        }
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
        self.homes = tuple({id(p): p for p in self.parameters.values()}.values())
        self.lie = [_lie(home) for home in self.homes]
        self.reads: list[tuple[Callable[[], int], int, int]] = []  # where a tensor of the cell begins, how far on a value lies, its place
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
                    self.reads.append((home.data_ptr, tensor.data_ptr() - home.data_ptr(), at))
                if name == "weight":
                    self.steps[self.place["step", n]] = tensor.stride(1 if self.along[v] else 0)

    def _laid(self, v: Value, tensor: Tensor) -> Tensor:
        return tensor.t().contiguous().t() if self.along.get(v) else tensor.contiguous()

    def __call__(self, state: Any, x: Any) -> tuple[Any, Tensor] | None:
        given, form = self.flat(state, x), self.form
        if len(given) != len(self.shapes) or not form.check(*given, *self.homes):
            found = self._looked(given)
            if found is None:
                return None
            form, given = found
        try:
            table, address, alive = form.tables.pop()
        except IndexError:
            table, address, alive = self._table(len(given[0]))
        for data_ptr, offset, at in self.reads:
            table[at] = data_ptr() + offset
        made_anew = self._fill(table) if self.anew else None
        for number, at in self.inputs:
            table[at] = given[number].data_ptr()
        results = []
        for like, at in form.made:
            results.append(tensor := empty_like(like))
            table[at] = tensor.data_ptr()
        self.kernel.slice(address, 0)
        del made_anew  # until now, the kernel read it
        form.tables.append((table, address, alive))
        runs["single"] += 1
        return self.build(results), results[self.output]

    def _looked(self, given: Any) -> tuple[Form, Any] | None:
        """The form of a call that is not like the last one, and what is given in the way that the kernel reads it. None: the ordinary way."""
        if _elsewhere():
            return None
        rows = given[0].shape[0] if isinstance(given[0], Tensor) and given[0].dim() else 0
        if len(given) != len(self.shapes) or rows == 0 or rows * self.work > LARGE:
            return None
        for home, before in zip(self.homes, self.lie):
            if _lie(home) != before:
                _singles.pop(id(self.cell()), None)  # it holds another kind of tensor than it did: to be looked at anew the next time
                return None
        for tensor, shape in zip(given, self.shapes):
            kinds = (Tensor, torch.nn.Parameter)
            if type(tensor) not in kinds or tensor.shape != (rows, *shape) or tensor.dtype is not self.dtype or not tensor.is_cpu:
                return None
        given = [tensor.contiguous() for tensor in given]
        form = self.forms.get(rows)
        if form is None or not form.check(*given, *self.homes):
            if len(self.forms) >= FORMS:
                self.forms.clear()
            made = form.made if form else [(self.like.new_empty(rows, *shape), at) for shape, at in zip(self.made, self.outputs)]
            form = self.forms[rows] = Form(_check((*given, *self.homes)), made, form.tables if form else [])
        self.form = form
        return form, given

    def _fill(self, table: Any) -> list[Tensor]:
        known = dict(self.parameters)
        evaluate([v for v, _ in self.anew], known, self.like, 1)
        made = [self._laid(v, known[v]) for v, _ in self.anew]
        for (_, at), tensor in zip(self.anew, made):
            table[at] = tensor.data_ptr()
        return made

    def _table(self, rows: int) -> tuple[Any, int, Any]:
        scratch = self.like.new_empty(max(1, rows * self.kernel.schedule.scratch + self.kernel.beside))
        starts, counts, nodes = torch.tensor([0]), torch.tensor([rows]), torch.arange(rows)
        of = {"fronts": 1, "high": 1, "most": rows, "scratch_size": scratch.numel(), "slices": 1}
        of |= {"starts": starts.data_ptr(), "counts": counts.data_ptr(), "list": nodes.data_ptr(), "scratch": scratch.data_ptr()}
        table = (ctypes.c_int64 * len(self.kernel.arguments))(*(of.get(key, 0) for key in self.kernel.arguments))
        for at, step in self.steps.items():
            table[at] = step
        return table, ctypes.addressof(table), (scratch, starts, counts, nodes)


def _check(tensors: tuple[Tensor, ...]) -> Callable[..., bool]:
    """Whether other tensors are like these in all that matters to native code, at once: their type, dtype, device, sizes and strides, and
    which modes and transforms are on that change what an operation means. It is the check that torch.compile makes before each call."""
    sizes: Any = [list(tensor.shape) for tensor in tensors]
    strides: Any = [list(tensor.stride()) for tensor in tensors]
    check: Callable[..., bool] = TensorGuards(*tensors, dynamic_dims_sizes=sizes, dynamic_dims_strides=strides).check
    return check


def _flattener(state: Any, x: Any, slots: int) -> Callable[[Any, Any], Any]:
    """Takes the tensors out of a state and an input of this form."""
    if isinstance(x, Tensor) and slots == 1:
        if isinstance(state, Tensor):
            return lambda state, x: (state, x)
        if all(isinstance(part, Tensor) for part in state):
            return lambda state, x: (*state, x)
    return lambda state, x: [*pytree.tree_leaves(state), *pytree.tree_leaves(x)]


def _builder(tree: Any, after: list[int]) -> Callable[[list[Tensor]], Any]:
    """Makes a state of this form of results; `after` says which."""
    if isinstance(tree, Tensor):
        return itemgetter(*after)
    if all(isinstance(part, Tensor) for part in tree) and len(after) > 1:
        new, parts = partial(tuple.__new__, type(tree)), itemgetter(*after)
        return lambda results: new(parts(results))
    spec = pytree.tree_structure(tree)
    return lambda results: pytree.tree_unflatten([results[n] for n in after], spec)


def _lie(tensor: Tensor) -> tuple[Any, ...]:
    """How a tensor lies in memory, but for where."""
    return tensor.shape, tensor.stride(), tensor.dtype, tensor.device


def _shares(tensor: Tensor, home: Tensor) -> bool:
    return tensor.untyped_storage().data_ptr() == home.untyped_storage().data_ptr() and tensor.dtype is home.dtype
