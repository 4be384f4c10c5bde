"""Which backend runs a cell: its step is recorded, tested, planned, and the plan kept.

Nothing falls back in silence: the reason is kept (`explain`), counted (`fallbacks`) and warned of once a cell's class and reason.
"""

from __future__ import annotations

import threading
import warnings
import weakref
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from wavefront.cell import Cell, leaves_of, named
from wavefront.engine.execute import Planned, execute
from wavefront.engine.graph import ELEMENTWISE, Graph, Unsupported, Value, order
from wavefront.engine.plan import Plan, make_plan
from wavefront.engine.products import lowered
from wavefront.engine.specimen import counts, fetch, specimen, tensors_of
from wavefront.engine.trace import record
from wavefront.engine.verify import verify
from wavefront.engine.watch import MODULE, Watch, frozen
from wavefront.errors import BackendError

__all__ = ["choose", "fallbacks", "plan_of", "runs"]

fallbacks: Counter[str] = Counter()  # how often "auto" went to the reference, by reason
runs: Counter[str] = Counter()  # how often each backend ran

FEW = 2  # fronts: for one alone, a call of the compiled loop costs about what the step itself does

# programs of steps seen lately, some 100 kB of code each; what a living cell or a backward pass still needs, these hold themselves
KEPT = 256
FORMS = 16  # plans of one cell: it may change its mode, its dtype, its attributes

BY = {"compiled": "compiled", "torch": "as a plan in torch"}
SLOW = ("under autocast", "tensors on", "dtypes", "a tensor of type")  # reasons in a call that a user may not know of: warned of once

_plans: weakref.WeakKeyDictionary[Cell, OrderedDict[Any, Planned | str]] = weakref.WeakKeyDictionary()
_storing: weakref.WeakKeyDictionary[Cell, str] = weakref.WeakKeyDictionary()  # cells whose step changes them: another cell at every call
_compiled: OrderedDict[Any, Compiled] = OrderedDict()  # by what the step does, so that equal cells share it
_watched: dict[int, Watched] = {}  # by the cell's id
_lock = threading.RLock()


class Compiled(NamedTuple):
    """A plan and its programs, by (which gradients, double precision); or why there are none."""

    plan: Plan
    programs: dict[Any, Any]
    reason: str | None


def choose(problem: Any, backend: str, reference: Callable[[Any], Any], precision: str | None = None) -> Any:
    """Run the problem with the backend that was asked for; "auto" is the fastest that can. -> outputs, final states."""
    if precision not in (None, "float32", "bf16"):
        raise BackendError(f'precision is "float32", "bf16", or None for what torch.autocast says; got {precision!r}.')
    if precision is not None or _bf16_autocast():
        low = precision != "float32"
        with torch.autocast("cpu", torch.bfloat16, enabled=low and backend == "reference"), lowered(low):
            return _choose(_as_parameters(problem), backend, reference)
    return _choose(problem, backend, reference)


def _bf16_autocast() -> bool:
    return torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") is torch.bfloat16


def _as_parameters(problem: Any) -> Any:
    """What came in bfloat16 from layers under autocast, in the dtype of the cell's own state."""
    dtype = next((leaf.dtype for leaf in pytree.tree_leaves(problem.first)), torch.float32)

    def convert(tree: Any) -> Any:
        return pytree.tree_map(lambda t: t.to(dtype) if isinstance(t, Tensor) and t.dtype is torch.bfloat16 else t, tree)

    changed = {name: convert(getattr(problem, name)) for name in ("inputs", "given", "context", "draws")}
    return problem._replace(**changed)


