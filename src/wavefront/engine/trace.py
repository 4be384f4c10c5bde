"""A cell's step, recorded as a graph: run once on a few rows, each operation of torch that it makes is noted and translated.

Values that the step looks at (`if h.sum() > 0`), random numbers that it draws itself, and operations that mix rows raise `Unsupported` with the
reason: such a cell runs in the reference loop. What the graph has no word for is noted as it is, with the reason: torch runs it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from wavefront.engine.graph import BINARY, OWNER, UNARY, Call, Graph, Rows, Slot, Unsupported, Value, is_const, order

__all__ = ["record", "spelled"]

aten = torch.ops.aten


def record(
    step: Callable[[], Any],
    named: dict[Any, Tensor],
    prepared: Iterable[Any],
    rows: int,
    graph: Graph,
    held: list[Tensor],
    edges: int | None = None,
) -> Any:
    """Run `step()` and translate it, into the graph. -> the result with a `Value` in the place of each tensor. Tensors that the step uses without
    having been given them are added to `held`: the inputs ("held", 0), ("held", 1), ...

    named     the tensors that the step starts from; the names become those of the graph's inputs
    prepared  the names of those that have no rows (parameters, masks of weights)
    rows      the number of rows of the others: no size in the cell may be equal to it or a multiple of it
    edges     of a step over any number of predecessors: the number of rows of what it is given for each; likewise
    """
    recorder = Recorder(rows, graph, held, edges)
    without = set(prepared)
    for name, tensor in named.items():
        if name == OWNER.attr:
            recorder.know(tensor, OWNER)
            continue
        has_rows = name not in without
        value = recorder.graph.input(name, tensor.shape[1:] if has_rows else tensor.shape, has_rows, has_rows and tensor.shape[0] == edges)
        if has_rows and not tensor.is_floating_point() and tensor.dtype is not torch.bool:
            raise Unsupported(f"an input of {tensor.dtype}")
        recorder.know(tensor, value)
    with torch.enable_grad(), recorder:
        result = step()
    return pytree.tree_map(lambda t: recorder.of(t) if isinstance(t, Tensor) else t, result)


def spelled(graph: Graph, values: Iterable[Value]) -> list[Value]:
    """The same values, with what is made of prepared ones element by element in the graph's own words, and not as operations of torch."""
    values, told = list(values), dict[Value, Value]()
    recorder = Recorder(0, graph, [], None)
    for v in order(values):
        args = tuple(told[a] for a in v.args)
        told[v] = graph.remake(v, args)
        if v.kind == "torch" and torch.Tag.pointwise in v.attr[0].tags and v.attr[2] is None:
            translate = TRANSLATIONS.get(v.attr[0]._schema.name.removeprefix("aten::"))
            arguments, named = pytree.tree_map(lambda a, args=args: args[a.number] if isinstance(a, Slot) else a, v.attr[1])
            try:
                found = None if translate is None else translate(recorder, *arguments, **named)
            except Unsupported:
                continue  # there are no such words: as it was
            if found is not None and found.shape == v.shape:
                told[v] = found
    return [told[v] for v in values]


