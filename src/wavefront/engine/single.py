"""One step at a time, for streams and decoding: a cell's whole step as one native call, with as little Python around it as is safe.

Weights are read where they lie at the moment of the call, so that every change to them is seen, one of `.data` too. A parameter that is another
tensor than last time, an attribute that was set, a hook: the step is looked at anew. What needs a gradient goes the ordinary way.
"""

from __future__ import annotations

import ctypes
import struct
import threading
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch._C._dynamo.guards import TensorGuards, _empty_strided_cpu  # type: ignore[attr-defined]
from torch.autograd import forward_ad
from torch.utils import _pytree as pytree

from wavefront.cell import Cell, Given, draws_wanted
from wavefront.engine.choose import fallbacks, plan_of, runs
from wavefront.engine.execute import Planned
from wavefront.engine.graph import Unsupported, Value, evaluate, needed, order
from wavefront.engine.plan import make_plan
from wavefront.engine.specimen import Example, fetch
from wavefront.engine.trace import spelled
from wavefront.engine.watch import Watch
from wavefront.engine.written import step_function

__all__ = ["planned_alone", "single"]

LARGE = 1 << 24  # multiplications of one step from which torch's products, on all its threads, are faster
FORMS = 64  # numbers of rows for which a cell keeps its tables

_singles: dict[int, Single | Refused] = {}
_lock = threading.RLock()
_graded, _compiling, _watching = torch.is_grad_enabled, torch.compiler.is_compiling, torch._C._len_torch_function_stack


def single(cell: Cell, state: Any, x: Any) -> tuple[Any, Tensor] | None:
    """`cell.step(state, x)` in one native call; None where this call has to go the ordinary way: then nothing has been done."""
    if _graded() or _compiling() or _watching() or forward_ad._current_level >= 0:
        return None
    known = _singles.get(id(cell)) or _made(cell, x)  # which goes when the cell does
    return None if known is None else known.step(state, x)


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
    _singles.pop(number, None)
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

    def step(self, state: Any, x: Any) -> tuple[Any, Tensor] | None:
        if not self.watch.holds():
            return _anew(self.cell(), state, x)
        fallbacks[self.reason] += 1
        return None


def _anew(cell: Cell, state: Any, x: Any) -> tuple[Any, Tensor] | None:
    """The step of a cell that is not what it was."""
    found = _made(cell, x)
    return None if found is None else found.step(state, x)


class Form(NamedTuple):
    """What a call over so many rows needs."""

    check: Callable[..., bool]  # whether what is given, and the parameters, are tensors like those of the call that went well
    frames: list[Frame]  # one for each call that is under way
    step: Callable[[Any, Any], Any]


class Frame(NamedTuple):
    """What a native call is handed: filled in but for addresses, with its scratch memory."""

    table: Any
    address: int
    alive: Any


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
            *after, output = spelled(known.graph, [*known.after, known.output])
            rows = [v for v in order([*after, output]) if v.kind == "input" and v.rows]
            plan = make_plan(known.graph, [rows], after, output, ())
            results = list(dict.fromkeys([*plan.after, plan.output]))
            weights = dict.fromkeys(v.args[1] for v in needed(results, rows_only=True) if v.kind == "mm")
            which = [results.index(v) for v in plan.after]
            planned.programs["single"] = Step(rows, results, which, results.index(plan.output), list(weights), {})
        step: Step = planned.programs["single"]
        return step