def _choose(problem: Any, backend: str, reference: Callable[[Any], Any]) -> Any:
    if backend == "reference":
        return reference(problem)
    if backend not in ("auto", "compiled", "torch"):
        raise BackendError(f'backend is "auto", "reference", "torch" or "compiled", got {backend!r}.')
    few = backend == "auto" and 0 < len(problem.structure.sizes) < FEW
    reason = f"fewer than {FEW} fronts" if few else _passing(problem)
    planned = plan_of(problem) if reason is None else reason
    if isinstance(planned, Planned):
        reason = planned.reason
        if reason is None and backend != "torch":
            runs["compiled"] += 1
            return execute(problem, planned, "compiled")
        if backend != "compiled":
            if reason is not None:
                fallbacks[reason] += 1
            runs["torch"] += 1
            return execute(problem, planned, "torch")
    else:
        reason = planned
    if backend != "auto":
        raise BackendError(f"{named(problem.cell)} cannot run {BY[backend]}: {reason}. backend='auto' runs it as fast as it can be.")
    assert reason is not None
    if reason.startswith(SLOW) and reason not in fallbacks:
        warnings.warn(f"{named(problem.cell)} runs in the reference loop, slowly: {reason}.", stacklevel=5)
    fallbacks[reason] += 1
    runs["reference"] += 1
    return reference(problem)


def _passing(problem: Any) -> str | None:
    """A reason that lies in this call, not in the cell."""
    trees = (problem.inputs, problem.first, *problem.given, problem.context)
    leaves = [t for tree in trees for t in leaves_of(tree) if isinstance(t, Tensor)]
    if problem.structure.nodes == 0:
        return "there is nothing to unfold over"
    if not leaves_of(problem.first):
        return "a cell without a state"
    if torch.compiler.is_compiling() or torch.jit.is_tracing():
        return "inside torch.compile or torch.jit.trace"
    if torch._C._functorch.peek_interpreter_stack() is not None:
        return "inside a transform of torch.func"
    if torch.autograd.forward_ad._current_level >= 0:
        return "inside forward-mode differentiation"
    if torch.is_autocast_enabled("cpu"):
        return "under autocast"
    if torch._C._len_torch_dispatch_stack() or torch._C._len_torch_function_stack():
        return "under a mode that watches torch's operations"
    for leaf in leaves:
        if type(leaf) not in (Tensor, torch.nn.Parameter):
            return f"a tensor of type {type(leaf).__name__}"
        if leaf.device != leaves[0].device:
            return f"tensors on {leaf.device} and {leaves[0].device}"
    dtypes = {leaf.dtype for leaf in leaves if leaf.dtype is not torch.bool}
    if len(dtypes) != 1 or not dtypes <= {torch.float32, torch.float64}:
        return f"dtypes {', '.join(sorted(map(str, dtypes)))}: float32 or float64 throughout is compiled"
    return None


def _fingerprint(cell: Cell) -> Any:
    """What a step may depend on beside its tensors: the plain attributes of all modules in it."""
    found: list[Any] = []
    for module in cell.modules():
        kind: list[Any] = [type(module), module.training, *module._modules]
        for name, value in module.__dict__.items():
            if name not in MODULE:
                kind.append((name, frozen(value)))
        kind += [(name, None if p is None else (p.shape, p.dtype)) for name, p in (*module._parameters.items(), *module._buffers.items())]
        if module._forward_hooks or module._forward_pre_hooks:
            kind.append("hooks")
        found.append(tuple(kind))
    return tuple(found)


def plan_of(problem: Any) -> Planned | str:
    """The cell's plan, or why there is none."""
    cell = problem.cell
    if cell in _storing:
        return _storing[cell]
    like = leaves_of(problem.first)[0]
    sort = (problem.context is not None, problem.draws is not None, like.dtype, like.device.type)
    watched = _watched.get(id(cell))
    if watched is not None and watched.sort == sort and watched.holds(cell):
        return watched.planned
    key = (_fingerprint(cell), *sort)
    with _lock:
        mine = _plans.setdefault(cell.__dict__.get("form", cell), OrderedDict())  # copies of one form, made for each call, share its plans
        if key not in mine:
            mine[key] = _try(problem, key)
        found = _recent(mine, key, FORMS)
    if "form" not in cell.__dict__:
        _watched[id(cell)] = Watched(cell, sort, found)
    return found


