"""The engine's language: a graph of basic operations on values, each of which has rows (one for every node) or is prepared (made of
parameters alone).

A value with rows is a vector, matrix or number per node; its `shape` leaves the rows out. Where nodes have any number of predecessors, what a
step does with each of them has a row for each edge instead. Equal operations on equal values are one value. The kinds:

    input              what comes from outside, by name              const     a number
    elementwise        `UNARY`, `BINARY`, `where`, broadcasting as torch does
    mm                 [..., K] @ [K, M], a row times a prepared matrix
    matmul             a product of two values with rows, [..., n, k] @ [..., k, m]
    gather             aᵢₖ = v[sᵢₖ], a vector with rows at prepared places s [M, k]
    sparse             oᵢ = Σₖ wᵢₖ v[sᵢₖ], a row times a prepared sparse matrix held by its nonzeros w, s [M, k]; or times its transpose
    reshape permute expand narrow cat                                views and joins of the dimensions behind the rows
    sum amax           over the last dimension, which goes
    spread             a node's value at each of its edges
    collect            the sum of a node's edges, zero where there is none
    stop               the same value, but no gradient passes; or, with a limit, one that is clipped to it
    torch              any operation of torch on prepared values, as it is
    call               any operation of torch on values with rows, as it is: what this language has no word for. It is run by torch alone
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from wavefront.clipping import clip_gradient
from wavefront.engine.products import product

__all__ = [
    "BINARY",
    "COMPARE",
    "OWNER",
    "PRODUCTS",
    "UNARY",
    "Call",
    "Graph",
    "Recipe",
    "Rows",
    "Unsupported",
    "Value",
    "evaluate",
    "needed",
    "order",
]

UNARY: dict[str, Callable[..., Tensor]] = {
    "abs": torch.abs,
    "ceil": torch.ceil,
    "exp": torch.exp,
    "expm1": torch.expm1,
    "floor": torch.floor,
    "log": torch.log,
    "log1p": torch.log1p,
    "neg": torch.neg,
    "not": torch.logical_not,
    "number": lambda a: a,  # true is 1, false 0; `evaluate` knows the dtype
    "reciprocal": torch.reciprocal,
    "round": torch.round,
    "rsqrt": torch.rsqrt,
    "sigmoid": torch.sigmoid,
    "sign": torch.sign,
    "sqrt": torch.sqrt,
    "tanh": torch.tanh,
    "trunc": torch.trunc,
}
COMPARE: dict[str, Callable[..., Tensor]] = {
    "eq": torch.eq,
    "ge": torch.ge,
    "gt": torch.gt,
    "le": torch.le,
    "lt": torch.lt,
    "ne": torch.ne,
}
BINARY: dict[str, Callable[..., Tensor]] = {
    **COMPARE,
    "add": torch.add,
    "and": torch.logical_and,
    "div": torch.div,
    "max": torch.maximum,
    "min": torch.minimum,
    "mul": torch.mul,
    "or": torch.logical_or,
    "sub": torch.sub,
}
ELEMENTWISE = {*UNARY, *BINARY, "where"}
PRODUCTS = {"mm", "sparse"}  # of a row with a prepared matrix
LOGICAL = {*COMPARE, "and", "or", "not"}


class Unsupported(Exception):
    """The step does something that this language has no word for; the text is the reason that `explain` gives."""


class Value:
    """One operation's result. Compared by identity: the graph makes equal ones the same."""

    __slots__ = ("args", "attr", "edges", "kind", "number", "rows", "shape")
    edges: bool  # whether its rows are edges

    def __init__(self, kind: str, args: tuple[Value, ...], attr: Any, shape: tuple[int, ...], rows: bool, number: int, edges: bool = False):
        self.kind, self.args, self.attr, self.shape, self.rows, self.number = kind, args, attr, shape, rows, number
        self.edges = edges or kind == "spread" or (kind != "collect" and any(a.edges for a in args))

    @property
    def logical(self) -> bool:
        if self.kind in LOGICAL:
            return True
        return self.kind in ("reshape", "permute", "expand", "narrow", "cat", "stop", "spread") and self.args[0].logical

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def __repr__(self) -> str:
        inner = ", ".join(f"%{a.number}" for a in self.args)
        detail = "" if self.attr is None or self.kind == "torch" else f" {self.attr}"
        name = self.attr[0].__name__ if self.kind == "torch" else self.kind
        return (
            f"%{self.number} = {name}({inner}){detail} {list(self.shape)}{' per edge' if self.edges else ' per row' if self.rows else ''}"
        )


