"""Which backend runs a cell, and running it: hoisted operations, the compiled loop, deferred operations.

Nothing falls back in silence: the reason is kept (`explain`), counted (`fallbacks`) and warned of once a cell's class and reason.
"""

from __future__ import annotations

import threading
import warnings
import weakref
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Iterable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from wavefront.cell import Cell, Children, Draw, Given, advance, leaves_of, map_draws, named
from wavefront.engine.differentiate import differentiate
from wavefront.engine.graph import ELEMENTWISE, OWNER, Graph, Recipe, Unsupported, Value, evaluate, needed, order
from wavefront.engine.layout import Layout, layout_of
from wavefront.engine.loop import replay
from wavefront.engine.plan import Plan, Reach, make_plan
from wavefront.engine.products import lowered
from wavefront.engine.trace import record
from wavefront.engine.watch import MODULE, Watch, frozen
from wavefront.errors import BackendError

__all__ = ["choose", "fallbacks", "plan_of", "runs"]

fallbacks: Counter[str] = Counter()  # how often "auto" went to the reference, by reason
runs: Counter[str] = Counter()  # how often each backend ran

FEW = 2  # fronts: for one alone, a call of the compiled loop costs about what the step itself does

KEPT = (
    256  # programs of steps seen lately, some 100 kB of code each; what a living cell or a backward pass still needs, these hold themselves
)
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


class Example(NamedTuple):
    """As much of a problem as planning looks at."""

    cell: Cell
    inputs: Any
    first: Any
    context: Any
    draws: Any


class Planned(NamedTuple):
    """A cell's step, planned, with what is needed to hand it a problem's tensors. It holds no part of the cell, which would never die."""

    plan: Plan
    programs: dict[Any, Any]
    reason: str | None  # why torch has to run it; there are no programs then
    parameters: list[tuple[Any, str, str]]
    held: list[Tensor]
    phases: list[int]  # the way that each phase goes: ways that are equal have one number
    fronted: dict[
        Hashable, Value
    ]  # what has no rows and is drawn anew for each front: by the name of the input that brings it to the nodes


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
            return _run(problem, planned, "compiled")
        if backend != "compiled":
            if reason is not None:
                fallbacks[reason] += 1
            runs["torch"] += 1
            return _run(problem, planned, "torch")
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


def _like_first(problem: Any, leaves: list[Tensor]) -> Any:
    """Leaves in the form that the initial state has."""
    first = problem.first
    if isinstance(first, Tensor):
        return leaves[0]
    if isinstance(first, tuple) and hasattr(first, "_fields") and all(isinstance(part, Tensor) for part in first):
        return type(first)(*leaves)
    return pytree.tree_unflatten(leaves, pytree.tree_structure(first))


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


PRIMES = (61, 67, 71, 73, 79, 83, 89, 97, 101, 103, 107, 109, 113, 127, 131, 137, 139, 149, 151, 157)


def _plan(problem: Any, key: Any) -> Planned:
    cell = problem.cell
    if any(m._forward_hooks or m._forward_pre_hooks for m in cell.modules()):
        raise Unsupported("hooks on its modules")
    parameters = _tensors(cell)
    sizes = {n for _, path, name in parameters for n in fetch(cell, path, name).shape}
    given = pytree.tree_leaves((problem.inputs, problem.first, problem.context))
    sizes |= {n for t in given if isinstance(t, Tensor) for n in t.shape[1:]}
    rows, edges, *_ = [*(p for p in PRIMES if all(n % p for n in sizes if n)), None, None]
    if rows is None or edges is None:
        raise Unsupported("its sizes leave no number of rows to trace with")
    names, prepared, sequence, step, leaves = _specimen(problem, rows, edges)
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
        _specimen(problem, rows, edges)[3]()
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
                    _verify(problem, graph, after, output, parameters, held, fronted, phases.index(number), number, native)
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


def _tensors(cell: Cell) -> list[tuple[Any, str, str]]:
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