class Recorder(TorchDispatchMode):
    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # to be skipped, a mode imports torch._dynamo: seconds

    def __init__(self, rows: int, graph: Graph, held: list[Tensor], edges: int | None):
        super().__init__()
        self.rows, self.graph, self.held, self.edges = rows, graph, held, edges
        self.values: dict[int, Value] = {}
        self.storages: dict[int, int] = {}  # how many tensors look at a piece of memory: writing to a shared one cannot be followed
        self.alive: list[Tensor] = []  # an id must not be used twice

    def know(self, tensor: Tensor, value: Value) -> None:
        if tensor.dtype is torch.bool and not value.logical:
            value = self.graph.op("ne", value, 0.0)
        if id(tensor) not in self.values:
            self.alive.append(tensor)
            where = tensor.untyped_storage()._cdata
            self.storages[where] = self.storages.get(where, 0) + 1
        self.values[id(tensor)] = value

    def of(self, tensor: Tensor) -> Value:
        if id(tensor) not in self.values:
            if self._has_rows(tensor):
                raise Unsupported("the step uses a tensor with rows that it was not given")
            # a tensor that the cell holds without having registered it: as it is, without rows
            number = next((n for n, known in enumerate(self.held) if known is tensor), len(self.held))
            self.held += [tensor] if number == len(self.held) else []
            self.know(tensor, self.graph.input(("held", number), tensor.shape, rows=False))
        return self.values[id(tensor)]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func._schema.name.removeprefix("aten::")
        tensors = [t for t in pytree.tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
        values = [self.of(t) for t in tensors]
        if torch.Tag.nondeterministic_seeded in func.tags:
            raise Unsupported(f"{name} draws at random inside the step; declare it in draws(rows)")
        if torch.Tag.data_dependent_output in func.tags:
            raise Unsupported("the step looks at the values of a tensor (an `if` on one, .item(), .tolist())")
        written = func._schema.is_mutable
        if written and self.storages[tensors[0].untyped_storage()._cdata] > 1:
            raise Unsupported(f"{name} writes into a tensor of which there are views")
        result = func(*args, **kwargs)
        if not any(v.rows for v in values) and not self._has_rows(result):
            if written:
                raise Unsupported(f"{name} writes into a tensor without rows")
            self._prepared(func, args, kwargs, result, values)
            return result
        try:
            self._translate(func, name, args, kwargs, result, values, tensors)
        except Unsupported as reason:
            if written or self.edges is not None:
                raise
            self._as_it_is(func, args, kwargs, result, str(reason))
        return result

    def _translate(self, func: Any, name: str, args: Any, kwargs: Any, result: Any, values: list[Value], tensors: list[Tensor]) -> None:
        translate = TRANSLATIONS.get(name.removesuffix("_") if func._schema.is_mutable else name)
        if translate is None:
            raise Unsupported(f"aten.{name} is not an operation that the engine knows")
        for v in values:
            if v.kind == "call" and v.attr.folded != 1:
                raise Unsupported(v.attr.reason)
        given_args, given_kwargs = pytree.tree_map(lambda a: self.of(a) if isinstance(a, Tensor) else a, (list(args), kwargs))
        if OWNER in values and name not in BY_OWNER:
            raise Unsupported(f"aten.{name} of the nodes that edges belong to; a step may sum by them, and spread")
        folded = [v for v in values if v.kind == "fold"]
        if folded and name not in FOLDING:
            raise Unsupported(f"aten.{name} of {[list(t.shape) for t in tensors]}: rows and other dimensions are mixed")
        found = translate(self, *given_args, **given_kwargs)
        for tensor, value in zip(pytree.tree_leaves(result), found if isinstance(found, (list, tuple)) else [found]):
            if value is not None:
                expected = tuple(tensor.shape[1:]) if value.rows else tuple(tensor.shape)
                if value.kind == "fold" and tensor.shape[0] == self.count(value) * value.attr:
                    expected = value.shape
                elif value.rows and tensor.shape[0] != self.count(value):
                    raise Unsupported(f"aten.{name} of {[list(t.shape) for t in tensors]}: nodes and edges are mixed")
                if value.shape != expected:
                    raise Unsupported(f"aten.{name} of {[list(t.shape) for t in tensors]}: rows and other dimensions are mixed")
                self.know(tensor, value)

    def _as_it_is(self, func: Any, args: Any, kwargs: Any, result: Any, reason: str) -> None:
        places: dict[Value, int] = {}

        def stand_in(a: Any) -> Any:
            if isinstance(a, Tensor):
                v = self.of(a)
                if v.kind == "fold":
                    raise Unsupported(reason)
                return Slot(places.setdefault(v, len(places)))
            return Rows(a // self.rows) if type(a) is int and a and a % self.rows == 0 else a

        arguments = pytree.tree_map(stand_in, (list(args), kwargs))
        if func in (aten.view.default, aten._unsafe_view.default):
            func = aten.reshape.default  # what it is of may lie otherwise in memory
        several = isinstance(result, (list, tuple))
        for number, tensor in enumerate(pytree.tree_leaves(result)):
            if isinstance(tensor, Tensor):
                if tensor.dim() == 0 or tensor.shape[0] % self.rows or not tensor.shape[0]:
                    raise Unsupported(reason)
                folded = tensor.shape[0] // self.rows
                call = Call(func, arguments, number if several else None, folded, reason)
                self.know(tensor, self.graph.call(call, places, tensor.shape[1:] if folded == 1 else (folded, *tensor.shape[1:])))

    def _has_rows(self, result: Any) -> bool:
        return any(isinstance(t, Tensor) and t.dim() > 0 and t.shape[0] in (self.rows, self.edges) for t in pytree.tree_leaves(result))

    def count(self, v: Value) -> int:
        """How many rows v has."""
        if not v.edges:
            return self.rows
        assert self.edges is not None
        return self.edges

    def filled(self, number: float, shape: Iterable[int]) -> Value:
        count, *shape = shape
        return self.graph.fill(float(number), tuple(shape), edges=count == self.edges)

    def over(self, v: Value, shape: Iterable[int], count: int) -> Value:
        """A prepared value, broadcast to a shape that is the same for all of so many rows."""
        v = self.graph.expand(v, shape, rows=True)
        return self.graph.spread(v) if count == self.edges else v

    def _prepared(self, func: Any, args: Any, kwargs: Any, result: Any, values: list[Value]) -> None:
        places: dict[Value, int] = {}
        arguments = pytree.tree_map(
            lambda a: Slot(places.setdefault(self.of(a), len(places))) if isinstance(a, Tensor) else a, (list(args), kwargs)
        )
        several = isinstance(result, (list, tuple))
        for number, tensor in enumerate(pytree.tree_leaves(result)):
            if isinstance(tensor, Tensor):
                self.know(tensor, self.graph.torch(func, arguments, places, number if several else None, tensor.shape))

    def dim(self, dim: int, rank: int) -> int:
        """A dimension of a tensor with rows as one of what is behind them."""
        dim = dim % (rank + 1)
        if dim == 0:
            raise Unsupported("an operation over the rows: a step treats each row alone")
        return dim - 1

    def behind(self, shape: Iterable[int], a: Value) -> list[int]:
        shape = list(shape)
        if -1 in shape:
            known = math.prod(n for n in shape if n != -1)
            shape[shape.index(-1)] = self.count(a) * a.size // known if known else 0
        if not shape or shape[0] != self.count(a):
            raise Unsupported(f"a reshape of {list(a.shape)} per row that moves the rows")
        return shape[1:]


TRANSLATIONS: dict[str, Callable[..., Any]] = {}
FOLDING = {
    "view",
    "_unsafe_view",
    "reshape",
    "_reshape_alias",
    "mm",
    "addmm",
    "detach",
}  # what may be done with a matrix per row seen as more rows
BY_OWNER = {"index_add", "index_select", "index"}  # what may be done with the nodes that edges belong to


def translation(*names: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def enrol(f: Callable[..., Any]) -> Callable[..., Any]:
        TRANSLATIONS.update(dict.fromkeys(names, f))
        return f

    return enrol


def _elementwise() -> None:
    for name in UNARY.keys() - {"not", "sign", "number"}:
        TRANSLATIONS[name] = lambda r, a, _kind=name: r.graph.op(_kind, a)
    TRANSLATIONS["sign"] = TRANSLATIONS["sgn"] = lambda r, a: r.graph.op("sign", a)
    words = {name: name for name in BINARY if name not in ("add", "sub", "div", "max", "min", "and", "or")}
    words |= {"maximum": "max", "minimum": "min", "logical_and": "and", "logical_or": "or", "bitwise_and": "and", "bitwise_or": "or"}
    for name, kind in words.items():
        TRANSLATIONS[name] = lambda r, a, b, _kind=kind: r.graph.op(_kind, *_numbers(r, _kind, a, b))


def _numbers(r: Recorder, kind: str, *values: Any) -> list[Any]:
    """Truth values that are calculated with are numbers."""
    if kind in ("and", "or"):
        return list(values)
    return [r.graph.op("number", v) if isinstance(v, Value) and v.logical else v for v in values]


_elementwise()


@translation("logical_not", "bitwise_not")
def _not(r, a):
    return r.graph.op("not", a)


def _scaled(r, b, alpha):
    return b if alpha == 1 else r.graph.op("mul", *_numbers(r, "mul", b, float(alpha)))


TRANSLATIONS["add"] = lambda r, a, b, alpha=1: r.graph.op("add", *_numbers(r, "add", a, _scaled(r, b, alpha)))
TRANSLATIONS["sub"] = lambda r, a, b, alpha=1: r.graph.op("sub", *_numbers(r, "sub", a, _scaled(r, b, alpha)))
TRANSLATIONS["rsub"] = lambda r, a, b, alpha=1: r.graph.op("sub", *_numbers(r, "sub", b, _scaled(r, a, alpha)))


@translation("div", "true_divide")
def _div(r, a, b, rounding_mode=None):
    if rounding_mode is not None:
        raise Unsupported(f"div with rounding_mode={rounding_mode!r}")
    return r.graph.op("div", *_numbers(r, "div", a, b))


@translation("remainder")
def _remainder(r, a, b):
    g = r.graph
    a, b = _numbers(r, "remainder", a, b)
    return g.op("sub", a, g.op("mul", b, g.op("floor", g.op("div", a, b))))


@translation("pow")
def _pow(r, a, exponent):
    g = r.graph
    if not isinstance(a, Value) and a > 0:  # bᵃ = exp(a ln b)
        return g.op("exp", g.op("mul", exponent, math.log(a)))
    if not isinstance(exponent, Value) and exponent in (2, 3, 0.5, -0.5, -1, 1):
        match exponent:
            case 1:
                return a
            case 2:
                return g.op("mul", a, a)
            case 3:
                return g.op("mul", a, g.op("mul", a, a))
            case -1:
                return g.op("reciprocal", a)
        return g.op("sqrt" if exponent == 0.5 else "rsqrt", a)
    if isinstance(exponent, Value) or not isinstance(a, Value):
        raise Unsupported("a power whose exponent is no number")
    raise Unsupported(f"a power of {exponent}")


TRANSLATIONS["square"] = lambda r, a: r.graph.op("mul", a, a)


@translation("relu")
def _relu(r, a):
    return r.graph.op("where", r.graph.op("le", a, 0.0), 0.0, a)  # NaN stays NaN


@translation("leaky_relu")
def _leaky_relu(r, a, slope=0.01):
    return r.graph.op("where", r.graph.op("gt", a, 0.0), a, r.graph.op("mul", a, float(slope)))


@translation("elu")
def _elu(r, a, alpha=1.0, scale=1.0, input_scale=1.0):
    g = r.graph
    low = g.op("mul", g.op("expm1", g.op("mul", g.op("min", a, 0.0), float(input_scale))), float(alpha) * float(scale))
    return g.op("where", g.op("gt", a, 0.0), g.op("mul", a, float(scale)), low)


@translation("silu")
def _silu(r, a):
    return r.graph.op("mul", a, r.graph.op("sigmoid", a))


@translation("softplus")
def _softplus(r, a, beta=1.0, threshold=20.0):
    g = r.graph
    b = g.op("mul", a, float(beta))
    soft = g.op("mul", g.op("log1p", g.op("exp", g.op("min", b, float(threshold)))), 1.0 / float(beta))
    return g.op("where", g.op("gt", b, float(threshold)), a, soft)


@translation("log_sigmoid_forward")
def _log_sigmoid(r, a):
    g = r.graph
    soft = g.op("log1p", g.op("exp", g.op("neg", g.op("abs", a))))
    return g.op("sub", g.op("min", a, 0.0), soft), None


@translation("gelu")
def _gelu(r, a, approximate="none"):
    if approximate != "tanh":
        raise Unsupported("gelu by the error function; gelu(approximate='tanh') is known")
    g = r.graph
    inner = g.op("mul", g.op("add", a, g.op("mul", g.op("mul", a, g.op("mul", a, a)), 0.044715)), math.sqrt(2 / math.pi))
    return g.op("mul", g.op("mul", a, 0.5), g.op("add", g.op("tanh", inner), 1.0))


@translation("clamp", "hardtanh")
def _clamp(r, a, low=None, high=None):
    g = r.graph
    if isinstance(low, Value) or isinstance(high, Value):
        raise Unsupported("clamp to tensors")
    if low is not None:
        a = g.op("where", g.op("lt", a, float(low)), float(low), a)
    if high is not None:
        a = g.op("where", g.op("gt", a, float(high)), float(high), a)
    return a


TRANSLATIONS["clamp_min"] = lambda r, a, low: _clamp(r, a, low)
TRANSLATIONS["clamp_max"] = lambda r, a, high: _clamp(r, a, None, high)


@translation("hardsigmoid")
def _hardsigmoid(r, a):
    return _clamp(r, r.graph.op("add", r.graph.op("mul", a, 1 / 6), 0.5), 0.0, 1.0)


@translation("where")
def _where(r, condition, a, b):
    return r.graph.op("where", condition, *_numbers(r, "where", a, b))


@translation("masked_fill")
def _masked_fill(r, a, mask, value):
    return r.graph.op("where", mask, value if isinstance(value, Value) else float(value), a)


@translation("lerp")
def _lerp(r, a, b, weight):
    g = r.graph
    return g.op("add", a, g.op("mul", weight if isinstance(weight, Value) else float(weight), g.op("sub", b, a)))


@translation("addcmul")
def _addcmul(r, a, b, c, value=1):
    return r.graph.op("add", a, _scaled(r, r.graph.op("mul", b, c), value))


@translation("addcdiv")
def _addcdiv(r, a, b, c, value=1):
    return r.graph.op("add", a, _scaled(r, r.graph.op("div", b, c), value))


@translation("sigmoid_backward", "tanh_backward", "threshold_backward")
def _backward(r, *args):
    raise Unsupported("the step takes a derivative itself")


@translation("clone", "alias", "lift_fresh", "contiguous")
def _same(r, a, memory_format=None):
    return a


TRANSLATIONS["detach"] = lambda r, a: a if a.kind == "fold" else r.graph.stop(a)


TRANSLATIONS["wavefront::clip_gradient"] = lambda r, a, limit: r.graph.clip(a, limit)


@translation("_to_copy")
def _to(r, a, dtype=None, **kwargs):
    if dtype is torch.bool and not a.logical:
        return r.graph.op("ne", a, 0.0)
    if dtype is not None and not dtype.is_floating_point and dtype is not torch.bool:
        raise Unsupported(f"a conversion to {dtype}")
    return r.graph.op("number", a) if dtype is not None and dtype.is_floating_point else a


TRANSLATIONS["zeros"] = lambda r, shape, **kw: r.filled(0, shape)
TRANSLATIONS["ones"] = lambda r, shape, **kw: r.filled(1, shape)
TRANSLATIONS["full"] = lambda r, shape, number, **kw: r.filled(number, shape)
TRANSLATIONS["new_zeros"] = lambda r, a, shape, **kw: r.filled(0, shape)
TRANSLATIONS["new_ones"] = lambda r, a, shape, **kw: r.filled(1, shape)
TRANSLATIONS["new_full"] = lambda r, a, shape, number, **kw: r.filled(number, shape)
TRANSLATIONS["zeros_like"] = lambda r, a, **kw: r.graph.fill(0.0, a.shape, a.edges)
TRANSLATIONS["ones_like"] = lambda r, a, **kw: r.graph.fill(1.0, a.shape, a.edges)
TRANSLATIONS["full_like"] = lambda r, a, number, **kw: r.graph.fill(float(number), a.shape, a.edges)
TRANSLATIONS["fill"] = lambda r, a, number: r.graph.fill(float(number), a.shape, a.edges)
TRANSLATIONS["zero"] = lambda r, a: r.graph.fill(0.0, a.shape, a.edges)


@translation("mm", "matmul")
def _mm(r, a, b):
    if b.rows or not a.rows:
        raise Unsupported("a product over the rows: a step treats each row alone")
    if a.kind == "fold":
        product = r.graph.mm(a.args[0], b)
        return r.graph.new("fold", (product,), a.attr, product.shape[1:], True)
    return r.graph.mm(a, b)


@translation("mv")
def _mv(r, a, b):
    if b.rows or not a.rows:
        raise Unsupported("a product over the rows: a step treats each row alone")
    return r.graph.sum(r.graph.op("mul", a, b))


@translation("addmm")
def _addmm(r, c, a, b, beta=1, alpha=1):
    product = _mm(r, a, b)
    if product.kind == "fold" and beta == alpha == 1 and not c.rows:
        total = r.graph.op("add", product.args[0], c)
        return r.graph.new("fold", (total,), a.attr, total.shape[1:], True)
    return r.graph.op("add", _scaled(r, c, beta), _scaled(r, product, alpha))


@translation("linear")
def _linear(r, a, w, b=None):
    g = r.graph
    transposed = g.torch(aten.t.default, ([Slot(0)], {}), (w,), None, w.shape[::-1])
    return g.mm(a, transposed) if b is None else g.op("add", g.mm(a, transposed), b)


@translation("bmm")
def _bmm(r, a, b):
    if not (a.rows and b.rows) or len(a.shape) != 2 or len(b.shape) != 2:
        raise Unsupported("a batched product whose batch is not the rows")
    return r.graph.matmul(a, b)


@translation("view", "_unsafe_view", "reshape", "_reshape_alias")
def _view(r, a, shape, *rest):
    """Also a product's way of taking a matrix per row: [rows, n, k] seen as [rows * n, k], and back."""
    g, shape = r.graph, list(shape)
    if a.kind == "fold":
        return g.reshape(a.args[0], r.behind(shape, a.args[0]))
    more = a.size // max(1, a.shape[-1]) if len(a.shape) >= 2 else 1
    if more > 1 and shape[1:] == [a.shape[-1]] and shape[0] in (-1, r.count(a) * more):
        inner = g.reshape(a, [more, a.shape[-1]])
        return g.new("fold", (inner,), inner.shape[0], inner.shape[1:], True)
    return g.reshape(a, r.behind(shape, a))


@translation("unsqueeze")
def _unsqueeze(r, a, dim):
    at = dim % (len(a.shape) + 2)
    if at == 0:
        raise Unsupported("a dimension put before the rows")
    return r.graph.reshape(a, [*a.shape[: at - 1], 1, *a.shape[at - 1 :]])


@translation("squeeze")
def _squeeze(r, a, dim=None):
    dims = (
        range(1, len(a.shape) + 1) if dim is None else [d % (len(a.shape) + 1) for d in (dim if isinstance(dim, (list, tuple)) else [dim])]
    )
    return r.graph.reshape(a, [n for d, n in enumerate(a.shape, 1) if not (d in dims and n == 1)])


@translation("permute")
def _permute(r, a, dims):
    dims = [d % (len(a.shape) + 1) for d in dims]
    if dims[0] != 0:
        raise Unsupported("a permutation that moves the rows")
    return r.graph.permute(a, [d - 1 for d in dims[1:]])


@translation("transpose", "swapaxes")
def _transpose(r, a, i, j):
    dims = list(range(len(a.shape)))
    i, j = r.dim(i, len(dims)), r.dim(j, len(dims))
    dims[i], dims[j] = dims[j], dims[i]
    return r.graph.permute(a, dims)


@translation("t")
def _t(r, a):
    raise Unsupported("a transpose that moves the rows")


@translation("expand")
def _expand(r, a, shape, implicit=False):
    shape = list(shape)
    if not a.rows:
        if shape[0] not in (r.rows, r.edges):
            raise Unsupported("an expansion that moves the rows")
        inner = [a.shape[d - len(shape)] if n == -1 else n for d, n in enumerate(shape)]
        squeezed = r.graph._squeezed(a, len(shape) - 1)
        return r.over(squeezed, inner[1:], shape[0])
    return r.graph.expand(a, [a.shape[d] if n == -1 else n for d, n in enumerate(shape[1:])])


@translation("slice")
def _slice(r, a, dim=0, start=None, end=None, step=1):
    if step != 1:
        raise Unsupported(f"a slice with step {step}")
    if dim % (len(a.shape) + 1) == 0 and (start in (0, None)) and (end is None or end >= r.count(a)):
        return a
    dim = r.dim(dim, len(a.shape))
    n = a.shape[dim]
    start, end, _ = slice(start, end).indices(n)
    return r.graph.narrow(a, dim, start, max(0, end - start))


@translation("index_select")
def _index_select(r, a, dim, index):
    if index is not OWNER or dim != 0 or a.edges:
        raise Unsupported("index_select other than of a node's value at each of its edges")
    return r.graph.spread(a)


@translation("index_add")
def _index_add(r, a, dim, index, edges, alpha=1):
    if index is not OWNER or dim != 0 or a.edges or not edges.edges:
        raise Unsupported("index_add other than of the edges of a node")
    total = r.graph.collect(_scaled(r, edges, alpha))
    zeros = a.kind == "expand" and is_const(a.args[0], 0.0)
    return total if zeros else r.graph.op("add", a, total)


@translation("index")
def _index(r, a, indices):
    places = indices[-1]
    if len(indices) == 1 and places is OWNER:
        return _index_select(r, a, 0, places)
    if len(a.shape) != 1 or len(indices) != 2 or indices[0] is not None or places.rows or places.logical:
        raise Unsupported("indexing other than of a vector at prepared places, v[:, places]")
    return r.graph.gather(a, places)


@translation("select")
def _select(r, a, dim, index):
    dim = r.dim(dim, len(a.shape))
    part = r.graph.narrow(a, dim, index % a.shape[dim], 1)
    return r.graph.reshape(part, [n for d, n in enumerate(a.shape) if d != dim])


@translation("split")
def _split(r, a, size, dim=0):
    dim = r.dim(dim, len(a.shape))
    n = a.shape[dim]
    sizes = [min(size, n - at) for at in range(0, n, size)] if isinstance(size, int) else size
    starts = [sum(sizes[:k]) for k in range(len(sizes))]
    return [r.graph.narrow(a, dim, at, length) for at, length in zip(starts, sizes)]


TRANSLATIONS["split_with_sizes"] = _split


@translation("unbind")
def _unbind(r, a, dim=0):
    return [_select(r, a, dim, k) for k in range(a.shape[r.dim(dim, len(a.shape))])]


@translation("cat")
def _cat(r, parts, dim=0):
    rank = max(len(p.shape) - (0 if p.rows else 1) for p in parts)
    dim = r.dim(dim, rank)
    count = next(r.count(p) for p in parts if p.rows)
    return r.graph.cat([p if p.rows else _expand(r, p, [count, *p.shape[1:]]) for p in parts], dim)


@translation("stack")
def _stack(r, parts, dim=0):
    return _cat(r, [_unsqueeze(r, p, dim) for p in parts], dim)


def _over_last(r, a, dims, keepdim, reduce):
    """A reduction over any dimensions behind the rows, as one over the last."""
    rank = len(a.shape)
    dims = [dims] if isinstance(dims, int) else list(dims or range(rank + 1))
    over = sorted(r.dim(d, rank) for d in dims)
    kept = [d for d in range(rank) if d not in over]
    a = r.graph._squeezed(a, rank)
    moved = r.graph.permute(a, [*kept, *over])
    flat = r.graph.reshape(moved, [*(a.shape[d] for d in kept), math.prod(a.shape[d] for d in over)])
    return r.graph.reshape(reduce(flat), [1 if d in over else n for d, n in enumerate(a.shape) if keepdim or d not in over])


@translation("sum")
def _sum(r, a, dim=None, keepdim=False, dtype=None):
    (a,) = _numbers(r, "sum", a)
    return _over_last(r, a, dim, keepdim, r.graph.sum)


@translation("mean")
def _mean(r, a, dim=None, keepdim=False, dtype=None):
    return _over_last(r, a, dim, keepdim, lambda v: r.graph.op("mul", r.graph.sum(v), 1.0 / v.shape[-1]))


@translation("amax")
def _amax(r, a, dim=(), keepdim=False):
    return _over_last(r, a, dim, keepdim, r.graph.amax)


def _standard(g: Graph, a: Value) -> tuple[Value, Value]:
    """The differences from the mean over the last dimension, and the variance (biased), kept."""
    n = a.shape[-1]
    mean = g.reshape(g.op("mul", g.sum(a), 1.0 / n), [*a.shape[:-1], 1])
    off = g.op("sub", a, mean)
    return off, g.reshape(g.op("mul", g.sum(g.op("mul", off, off)), 1.0 / n), [*a.shape[:-1], 1])


@translation("var")
def _var(r, a, dim=None, correction=1, keepdim=False, unbiased=None):
    if unbiased is not None:
        correction = int(unbiased)

    def reduce(v):
        _, var = _standard(r.graph, v)
        n = v.shape[-1]
        return r.graph.op("mul", r.graph.reshape(var, v.shape[:-1]), n / (n - correction))

    return _over_last(r, a, dim, keepdim, reduce)


@translation("native_layer_norm")
def _layer_norm(r, a, shape, weight, bias, eps):
    if len(shape) != 1:
        raise Unsupported("layer normalisation over several dimensions")
    g = r.graph
    off, var = _standard(g, a)
    y = g.op("mul", off, g.op("rsqrt", g.op("add", var, float(eps))))
    y = y if weight is None else g.op("mul", y, weight)
    return (y if bias is None else g.op("add", y, bias)), None, None


@translation("native_group_norm")
def _group_norm(r, a, weight, bias, n, c, hxw, groups, eps):
    g = r.graph
    if len(a.shape) != 1 or hxw != 1:
        raise Unsupported("group normalisation of more than vectors")
    off, var = _standard(g, g.reshape(a, [groups, c // groups]))
    y = g.reshape(g.op("mul", off, g.op("rsqrt", g.op("add", var, float(eps)))), a.shape)
    y = y if weight is None else g.op("mul", y, weight)
    return (y if bias is None else g.op("add", y, bias)), None, None


@translation("_softmax")
def _softmax(r, a, dim, half_to_float=False):
    g, rank = r.graph, len(a.shape)
    if r.dim(dim, rank) != rank - 1:
        raise Unsupported("softmax over another dimension than the last")
    e = g.op("exp", g.op("sub", a, g.stop(g.reshape(g.amax(a), [*a.shape[:-1], 1]))))
    return g.op("div", e, g.reshape(g.sum(e), [*a.shape[:-1], 1]))


@translation("_log_softmax")
def _log_softmax(r, a, dim, half_to_float=False):
    g, rank = r.graph, len(a.shape)
    if r.dim(dim, rank) != rank - 1:
        raise Unsupported("softmax over another dimension than the last")
    off = g.op("sub", a, g.stop(g.reshape(g.amax(a), [*a.shape[:-1], 1])))
    return g.op("sub", off, g.op("log", g.reshape(g.sum(g.op("exp", off)), [*a.shape[:-1], 1])))


@translation("logsumexp")
def _logsumexp(r, a, dim, keepdim=False):
    g = r.graph

    def reduce(v):
        most = g.stop(g.amax(v))
        most = g.op("where", g.op("eq", g.op("abs", most), math.inf), 0.0, most)  # inf - inf is no number
        return g.op("add", g.op("log", g.sum(g.op("exp", g.op("sub", v, g.reshape(most, [*v.shape[:-1], 1]))))), most)

    return _over_last(r, a, dim, keepdim, reduce)


@translation("linalg_vector_norm")
def _norm(r, a, ord=2, dim=None, keepdim=False, dtype=None):
    if ord != 2:
        raise Unsupported(f"a norm of order {ord}")
    g = r.graph

    def length(v):
        square = g.sum(g.op("mul", v, v))
        none = g.op("eq", square, 0.0)  # the derivative of a norm at 0 is 0
        return g.op("where", none, 0.0, g.op("sqrt", g.op("where", none, 1.0, square)))

    return _over_last(r, a, dim, keepdim, length)