OWNER = Value("input", (), "owner", (), True, -1, edges=True)  # the node of each edge: what `spread` and `collect` go by


class Graph:
    """Makes values; simplifies where that is exact."""

    def __init__(self) -> None:
        self.values: list[Value] = []
        self._known: dict[Hashable, Value] = {}

    def new(self, kind: str, args: Iterable[Value], attr: Any, shape: Iterable[int], rows: bool, key: Hashable = None) -> Value:
        args, shape = tuple(args), tuple(shape)
        if kind not in ("spread", "collect", "fold") and any(a.edges for a in args) and all(a.kind == "spread" for a in args if a.rows):
            # the same for all edges of a node: once for the node
            return self.spread(self.new(kind, [a.args[0] if a.rows else a for a in args], attr, shape, rows, key))
        known = (kind, args, attr if key is None else key, shape)
        if known not in self._known:
            self._known[known] = Value(kind, args, attr, shape, rows, len(self.values))
            self.values.append(self._known[known])
        return self._known[known]

    def input(self, name: Hashable, shape: Iterable[int], rows: bool = True, edges: bool = False) -> Value:
        made = self.new("input", (), name, shape, rows)
        made.edges = edges
        return made

    def const(self, number: float) -> Value:
        return self.new("const", (), float(number), (), False, key=float(number).hex())

    def fill(self, number: float, shape: tuple[int, ...], edges: bool = False) -> Value:
        filled = self.expand(self.const(number), shape, rows=True)
        return self.spread(filled) if edges else filled

    def spread(self, a: Value) -> Value:
        return self.new("spread", (a,), None, a.shape, True)

    def collect(self, a: Value) -> Value:
        return self.new("collect", (a,), None, a.shape, True)

    def op(self, kind: str, *args: Value | float) -> Value:
        """An elementwise operation; broadcasts."""
        values = [a if isinstance(a, Value) else self.const(a) for a in args]
        rows = any(v.rows for v in values)
        if rows:
            rank = {len(v.shape) for v in values if v.rows}
            values = [self._squeezed(v, max(rank)) for v in values]
            if len(rank) > 1 or any(len(v.shape) > max(rank) for v in values):
                raise Unsupported(f"{kind} of rows of different ranks, {[list(v.shape) for v in values]}")
        shape = np.broadcast_shapes(*(v.shape for v in values))  # torch's own loads SymPy: 50 MB, half a second
        a = values[0]
        if kind in ("add", "sub", "mul", "div") and len(values) == 2:
            b = values[1]
            neutral = 0.0 if kind in ("add", "sub") else 1.0
            if is_const(b, neutral) and a.shape == shape:
                return a
            if kind in ("add", "mul") and is_const(a, neutral) and b.shape == shape:
                return b
            if a.kind == b.kind == "const":
                return self.const(float(BINARY[kind](torch.tensor(a.attr, dtype=torch.float64), torch.tensor(b.attr, dtype=torch.float64))))
        if kind == "neg" and a.kind == "neg":
            return a.args[0]
        if kind == "neg" and a.kind == "const":
            return self.const(-a.attr)
        if kind == "number" and not a.logical:
            return a
        if kind == "ne" and a.logical and is_const(values[1], 0.0):
            return a
        return self.new(kind, values, None, shape, rows)

    def _squeezed(self, v: Value, rank: int) -> Value:
        """A prepared value whose leading 1 stood for the rows, without it."""
        if not v.rows and len(v.shape) == rank + 1 and v.shape[0] == 1:
            return self.reshape(v, v.shape[1:])
        return v

    def mm(self, a: Value, w: Value) -> Value:
        return self.new("mm", (a, w), None, (*a.shape[:-1], w.shape[1]), a.rows)

    def matmul(self, a: Value, b: Value) -> Value:
        return self.new("matmul", (a, b), None, (*a.shape[:-1], b.shape[-1]), True)

    def reshape(self, a: Value, shape: Iterable[int]) -> Value:
        shape = tuple(shape)
        if a.kind == "reshape":
            a = a.args[0]
        return a if a.shape == shape else self.new("reshape", (a,), None, shape, a.rows)

    def permute(self, a: Value, dims: Iterable[int]) -> Value:
        dims = tuple(dims)
        if dims == tuple(range(len(dims))):
            return a
        return self.new("permute", (a,), dims, (a.shape[d] for d in dims), a.rows)

    def expand(self, a: Value, shape: Iterable[int], rows: bool = False) -> Value:
        shape = tuple(shape)
        if a.shape == shape and (a.rows or not rows):
            return a
        return self.new("expand", (a,), "rows" if rows or a.rows else None, shape, a.rows or rows)

    def narrow(self, a: Value, dim: int, start: int, length: int) -> Value:
        if start == 0 and length == a.shape[dim]:
            return a
        if a.kind == "narrow" and a.attr[0] == dim:
            return self.narrow(a.args[0], dim, a.attr[1] + start, length)
        if a.kind == "cat" and a.attr == dim:
            at = 0
            for part in a.args:
                if at <= start and start + length <= at + part.shape[dim]:
                    return self.narrow(part, dim, start - at, length)
                at += part.shape[dim]
        return self.new("narrow", (a,), (dim, start), (length if d == dim else n for d, n in enumerate(a.shape)), a.rows)

    def cat(self, parts: Iterable[Value], dim: int) -> Value:
        parts = [p for p in parts if p.shape[dim]] or list(parts)[:1]
        if len(parts) == 1:
            return parts[0]
        shape = [sum(p.shape[d] for p in parts) if d == dim else n for d, n in enumerate(parts[0].shape)]
        return self.new("cat", parts, dim, shape, any(p.rows for p in parts))

    def gather(self, a: Value, sources: Value) -> Value:
        return self.new("gather", (a, sources), None, sources.shape, True)

    def sparse(self, a: Value, w: Value, sources: Value, transposed: int | None = None) -> Value:
        """transposed: the size of the result."""
        return self.new("sparse", (a, w, sources), transposed, (w.shape[0] if transposed is None else transposed,), True)

    def sum(self, a: Value) -> Value:
        if a.kind == "mul":
            for v, w in (a.args, a.args[::-1]):
                if v.kind == "gather" and not w.rows and w.shape == v.shape == a.shape:
                    return self.sparse(v.args[0], w, v.args[1])
        return self.new("sum", (a,), None, a.shape[:-1], a.rows)

    def amax(self, a: Value) -> Value:
        return self.new("amax", (a,), None, a.shape[:-1], a.rows)

    def stop(self, a: Value) -> Value:
        known = a.kind == "const" or (a.kind == "stop" and a.attr is None)
        return a if known else self.new("stop", (a,), None, a.shape, a.rows)

    def clip(self, a: Value, limit: float) -> Value:
        return self.new("stop", (a,), limit, a.shape, a.rows)

    def torch(self, target: Callable, args: Any, values: Iterable[Value], index: int | None, shape: Iterable[int]) -> Value:
        """An operation of torch on prepared values: `args` is (args, kwargs) with a `Slot` for each of the values."""
        return self.new("torch", values, (target, args, index), shape, False, key=(target, repr(args), index))

    def call(self, call: Call, values: Iterable[Value], shape: Iterable[int]) -> Value:
        """An operation of torch on values with rows."""
        return self.new("call", values, call, shape, True, key=(call.target, repr(call.arguments), call.number))

    def remake(self, v: Value, args: tuple[Value, ...]) -> Value:
        """The same operation on other arguments of the same shapes."""
        if args == v.args:
            return v
        if v.kind in ELEMENTWISE:
            return self.op(v.kind, *args)
        if v.kind == "narrow":
            return self.narrow(args[0], v.attr[0], v.attr[1], v.shape[v.attr[0]])
        if v.kind == "call":
            return self.call(v.attr, args, v.shape)
        return self.new(v.kind, args, v.attr, v.shape, v.rows, key=(v.attr[0], repr(v.attr[1]), v.attr[2]) if v.kind == "torch" else None)