def _specimen(problem: Any, rows: int, edges: int) -> tuple[dict[Any, Tensor], list[Any], list[Any], Callable[..., Any], int]:
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


def _verify(
    problem: Any,
    graph: Any,
    after: list[Value],
    output: Value,
    parameters: Any,
    held: list[Tensor],
    fronted: dict[Hashable, Value],
    phase: int,
    way: int,
    native: bool,
) -> None:
    """The recorded step and its derivative have to equal the real ones, on other rows than it was recorded with: a gradient that is not that of the
    operations (a function with a backward of its own, `no_grad` inside the step) is found here. native: the derivative as the graph has it; else
    as torch has it, and rows of operations of torch have to be independent."""
    rows, cell = 3, problem.cell
    names, _, _, step, _ = _specimen(problem, rows, edges=5)
    tensors = {**names, **{key: fetch(cell, path, n) for key, path, n in parameters}, **{("held", k): t for k, t in enumerate(held)}}
    tensors["phase", 0] = pytree.tree_leaves(problem.first)[0].new_full((rows, 1), way)
    for key, t in names.items():
        if t.is_floating_point() and key[0] not in ("draw", "front draw"):
            t.requires_grad_()
    with torch.enable_grad():
        new, out = step(phase)
        real = [*pytree.tree_leaves(new), out]
        if fronted:
            env = {v: tensors[v.attr] for v in order(fronted.values()) if v.kind == "input"}
            tensors |= {key: t.expand(rows, *t.shape) for key, t in zip(fronted, evaluate(fronted.values(), env, out, rows))}
    inputs = {v.attr: v for v in (*graph.values, OWNER) if v.kind == "input" and v.attr in tensors}
    with torch.enable_grad():
        weights = [torch.linspace(0.5, 1.5, t.numel(), dtype=t.dtype).view(t.shape) for t in real]
        loss = torch.stack([(t * w).sum() for t, w in zip(real, weights)]).sum()
    like = real[0].detach()
    with torch.no_grad():
        env = {v: tensors[k] for k, v in inputs.items()}
        found = evaluate([*after, output], env, like, rows)
        _same("its step gives other values", real, found, like.dtype)
        if not native and OWNER.attr not in tensors:
            for part in (slice(0, 2), slice(1, 3)):
                few = {v: t[part] if v.rows else t for v, t in env.items() if v.kind == "input"}
                alone = evaluate([*after, output], few, like, 2)
                _same("the rows of its operations are not independent", [t[part] for t in real], alone, like.dtype)
        asked = [(v, tensors[k]) for k, v in inputs.items() if tensors[k].requires_grad and k not in fronted]
        true = torch.autograd.grad(loss, [t for _, t in asked], allow_unused=True) if asked and loss.requires_grad else [None] * len(asked)
        seeds: dict[Value, Value] = {}
        for n, (v, w) in enumerate(zip([*after, output], weights)):
            seed = graph.input(("seed", n), v.shape)
            env[seed] = w
            seeds[v] = graph.op("add", seeds[v], seed) if v in seeds else seed
        rowless = [v for v in graph.values if not v.rows and v.kind != "const" and any(v in u.args and u.rows for u in graph.values)]
        leaves = [v for v, _ in asked if v.rows] + rowless
        if native:  # gradients of parameters come from the same δ, and are tested as a law
            gradients, _ = differentiate(graph, seeds, leaves)
            rowwise = [(v, t) for v, t in zip((v for v, _ in asked), true) if v.rows]
            mine = [evaluate([gradients[v]], env, like, rows)[0] if v in gradients else None for v, _ in rowwise]
            _same("its gradients are not those of its operations", [t for _, t in rowwise], mine, like.dtype)
    # the parameters' gradients, through autograd over the same operations
    params = [(v, t) for v, t in asked if not (native and v.rows)]
    if params:
        with torch.enable_grad():
            env = {v: tensors[k] for k, v in inputs.items()}
            again_real = evaluate([*after, output], env, like, rows)
            total = torch.stack([(t * w).sum() for t, w in zip(again_real, weights)]).sum()
        again = torch.autograd.grad(total, [t for _, t in params], allow_unused=True) if total.requires_grad else [None] * len(params)
        expected = [t for (v, _), t in zip(asked, true) if not (native and v.rows)]
        _same("its gradients are not those of its operations", expected, again, like.dtype)