class Single:
    """A cell's step as a native function, and where in memory all that it needs lies."""

    def __init__(self, cell: Cell, alive: Any, watch: Watch, planned: Planned, first: Any, x: Any):
        self.cell, self.watch = alive, watch
        slots = cell.slots
        assert isinstance(slots, int)
        past = first if slots == 1 else (first,) * slots
        states, before, inputs = (pytree.tree_leaves(tree) for tree in (first, past, x))
        self.dtype, self.like = states[0].dtype, states[0].new_empty(0)
        self.shapes = [tuple(leaf.shape[1:]) for leaf in (*before, *inputs)]
        self.example = pytree.tree_map(lambda _: self.like, (past, x))  # of the form alone
        step = _step_of(planned)
        self.made, self.after, self.output = [v.shape for v in step.results], (first, step.after), step.output
        self.work = sum(w.size for w in step.weights)
        self.forms = dict[int, Form]()
        context = len(self.shapes) - len(pytree.tree_leaves(x.context if isinstance(x, Given) else ()))
        start = {"x": len(before), "context": context}
        self.places = []  # the address of each argument of the native function, as an expression
        for v in step.inputs:
            kind, *numbers = v.attr
            number = numbers[0] * len(states) + numbers[1] if kind == "state" else start[kind] + numbers[0]
            self.places.append(f"g{number}.data_ptr()")
        self.places += [f"m{n}.data_ptr()" for n in range(len(step.results))]
        self._bind(cell, planned, step)
        self.changes: Any = (ctypes.c_int64 * (2 * len(watch.changes or ())))()  # pairs of where a number lies, and what it is
        self.changes[::2] = list(watch.changes or ())
        self._look()
        self.step: Callable[[Any, Any], Any] = self._other

    def _look(self) -> None:
        """What the numbers of changes are now."""
        self.changes[1::2] = [ctypes.c_int64.from_address(address).value for address in self.changes[::2]]

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
        homes = list({id(p): p for p in self.parameters.values()}.values())
        self.lie = [_lie(home) for home in homes]
        self.anew: list[Value] = []
        self.steps: dict[int, int] = {}
        for name, values in (("weight", step.weights), ("fixed", fixed)):
            for n, v in enumerate(values):
                tensor = known[v]
                if not any(a.kind == "input" for a in order([v])):  # the same for ever
                    tensor = self._laid(v, tensor)
                    homes.append(tensor)
                number = next((n for n, home in enumerate(homes) if _shares(tensor, home)), None)
                lies = 1 in tensor.stride() if name == "weight" else tensor.is_contiguous()
                if number is None or not lies or tensor.dtype is not self.dtype:
                    self.places.append(f"a[{len(self.anew)}].data_ptr()")
                    self.anew.append(v)
                    tensor = self._laid(v, tensor)
                else:
                    offset = tensor.data_ptr() - homes[number].data_ptr()
                    self.places.append(f"p{number}.data_ptr()" + (f" + {offset}" if offset else ""))
                if name == "weight":
                    self.steps[self.kernel.place["step", n]] = tensor.stride(1 if self.along[v] else 0)
        self.homes = tuple(homes)

    def _laid(self, v: Value, tensor: Tensor) -> Tensor:
        tensor = tensor.to(self.dtype)  # masks and whole numbers
        return tensor.t().contiguous().t() if self.along.get(v) else tensor.contiguous()

    def _other(self, state: Any, x: Any) -> tuple[Any, Tensor] | None:
        """A call that is not like the last one. None: the ordinary way."""
        if not self.watch.holds():
            return _anew(self.cell(), state, x)
        if _elsewhere():
            return None
        given = [*pytree.tree_leaves(state), *pytree.tree_leaves(x)]
        rows = given[0].shape[0] if given and isinstance(given[0], Tensor) and given[0].dim() else 0
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
        given = _distinct([tensor.contiguous() for tensor in given], self.homes)
        form = self.forms.get(rows)
        if form is None or not form.check(*given, *self.homes):
            if len(self.forms) >= FORMS:
                self.forms.clear()
            form = self.forms[rows] = self._form(given, form.frames if form else [])
        self.step = form.step
        return form.step(*pytree.tree_unflatten(given, pytree.tree_structure(self.example)))

    def _changed(self, state: Any, x: Any) -> tuple[Any, Tensor] | None:
        """Some table is not what it was: something may have been set to what it had been."""
        self._look()
        return self.step(state, x) if self.watch.holds() else _anew(self.cell(), state, x)

    def _form(self, given: list[Tensor], frames: list[Frame]) -> Form:
        rows, check = len(given[0]), _check((*given, *self.homes))
        names: dict[str, Any] = {f"p{n}": home for n, home in enumerate(self.homes)}
        names |= {"check": check, "other": self._other, "changed": self._changed, "empty": _empty_strided_cpu, "dtype": self.dtype}
        names |= {"frames": frames, "new_frame": partial(self._frame, rows), "native": self.kernel.step, "runs": runs}
        names |= {"pack": struct.Struct(f"{len(self.places)}q").pack_into}
        names |= {"holds": self.watch.holds} if self.watch.changes is None else {}
        names |= {"anew": self._made_anew} if self.anew else {}
        made, (state, x) = [(rows, *shape) for shape in self.made], self.example
        return Form(check, frames, step_function(names, state, x, len(self.homes), made, self.places, self.after, self.output))

    def _made_anew(self) -> list[Tensor]:
        known = dict(self.parameters)
        evaluate(self.anew, known, self.like, 1)
        return [self._laid(v, known[v]) for v in self.anew]

    def _frame(self, rows: int) -> Frame:
        scratch = self.like.new_empty(max(1, rows * self.kernel.schedule.scratch + self.kernel.beside))
        starts, counts, nodes = torch.tensor([0]), torch.tensor([rows]), torch.arange(rows)
        of = {"fronts": 1, "high": 1, "most": rows, "scratch_size": scratch.numel(), "slices": 1}
        of |= {"starts": starts.data_ptr(), "counts": counts.data_ptr(), "list": nodes.data_ptr(), "scratch": scratch.data_ptr()}
        of |= {"watch": ctypes.addressof(self.changes), "watched": len(self.changes) // 2}
        table = (ctypes.c_int64 * len(self.kernel.arguments))(*(of.get(key, 0) for key in self.kernel.arguments))
        for at, step in self.steps.items():
            table[at] = step
        return Frame(table, ctypes.addressof(table), (scratch, starts, counts, nodes))


def _check(tensors: tuple[Tensor, ...]) -> Callable[..., bool]:
    """Whether other tensors are like these in all that matters to native code, at once: their type, dtype, device, sizes and strides, and
    which modes and transforms are on that change what an operation means. It is the check that torch.compile makes before each call."""
    sizes: Any = [list(tensor.shape) for tensor in tensors]
    strides: Any = [list(tensor.stride()) for tensor in tensors]
    check: Callable[..., bool] = TensorGuards(*tensors, dynamic_dims_sizes=sizes, dynamic_dims_strides=strides).check
    return check


def _distinct(given: list[Tensor], others: tuple[Tensor, ...]) -> list[Tensor]:
    """The same, none of them twice nor one of the others: the check counts on that."""
    seen, found = {id(other) for other in others}, []
    for tensor in given:
        found.append(tensor.detach() if id(tensor) in seen else tensor)
        seen.add(id(tensor))
    return found


def _lie(tensor: Tensor) -> tuple[Any, ...]:
    """How a tensor lies in memory, but for where."""
    return tensor.shape, tensor.stride(), tensor.dtype, tensor.device


def _shares(tensor: Tensor, home: Tensor) -> bool:
    return tensor.untyped_storage().data_ptr() == home.untyped_storage().data_ptr() and tensor.dtype is home.dtype