class Slot:
    """Stands in the arguments of a torch operation for one of its values."""

    def __init__(self, number: int):
        self.number = number

    def __repr__(self) -> str:
        return f"%{self.number}"


class Rows:
    """Stands in the arguments of a torch operation for so many times the number of rows."""

    def __init__(self, times: int):
        self.times = times

    def __repr__(self) -> str:
        return f"{self.times} N"


class Call(NamedTuple):
    """An operation of torch: `arguments` is (args, kwargs) with a `Slot` for each value and `Rows` for each number of rows."""

    target: Callable[..., Any]
    arguments: Any
    number: int | None  # of the result, where there are several
    folded: int  # to torch the rows and so many of a dimension behind them are one dimension; 1: the rows alone
    reason: str  # why it is not said in this language


def is_const(v: Value, number: float) -> bool:
    return v.kind == "const" and v.attr == number


def needed(values: Iterable[Value], known: Iterable[Value] = (), rows_only: bool = False) -> list[Value]:
    """What has to be computed for the values, in order, once the known ones are there; `rows_only`: nothing that a prepared value is made of."""
    seen: dict[Value, None] = dict.fromkeys(known)
    before = len(seen)
    todo = [(v, False) for v in values][::-1]
    while todo:
        v, done = todo.pop()
        if done:
            seen.setdefault(v)
        elif v not in seen:
            todo.append((v, True))
            if v.rows or not rows_only:
                todo += [(a, False) for a in reversed(v.args) if a not in seen]
    return list(seen)[before:]


