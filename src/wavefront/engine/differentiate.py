"""Reverse-mode differentiation of a graph, into the same graph: what a step's backward pass has to compute for each node.

Gradients of values with rows are values. A prepared value (a weight, a bias) is used by every node; what it gets is a list of
contributions, each to be summed over all nodes once, after the loop: a product aᵀδ, or a plain sum of δ.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, NamedTuple

import torch

from wavefront.engine.graph import Graph, Slot, Unsupported, Value, order

__all__ = ["Contribution", "differentiate"]


class Contribution(NamedTuple):
    """What a prepared value gets: Σ over all nodes of aᵀδ, or where a is None of δ, summed to the value's shape.

    at  of the nonzeros of a sparse matrix: Σ over all nodes of δᵀa, at these places alone
    """

    to: Value
    a: Value | None
    delta: Value
    at: Value | None = None


def differentiate(g: Graph, seeds: dict[Value, Value], leaves: Collection[Value]) -> tuple[dict[Value, Value], list[Contribution]]:
    """Σ seeds[v] · v, differentiated by the leaves: their gradients (those with rows), and contributions (those without).

    A value that is no leaf and has no leaf below it costs nothing. Leaves are not looked behind.
    """
    wanted = set(leaves)
    active: set[Value] = set()
    steps = order(seeds)
    for v in steps:
        if v in wanted or ((v.kind != "stop" or v.attr is not None) and not v.logical and any(a in active for a in v.args)):
            active.add(v)
    sums: dict[Value, list[Value]] = {v: [s] for v, s in seeds.items()}
    pieces: dict[Value, list[tuple[int, int, Value]]] = {}
    found: dict[Value, Value] = {}
    contributions: list[Contribution] = []

    def give(v: Value, gradient: Value) -> None:
        if v not in active:
            return
        if not v.rows:
            contributions.append(Contribution(v, None, gradient))
            return
        sums.setdefault(v, []).append(_sum_to(g, gradient, v.shape))

    for v in reversed(steps):
        if v not in active or (v not in sums and v not in pieces):
            continue
        parts = sums.pop(v, [])
        if v in pieces:
            parts += _join(g, v, pieces.pop(v))
        gradient = parts[0]
        for part in parts[1:]:
            gradient = g.op("add", gradient, part)
        if v in wanted:
            found[v] = gradient
            continue
        _backward(g, v, gradient, give, pieces, active, contributions)
    return found, contributions


def _sum_to(g: Graph, v: Value, shape: tuple[int, ...]) -> Value:
    if v.shape == shape:
        return v
    lead = len(v.shape) - len(shape)
    over = [d for d, n in enumerate(v.shape) if d < lead or (shape[d - lead] == 1 and n != 1)]
    kept = [d for d in range(len(v.shape)) if d not in over]
    moved = g.permute(v, [*kept, *over])
    width = 1
    for d in over:
        width *= v.shape[d]
    if not v.rows:
        raise AssertionError("gradients have rows")
    return g.reshape(g.sum(g.reshape(moved, [*(v.shape[d] for d in kept), width])), shape)


def _join(g: Graph, v: Value, pieces: list[tuple[int, int, Value]]) -> list[Value]:
    """The gradients of parts of v as gradients of v: disjoint parts side by side, zeros between them."""
    whole = []
    while pieces:
        dim = pieces[0][0]
        row, at, rest = [], 0, []
        for piece in sorted((p for p in pieces if p[0] == dim), key=lambda p: p[1]):
            if piece[1] < at:
                rest.append(piece)
                continue
            if piece[1] > at:
                row.append(g.fill(0.0, tuple(piece[1] - at if d == dim else n for d, n in enumerate(v.shape)), v.edges))
            row.append(piece[2])
            at = piece[1] + piece[2].shape[dim]
        if at < v.shape[dim]:
            row.append(g.fill(0.0, tuple(v.shape[dim] - at if d == dim else n for d, n in enumerate(v.shape)), v.edges))
        whole.append(g.cat(row, dim))
        pieces = rest + [p for p in pieces if p[0] != dim]
    return whole


def _backward(g: Graph, v: Value, y: Value, give: Any, pieces: Any, active: set[Value], contributions: list[Contribution]) -> None:
    """Hand the gradient y of v on to v's arguments."""
    op = g.op
    a, b = (*v.args, v, v)[:2]  # v itself stands for an argument that there is not
    match v.kind:
        case "add":
            give(a, y)
            give(b, y)
        case "sub":
            give(a, y)
            if b in active:
                give(b, op("neg", y))
        case "mul":
            if a in active:
                give(a, op("mul", y, b))
            if b in active:
                give(b, op("mul", y, a))
        case "div":
            part = op("div", y, b)
            give(a, part)
            if b in active:
                give(b, op("neg", op("mul", part, v)))
        case "stop":
            y = op("where", op("lt", y, -v.attr), -v.attr, y)
            give(a, op("where", op("gt", y, v.attr), v.attr, y))
        case "neg":
            give(a, op("neg", y))
        case "exp":
            give(a, op("mul", y, v))
        case "expm1":
            give(a, op("mul", y, op("add", v, 1.0)))
        case "log":
            give(a, op("div", y, a))
        case "log1p":
            give(a, op("div", y, op("add", a, 1.0)))
        case "tanh":
            give(a, op("mul", y, op("sub", 1.0, op("mul", v, v))))
        case "sigmoid":
            give(a, op("mul", op("mul", y, v), op("sub", 1.0, v)))
        case "sqrt":
            give(a, op("div", op("mul", y, 0.5), v))
        case "rsqrt":
            give(a, op("mul", op("mul", y, -0.5), op("mul", v, op("mul", v, v))))
        case "reciprocal":
            give(a, op("neg", op("mul", y, op("mul", v, v))))
        case "abs":
            give(a, op("mul", y, op("sign", a)))
        case "max" | "min":
            # at a tie each gets half, as torch has it
            for mine, other in ((a, b), (b, a)):
                if mine in active:
                    wins = op("where", op("gt" if v.kind == "max" else "lt", mine, other), y, 0.0)
                    give(mine, op("where", op("eq", mine, other), op("mul", y, 0.5), wins))
        case "where":
            if b in active:
                give(b, op("where", a, y, 0.0))
            if v.args[2] in active:
                give(v.args[2], op("where", a, 0.0, y))
        case "mm":
            if a in active:
                give(a, g.mm(y, transpose(g, b)))
            if b in active:
                contributions.append(Contribution(b, a, y))
        case "sparse" if v.attr is None:
            if a in active:
                give(a, g.sparse(y, b, v.args[2], transposed=a.shape[0]))
            if b in active:
                contributions.append(Contribution(b, a, y, v.args[2]))
        case "matmul":
            if a in active:
                give(a, g.matmul(y, _swap(g, b)))
            if b in active:
                give(b, g.matmul(_swap(g, a), y))
        case "reshape":
            give(a, g.reshape(y, a.shape) if a.rows else y)
        case "permute":
            inverse = sorted(range(len(v.attr)), key=lambda d: v.attr[d])
            give(a, g.permute(y, inverse))
        case "expand":
            give(a, y)
        case "narrow":
            if a in active:
                pieces.setdefault(a, []).append((v.attr[0], v.attr[1], y))
        case "cat":
            at = 0
            for part in v.args:
                if part in active:
                    give(part, g.narrow(y, v.attr, at, part.shape[v.attr]))
                at += part.shape[v.attr]
        case "sum":
            give(a, g.expand(g.reshape(y, [*y.shape, 1]), a.shape))
        case "spread":
            give(a, g.collect(y))
        case "collect":
            give(a, g.spread(y))
        case "amax":
            largest = op("number", op("eq", a, g.reshape(v, [*v.shape, 1])))
            share = op("div", y, g.sum(largest))
            give(a, op("mul", largest, g.reshape(share, [*y.shape, 1])))
        case "call":
            raise Unsupported(v.attr.reason)
        case "number" | "sign" | "ceil" | "floor" | "round" | "trunc":
            pass
        case _:
            raise Unsupported(f"the derivative of {v.kind}")


def _swap(g: Graph, v: Value) -> Value:
    dims = list(range(len(v.shape)))
    return g.permute(v, [*dims[:-2], dims[-1], dims[-2]])


def transpose(g: Graph, w: Value) -> Value:
    return g.torch(torch.ops.aten.t.default, ([Slot(0)], {}), (w,), None, w.shape[::-1])