def _same(what: str, real: Iterable[Tensor | None], found: Iterable[Tensor | None], dtype: torch.dtype) -> None:
    near = 1e-7 if dtype is torch.float64 else 1e-3  # torch's own may be rounded to float32 on the way, as hardsigmoid's gradient is
    for a, b in zip(real, found):
        if a is None and b is None:
            continue
        if a is None:
            a = torch.zeros_like(b)  # type: ignore[arg-type]
        a, b = a.detach(), torch.zeros_like(a) if b is None else b.detach()
        scale = 1 + float(a.abs().max()) if a.numel() else 1.0
        if a.shape != b.shape or not bool(((a - b).abs() <= near * scale).all()):
            raise Unsupported(f"{what} when it is traced")


def _run(problem: Any, planned: Planned, backend: str) -> Any:
    plan, cell = planned.plan, problem.cell
    layout = layout_of(problem.structure, cell.slots)
    first = leaves_of(problem.first)
    like = first[0]
    tensors = _bind(problem, planned)
    hoisted = Hoisted(plan, layout, tensors, like)
    all_starts = [first, *(leaves_of(part) for part in problem.given)]
    ends: list[list[Any]] = [[None] * len(first) for _ in problem.given]
    for number, stage in enumerate(plan.stages):
        into = hoisted.get(stage.into)
        starts = [[leaves[n] for n in stage.parts] for leaves in all_starts]
        loop = _in_torch if backend == "torch" else _compiled_loop
        exported, found = loop(planned, number, layout, into, starts)
        hoisted.node |= dict(zip(stage.exported, exported))
        for end, part in zip(ends, found):
            for n, leaf in zip(stage.parts, part):
                end[n] = leaf
    (outputs,) = hoisted.get([plan.output])
    return outputs, tuple(_like_first(problem, part) for part in ends)


def _compiled_loop(planned: Planned, number: int, layout: Layout, into: list[Tensor], starts: list[list[Tensor]]) -> Any:
    from wavefront.engine.backends.compiled.program import Program
    from wavefront.engine.backends.compiled.run import carried

    dtype = starts[0][0].dtype
    if any(t.dtype is not dtype for t in into):  # masks and whole numbers are numbers there, the places of a sparse matrix are not
        stage = planned.plan.stages[number]
        places = {v.args[2] for v in stage.carried if v.kind == "sparse"}
        into = [t if v in places else t.to(dtype) for v, t in zip(stage.into, into)]
    everything = [*into, *(leaf for start in starts for leaf in start)]
    needs = tuple(t.requires_grad for t in into) if torch.is_grad_enabled() and any(t.requires_grad for t in everything) else None
    key = (number, needs, dtype is torch.float64)
    with _lock:
        if key not in planned.programs:
            planned.programs[key] = Program(planned.plan.stages[number], needs, key[2])
    return carried(planned.programs[key], layout, into, starts)


def _in_torch(planned: Planned, number: int, layout: Layout, into: list[Tensor], starts: list[list[Tensor]]) -> Any:
    stage = planned.plan.stages[number]
    results = replay(stage, layout, into, [leaf for start in starts for leaf in start])
    count, leaves = len(stage.exported), len(stage.after)
    return results[:count], [results[k : k + leaves] for k in range(count, len(results), leaves)]