def order(values: Iterable[Value]) -> list[Value]:
    """The values and all that they are computed from, each after its arguments."""
    return needed(values)


def evaluate(values: Iterable[Value], env: dict[Value, Tensor], like: Tensor, rows: int) -> list[Tensor]:
    """The values in torch operations, all rows at once; `env` knows the inputs and remembers the rest. Differentiable by autograd."""
    return Recipe(values, env).run(env, like, rows)


class Recipe:
    """What has to be computed for some values once others are known: found out once, run as often as one likes."""

    def __init__(self, values: Iterable[Value], known: Iterable[Value]):
        self.values = list(values)
        todo = needed(self.values, known)
        uses: dict[Value, int] = {}
        for v in todo:
            for a in v.args:
                uses[a] = uses.get(a, 0) + 1
        for v in self.values:
            uses[v] = uses.get(v, 0) + 1
        # a product that is used once may be taken along by an addition: addmm
        self.todo = [v for v in todo if not (v.kind == "mm" and uses[v] == 1 and v.rows)]

    def run(self, env: dict[Value, Tensor], like: Tensor, rows: int) -> list[Tensor]:
        """As `evaluate`."""
        for v in self.todo:
            env[v] = _apply(v, env, like, rows)
        return [_get(v, env, like, rows) for v in self.values]


def dense(w: Tensor, sources: Tensor, columns: int) -> Tensor:
    """The matrix [M, columns] whose nonzeros in row i are w[i], at sources[i]."""
    rows = torch.arange(len(w), device=w.device)[:, None].expand_as(sources)
    return w.new_zeros(len(w), columns).index_put((rows, sources), w, accumulate=True)