class Watched:
    """The plan that a cell had when it was last looked at, for as long as it is as it was."""

    def __init__(self, cell: Cell, sort: Any, planned: Planned | str):
        number = id(cell)
        self.cell = weakref.ref(cell, lambda _: _watched.pop(number, None))
        self.watch, self.sort, self.planned = Watch(cell), sort, planned
        self.tensors = [t for m in cell.modules() for t in (*m._parameters.values(), *m._buffers.values()) if t is not None]
        self.forms = [(t.shape, t.dtype) for t in self.tensors]

    def holds(self, cell: Cell) -> bool:
        return self.cell() is cell and self.watch.holds() and [(t.shape, t.dtype) for t in self.tensors] == self.forms


def _recent(kept: OrderedDict[Any, Any], key: Any, most: int) -> Any:
    """The value of a key, now the newest; the oldest goes when there are too many."""
    kept.move_to_end(key)
    while len(kept) > most:
        kept.popitem(last=False)
    return kept[key]


def _try(problem: Any, key: Any) -> Planned | str:
    cell = problem.cell
    try:
        with torch.inference_mode(False):
            planned = _plan(problem, key)
        if planned.reason is not None and leaves_of(problem.first)[0].device.type == "cpu":
            warnings.warn(f"{named(cell)} is planned, but run by torch, slowly: {planned.reason}.", stacklevel=5)
        return planned
    except Unsupported as refusal:
        reason = str(refusal)
    except Exception as error:  # a step may do anything on the rows it is shown; its own error appears in the reference loop
        reason = f"its step could not be traced ({type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''})"
    warnings.warn(f"{named(cell)} runs in the reference loop, slowly: {reason}.", stacklevel=5)
    return reason


def _plan(problem: Any, key: Any) -> Planned:
    cell = problem.cell
    if any(m._forward_hooks or m._forward_pre_hooks for m in cell.modules()):
        raise Unsupported("hooks on its modules")
    parameters = tensors_of(cell)
    rows, edges = counts(problem)
    names, prepared, sequence, step, leaves = specimen(problem, rows, edges)
    for label, path, name in parameters:
        names[label] = fetch(cell, path, name)
        prepared.append(label)
    graph = Graph()
    held: list[Tensor] = []
    attributes = _attributes(cell)
    free = edges if cell.slots == "any" else None
    ways = [_recorded(problem, lambda p=phase: step(p), names, prepared, rows, free, graph, held) for phase in range(cell.phases)]
    if _attributes(cell) != attributes:  # something kept at its first use is no harm: what is set again in every step is
        attributes = _attributes(cell)
        specimen(problem, rows, edges)[3]()
        changed = sorted(name for name, value in _attributes(cell).items() if attributes.get(name, ()) != value)
        if changed:
            _storing[cell] = (
                f"its step sets {', '.join('self.' + name for name in changed)}; a step stores nothing: return it as state or output"
            )
            raise Unsupported(_storing[cell])
    distinct = list(dict.fromkeys(ways))
    phases = [distinct.index(way) for way in ways]
    *after, output = distinct[0] if len(distinct) == 1 else _by_phase(graph, distinct)
    [*after, output], fronted = _by_front(graph, [*after, output])
    inputs = {v.attr: v for v in graph.values if v.kind == "input"}
    before = [[inputs[("state", slot, n)] for n in range(leaves)] for slot in range(1 if cell.slots == "any" else cell.slots)]
    known = (key, _text([*after, output]), tuple(phases))
    if known not in _compiled:
        once = [inputs[k] for k in sequence if k in inputs]

        def checked(native: bool) -> Plan:
            for number in range(len(distinct)):
                with lowered(False):  # equal to rounding of the parameters' own precision
                    verify(problem, graph, after, output, parameters, held, fronted, phases.index(number), number, native)
            return make_plan(graph, before, after, output, once, native)

        try:
            plan = checked(native=True)
            _compiled[known] = Compiled(plan, _programs(plan, pytree.tree_leaves(problem.first)[0]), None)
        except Unsupported as refusal:
            _compiled[known] = Compiled(checked(native=False), {}, str(refusal))
    shared: Compiled = _recent(_compiled, known, KEPT)
    return Planned(shared.plan, shared.programs, shared.reason, parameters, held, phases, fronted)