def _bind(problem: Any, planned: Planned) -> dict[Any, Tensor]:
    tensors: dict[Any, Tensor] = {key: fetch(problem.cell, path, name) for key, path, name in planned.parameters}
    tensors |= {("held", n): t for n, t in enumerate(planned.held)}
    if len(planned.phases) > 1:
        layout, start = layout_of(problem.structure, problem.cell.slots), problem.structure.start
        way = np.array(planned.phases)[(start + layout.front) % len(planned.phases)]
        tensors["phase", 0] = torch.from_numpy(way).to(pytree.tree_leaves(problem.first)[0])[:, None]
    for kind, tree in (("x", problem.inputs), ("context", problem.context)):
        tensors |= {(kind, n): leaf for n, leaf in enumerate(leaves_of(tree)) if leaf is not None}
    if problem.draws is not None:
        drawn: list[Tensor] = []
        map_draws(lambda draw, value: drawn.append(value), problem.cell.draws(1), problem.draws)
        tensors |= {(kind, n): t for n, t in enumerate(drawn) for kind in ("draw", "front draw")}
    if planned.fronted:
        tensors |= _fronted(planned, tensors, layout_of(problem.structure, problem.cell.slots), pytree.tree_leaves(problem.first)[0])
    return tensors


def _fronted(planned: Planned, tensors: dict[Any, Tensor], layout: Layout, like: Tensor) -> dict[Any, Tensor]:
    """What is drawn anew for each front, by node."""
    inputs = [v for v in order(planned.fronted.values()) if v.kind == "input"]
    recipe = Recipe(planned.fronted.values(), inputs)
    fronts = []
    for n in range(layout.fronts):
        env = {v: tensors[v.attr][n] if v.attr[0] == "front draw" else tensors[v.attr] for v in inputs}
        fronts.append(recipe.run(env, like, 0))
    of = torch.from_numpy(layout.front).to(like.device)
    return {key: torch.stack(found).index_select(0, of) for key, *found in zip(planned.fronted, *fronts)}


class Hoisted:
    """Everything outside the loop: values once per unfolding, once per sequence, and for all nodes at once."""

    def __init__(self, plan: Plan, layout: Layout, tensors: dict[Any, Tensor], like: Tensor):
        self.plan, self.layout, self.like = plan, layout, like
        self.node: dict[Value, Tensor] = {}
        self.sequence: dict[Value, Tensor] = {}
        if layout.owner is not None:
            self.node[OWNER] = layout.index["owner"].to(like.device)
        for v in plan.inputs:
            if v.attr in tensors:
                (self.sequence if plan.reach[v] is Reach.SEQUENCE else self.node)[v] = tensors[v.attr]

    def get(self, values: list[Value]) -> list[Tensor]:
        """Values of the nodes [nodes, ...]; those that are given once per sequence [rows, ...]."""
        plan, layout = self.plan, self.layout
        wanted = tuple(values)
        if wanted not in plan.recipes:
            plan.recipes[wanted] = self._recipes(values)
        prepared, per_sequence, spread, rest = plan.recipes[wanted]
        prepared.run(self.node, self.like, layout.nodes)
        if per_sequence.values:
            env = {**self.node, **self.sequence}
            per_sequence.run(env, self.like, layout.rows)
            self.sequence |= {v: env[v] for v in per_sequence.values}
        for v in spread:
            self.node[v] = self.sequence[v].index_select(0, layout.index["row"].to(self.like.device))
        rest.run(self.node, self.like, layout.nodes)
        return [self.sequence[v] if plan.reach[v] is Reach.SEQUENCE else self.node[v] for v in values]

    def _recipes(self, values: list[Value]) -> tuple[Recipe, Recipe, list[Value], Recipe]:
        plan = self.plan
        known = {**self.node, **self.sequence}
        todo = needed(values, known)
        per_sequence = [v for v in todo if plan.reach[v] is Reach.SEQUENCE]
        prepared = [v for v in todo if plan.reach[v] is Reach.PARAMETERS and not v.rows]
        node, sequence = {*self.node, *prepared}, {*self.sequence, *per_sequence}
        rest = [v for v in values if plan.reach[v] is not Reach.SEQUENCE]
        spread = {
            a: None for v in needed(rest, node) for a in v.args if a in sequence and a not in node and plan.reach[v] is not Reach.SEQUENCE
        }
        return Recipe(prepared, self.node), Recipe(per_sequence, {*known, *prepared}), list(spread), Recipe(rest, {*node, *spread})