def _filled(given: Any, args: list[Any], rows: int) -> Any:
    """What an operation of torch was given, with what stands there now in the slots."""
    kind = type(given)
    if kind is Slot:
        return args[given.number]
    if kind is Rows:
        return given.times * rows
    if kind in (list, tuple):
        return kind(_filled(part, args, rows) for part in given)
    if kind is dict:
        return {name: _filled(part, args, rows) for name, part in given.items()}
    return given


def _get(v: Value, env: dict[Value, Tensor], like: Tensor, rows: int) -> Tensor:
    if v not in env:
        env[v] = _apply(v, env, like, rows)
    return env[v]


def _apply(v: Value, env: dict[Value, Tensor], like: Tensor, rows: int) -> Any:
    if v.kind == "collect":
        edges = _get(v.args[0], env, like, rows)
        return edges.new_zeros(rows, *v.shape).index_add(0, env[OWNER], edges)
    if v.kind == "spread":
        return _get(v.args[0], env, like, rows).index_select(0, env[OWNER])
    rows = env[OWNER].shape[0] if v.edges else rows
    lead = (rows,) if v.rows else ()
    if v.kind == "const":
        return like.new_full((), v.attr)
    if v.kind == "add":
        for mm, bias in (v.args, v.args[::-1]):
            if mm.kind == "mm" and mm not in env and not bias.rows and len(mm.shape) == 1 and bias.shape == mm.shape:
                return product(_get(mm.args[0], env, like, rows), env[mm.args[1]], env[bias])
    args = [_get(a, env, like, rows) for a in v.args]
    if v.kind in ELEMENTWISE:
        if v.rows and len(v.shape) > 0:
            args = [x.reshape(rows, *(1,) * (len(v.shape) - len(a.shape)), *a.shape) if a.rows else x for a, x in zip(v.args, args)]
        if v.kind == "where":
            return torch.where(*args)
        if v.kind == "number":
            return args[0].to(like.dtype)
        return UNARY[v.kind](*args) if v.kind in UNARY else BINARY[v.kind](*args)
    a = args[0] if args else like
    shift = 1 if v.rows else 0
    match v.kind:
        case "mm":
            return product(a.reshape(-1, a.shape[-1]), args[1]).reshape(*lead, *v.shape)
        case "matmul":
            return torch.matmul(a, args[1])
        case "gather":
            return a[:, args[1]]
        case "sparse":
            matrix = dense(args[1], args[2], a.shape[1] if v.attr is None else v.attr)
            return product(a, matrix.t() if v.attr is None else matrix)
        case "reshape":
            return a.reshape(*lead, *v.shape)
        case "permute":
            return a.permute(*range(shift), *(d + shift for d in v.attr))
        case "expand":
            if v.rows and v.args[0].rows:
                a = a.reshape(rows, *(1,) * (len(v.shape) - len(v.args[0].shape)), *v.args[0].shape)
            return a.expand(*lead, *v.shape)
        case "narrow":
            return a.narrow(v.attr[0] + shift, v.attr[1], v.shape[v.attr[0]])
        case "cat":
            parts = [x if p.rows or not v.rows else x.expand(rows, *x.shape) for p, x in zip(v.args, args)]
            return torch.cat(parts, v.attr + shift)
        case "sum":
            return a.sum(-1)
        case "amax":
            return a.amax(-1)
        case "stop":
            return a.detach() if v.attr is None else clip_gradient(a, v.attr)
        case "torch" | "call":
            target, arguments, index = v.attr[:3]
            args = [x.flatten(0, 1) if a.kind == "call" and a.attr.folded != 1 else x for a, x in zip(v.args, args)]
            result: Any = target(*_filled(arguments[0], args, rows), **_filled(arguments[1], args, rows))
            result = result if index is None else result[index]
            return result.unflatten(0, (rows, v.attr.folded)) if v.kind == "call" and v.attr.folded != 1 else result
    raise AssertionError(f"no value for {v}")