def _programs(plan: Plan, like: Tensor) -> dict[Any, Any]:
    """The forward loops: what cannot be scheduled is known now."""
    from wavefront.engine.backends.compiled.program import Program

    if like.device.type != "cpu":
        raise Unsupported(f"tensors on {like.device.type}")
    double = like.dtype is torch.float64
    programs = {(k, None, double): Program(stage, None, double) for k, stage in enumerate(plan.stages)}
    for program in programs.values():
        program.check()
    return programs


def _attributes(cell: Cell) -> dict[str, Hashable]:
    return {
        f"{path}.{name}".lstrip("."): frozen(value)
        for path, module in cell.named_modules()
        for name, value in module.__dict__.items()
        if name not in MODULE
    }


def _recorded(
    problem: Any, step: Any, names: Any, prepared: Any, rows: int, edges: int | None, graph: Graph, held: list[Tensor]
) -> tuple[Value, ...]:
    """The parts of the next state, and the output."""
    after, output = record(step, names, prepared, rows, graph, held, edges)
    if pytree.tree_structure(after) != pytree.tree_structure(problem.first):
        raise Unsupported("its next state has another form than the one it declares")
    after = pytree.tree_leaves(after)
    if not all(isinstance(v, Value) and v.rows for v in [*after, output]):
        raise Unsupported("its next state or its output does not depend on anything that has rows")
    shapes = [tuple(t.shape[1:]) for t in pytree.tree_leaves(problem.first)]
    if [v.shape for v in after] != shapes or output.shape != (problem.cell.outputs,):
        raise Unsupported("its next state or its output has another size than the one it declares")
    return (*(graph.op("number", v) for v in after), output)


def _by_phase(graph: Graph, ways: list[tuple[Value, ...]]) -> list[Value]:
    """One step for all phases: what they do alike is there once, what they do not is chosen by the number of the way that a node's front goes."""
    number = graph.input(("phase", 0), (1,))
    chosen = []
    for among in zip(*ways):
        value = among[0]
        for k, other in enumerate(among[1:], 1):
            if other is not value:
                here = graph.reshape(graph.op("eq", number, float(k)), (1,) * len(other.shape))
                value = graph.op("where", here, other, value)
        chosen.append(value)
    return chosen


def _by_front(graph: Graph, results: list[Value]) -> tuple[list[Value], dict[Hashable, Value]]:
    """What has no rows and is drawn anew for each front comes to what has rows as an input by node, the same for all nodes of a front."""
    new: dict[Value, Value] = {}
    varying: set[Value] = set()
    fronted: dict[Hashable, Value] = {}

    def at_nodes(v: Value, a: Value) -> Value:
        if v.kind not in (*ELEMENTWISE, "expand"):
            raise Unsupported("weights that are drawn anew at each step")
        fronted["front", a.number] = a
        here = graph.input(("front", a.number), a.shape)
        here = graph.reshape(here, (1,) * (len(v.shape) - len(a.shape)) + a.shape) if v.kind in ELEMENTWISE else here
        return graph.spread(here) if v.edges else here

    for v in order(results):
        if (v.kind == "input" and v.attr[0] == "front draw") or (not v.rows and any(a in varying for a in v.args)):
            varying.add(v)
        args = tuple(at_nodes(v, a) if v.rows and a in varying else new[a] for a in v.args)
        if args == v.args:
            new[v] = v
        else:
            new[v] = graph.expand(args[0], v.shape, rows=True) if v.kind == "expand" else graph.remake(v, args)
    return [new[v] for v in results], fronted


def _text(values: list[Value]) -> str:
    """A graph in words, the same for equal graphs."""
    number = {v: n for n, v in enumerate(order(values))}
    lines = [(v.kind, [number[a] for a in v.args], repr(v.attr), v.shape, v.rows) for v in number]
    return repr((lines, [number[v] for v in values]))
