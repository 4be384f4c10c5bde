"""What of a step has to be in the loop, and what does not: each operation coloured by what it depends on.

    prepared   parameters alone                          once per unfolding
    hoisted    inputs too (or what is given once per sequence)   before the loop, all nodes at once
    carried    the state, and the next state needs it    in the loop: the only sequential part
    deferred   the state, but no state needs it          after the loop, all nodes at once

Where one part of the state needs another but not the other way round, as in a stack of layers, and a product can be taken out of the loop so,
there are several loops, one after the other: to the second, what the first made is known for all nodes. These are the plan's stages. It pays where
the product is large; the weights of small ones stay in cache, and one loop over both layers moves less memory.

Two rewritings bring out more of it: a product over a join is the sum of the products over its parts, [x, h] W = x W₁ + h W₂, and a sum is
taken in the order of its colours, so that (x U + h W) + b adds b before the loop.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from wavefront.engine.graph import PRODUCTS, Graph, Slot, Value, order

__all__ = ["Colour", "Plan", "Reach", "linear", "make_plan", "vanishes"]


class Reach(enum.IntEnum):
    """What a value depends on: the most demanding of its inputs."""

    PARAMETERS = 0
    SEQUENCE = 1  # given once per sequence
    NODE = 2
    STATE = 3


class Colour(enum.Enum):
    PREPARED = "prepared"
    HOISTED = "hoisted"
    CARRIED = "carried"
    DEFERRED = "deferred"


# cheaper to compute again in the loop than to read
CHEAP = {
    "add",
    "sub",
    "mul",
    "neg",
    "abs",
    "sign",
    "where",
    "max",
    "min",
    "number",
    "stop",
    "not",
    "and",
    "or",
    "eq",
    "ne",
    "lt",
    "le",
    "gt",
    "ge",
}


VIEWS = {"narrow", "reshape", "spread"}

# numbers in a weight from which its product pays for a loop of its own (training two layers of LSTM, B = 64, two loops against one: 256 units 3 %
# faster, 512 units 6 %; 128 units, B = 32: 11 % slower)
WORTH = 1 << 17
FEW = 4  # inputs


@dataclass
class Plan:
    graph: Graph
    reach: dict[Value, Reach]
    before: list[list[Value]]  # the states before, by slot and part
    after: list[Value]  # the next state's parts
    output: Value
    carried: list[Value]  # in order
    into: list[Value]  # what the carried part takes from outside: with rows (per node or per sequence), or prepared
    lifted: list[
        Value
    ]  # products x W + b of `into` that the carried part needs: hoisted, a few fronts at a time before the loop passes over them
    exported: list[Value]  # what outlives the loop: what deferred operations and the output need
    deferred: list[Value]
    parts: list[int]  # which of the cell's parts of the state these are
    stages: list[Plan] = field(default_factory=list)  # of a whole plan: its loops, one after the other

    def colour(self, v: Value) -> Colour:
        if v in self._carried:
            return Colour.CARRIED
        if self.reach[v] is Reach.STATE:
            return Colour.DEFERRED
        return Colour.PREPARED if self.reach[v] is Reach.PARAMETERS else Colour.HOISTED

    def __post_init__(self) -> None:
        self._carried = set(self.carried)
        self.inputs = [v for v in order([*self.after, self.output]) if v.kind == "input"]
        self.recipes: dict[tuple[Value, ...], Any] = {}  # what it takes to compute what lies outside the loop

    def operations(self) -> list[Value]:
        """All of the step's operations, each after what it needs."""
        return [v for v in order([*self.after, self.output]) if v.kind not in ("input", "const")]


def make_plan(
    graph: Graph, before: list[list[Value]], after: Sequence[Value], output: Value, sequence: Iterable[Value], native: bool = True
) -> Plan:
    """sequence: the inputs that are given once per sequence; inputs without rows are parameters, `before` the states, all others vary by node.
    native: products that native code is to run are brought into the forms that it knows."""
    given = set(sequence)
    stages = _stages(before, after)
    at = {leaf: k for k, parts in enumerate(stages) for slot in before for leaf in (slot[n] for n in parts)}
    reach, stage = _reaches(order([*after, output]), before, given, at)
    for _ in range(2):  # a split product makes new sums
        *after, output = _rewrite(graph, [*after, output], reach, stage, native)
        reach, stage = _reaches(order([*after, output]), before, given, at)
    for leaf in at:
        reach[leaf] = Reach.STATE
    loops: list[Plan] = []
    everything = order([*after, output])
    for k, parts in enumerate(stages):
        mine = [after[n] for n in parts]
        states = {slot[n] for slot in before for n in parts}
        here = {v: Reach.NODE if r is Reach.STATE and stage.get(v, k) < k else r for v, r in reach.items()}
        # the edges are seen in the loop alone: what the output is to know of them is summed there
        sums = [v for v in everything if v.kind == "collect" and reach[v] is Reach.STATE and stage[v] == k]
        carried, into = _inside([*mine, *sums], here, states)
        into, lifted = _lift(into, set(carried), everything, [*after, output], here)
        loops.append(Plan(graph, here, [[slot[n] for n in parts] for slot in before], mine, output, carried, into, lifted, [], [], parts))
    carried_all = list(dict.fromkeys(v for loop in loops for v in loop.carried))
    made = {*carried_all, *at}
    outlying = [v for v in order([*(v for loop in loops for v in loop.into), output]) if v not in made and reach[v] is Reach.STATE]
    for k, loop in enumerate(loops):
        known = {*loop.carried, *(leaf for leaf in at if at[leaf] == k)}
        wanted: dict[Value, None] = {}
        todo = [a for v in outlying for a in v.args] + [output] + [v for later in loops[k + 1 :] for v in later.into]
        for v in todo:
            if v in known and v.logical:
                todo += v.args  # a truth value is found again from what it compares
            elif v in known:
                wanted.setdefault(v)
        loop.exported = list(wanted)
        loop.deferred = outlying
    if len(loops) == 1:
        loops[0].stages = loops
        return loops[0]
    into = list(dict.fromkeys(v for loop in loops for v in loop.into))
    exported = list(dict.fromkeys(v for loop in loops for v in loop.exported))
    lifted = [v for loop in loops for v in loop.lifted]
    return Plan(graph, reach, before, list(after), output, carried_all, into, lifted, exported, outlying, list(range(len(after))), loops)


def _stages(before: list[list[Value]], after: Sequence[Value]) -> list[list[int]]:
    """The parts of the state in groups, each in need of those before it and of itself alone; as few as take all large products out of the loop.
    States that come by edges stay together."""
    if any(leaf.edges for slot in before for leaf in slot):
        return [list(range(len(after)))]
    number = {leaf: n for slot in before for n, leaf in enumerate(slot)}
    needs: dict[Value, frozenset[int]] = {}
    for v in order(after):
        needs[v] = frozenset([number[v]]) if v in number else frozenset().union(*(needs[a] for a in v.args))
    all_needs = [set(needs[v]) for v in after]
    for middle in range(len(after)):  # what is needed by what is needed, too
        for own in all_needs:
            if middle in own:
                own |= all_needs[middle]
    left, groups = set(range(len(after))), []
    while left:
        # the part whose needs, but for those that need it in turn, are all there
        first = next(n for n in sorted(left) if all(n in all_needs[m] or m == n for m in all_needs[n] & left))
        together = sorted(m for m in left if m == first or (m in all_needs[first] and first in all_needs[m]))
        left -= set(together)
        groups.append(together)
    stages: list[list[int]] = []
    for group in groups:
        earlier = set(order(after[n] for stage in stages for n in stage))
        fresh = [v for v in order(after[n] for n in group) if v.kind in PRODUCTS and v.args[1].size >= WORTH and v not in earlier]
        operands = [part for v in fresh for part in (v.args[0].args if v.args[0].kind == "cat" else v.args[:1])]
        if not stages or any(needs[part] and needs[part].isdisjoint(group) for part in operands):
            stages.append(group)
        else:
            stages[-1] = sorted(stages[-1] + group)
    return stages


def _reaches(
    values: list[Value], before: list[list[Value]], sequence: set[Value], at: dict[Value, int]
) -> tuple[dict[Value, Reach], dict[Value, int]]:
    """What each value depends on, and the last stage whose state it depends on; -1: none."""
    states = {leaf for slot in before for leaf in slot}
    reach: dict[Value, Reach] = {}
    stage: dict[Value, int] = {}
    for v in values:
        stage[v] = at.get(v, max((stage[a] for a in v.args), default=-1))
        if v.kind == "input":
            if v in states:
                reach[v] = Reach.STATE
            elif not v.rows:
                reach[v] = Reach.PARAMETERS
            else:
                reach[v] = Reach.SEQUENCE if v in sequence else Reach.NODE
        else:
            reach[v] = max((reach[a] for a in v.args), default=Reach.PARAMETERS)
    return reach, stage


def _inside(after: Sequence[Value], reach: dict[Value, Reach], states: set[Value]) -> tuple[list[Value], list[Value]]:
    """What the next state needs of the loop, in order, and what that takes from outside."""
    carried: dict[Value, None] = {}
    into: dict[Value, None] = {}

    def outside(v: Value) -> bool:
        return reach[v] is not Reach.STATE and (not v.rows or reach[v] is not Reach.PARAMETERS) and not v.edges

    def visit(values: Iterable[Value]) -> None:
        todo = [(v, False) for v in values][::-1]
        while todo:
            v, done = todo.pop()
            if done:
                carried.setdefault(v)
            elif v in states or v in carried or v.kind == "const":
                continue
            elif outside(v) and v not in pulled:
                into.setdefault(v)
            else:
                todo.append((v, True))
                todo += [(a, False) for a in reversed(v.args)]

    # a cheap function of what comes in anyway is no traffic of its own
    pulled: set[Value] = set()
    sparse = any(v.kind == "sparse" for v in order(after))

    def small(v: Value) -> bool:
        """A product with a few inputs, beside a sparse one: to read its result would cost more than to compute it."""
        return sparse and v.kind == "mm" and v.rows and v.args[0].size <= FEW

    def at_hand(v: Value) -> bool:
        return v in into or v in pulled or v.kind == "const" or not v.rows or small(v)

    while True:
        carried.clear()
        into.clear()
        visit(after)
        more = {
            v
            for v in into
            if v.rows
            and any(a.rows for a in v.args)
            and (v.logical or v.kind in VIEWS or small(v) or (v.kind in CHEAP and all(map(at_hand, v.args))))
        }
        if not more:
            return list(carried), list(into)
        pulled |= more


def vanishes(v: Value, states: Iterable[Value]) -> bool:
    """Whether v is zero where these states are, whatever else there is."""
    if v.kind in VIEWS | {"cat", "add", "sub", "collect", "expand", "permute"}:
        return all(vanishes(a, states) for a in v.args)
    return v in states


def linear(v: Value) -> tuple[Value, Value, Value | None] | None:
    """v as a vector x times a prepared matrix W, plus a prepared b or nothing: (x, W, b)."""
    product, bias = v, None
    if v.kind == "add":
        product, bias = v.args if v.args[0].kind == "mm" else v.args[::-1]
        if bias.rows or bias.shape != v.shape:
            return None
    if product.kind != "mm" or len(product.shape) != 1 or not product.args[0].rows:
        return None
    return product.args[0], product.args[1], bias


def _lift(
    into: list[Value], carried: set[Value], everything: list[Value], results: list[Value], reach: dict[Value, Reach]
) -> tuple[list[Value], list[Value]]:
    """What comes in as x W + b, and nobody else wants, comes in as x, W and b."""
    users: dict[Value, set[Value]] = {}
    for v in everything:
        for a in v.args:
            users.setdefault(a, set()).add(v)
    new: dict[Value, None] = {}
    lifted = []
    for v in into:
        parts = linear(v) if v.rows and reach[v] is Reach.NODE and v not in results and users[v] <= carried else None
        if parts is None or (v.kind == "add" and any(a.kind == "mm" and users[a] != {v} for a in v.args)):
            new.setdefault(v)
        else:
            lifted.append(v)
            new.update(dict.fromkeys(p for p in parts if p is not None))
    return list(new), lifted


def _rewrite(g: Graph, results: list[Value], reach: dict[Value, Reach], stage: dict[Value, int], native: bool) -> list[Value]:
    values = order(results)
    users: dict[Value, list[Value]] = {}
    for v in values:
        for a in v.args:
            users.setdefault(a, []).append(v)
    new: dict[Value, Value] = {}

    def inner(v: Value) -> bool:
        """A sum that is only a part of a larger one."""
        return (
            v.kind in ("add", "sub")
            and v not in results
            and len(users.get(v, ())) == 1
            and users[v][0].kind in ("add", "sub")
            and users[v][0].shape == v.shape
            and reach[users[v][0]] is Reach.STATE
        )

    def terms(v: Value, sign: int) -> list[tuple[int, Value]]:
        a, b = v.args
        found: list[tuple[int, Value]] = []
        for part, s in ((a, sign), (b, -sign if v.kind == "sub" else sign)):
            found += terms(part, s) if inner(part) and part.shape == v.shape else [(s, part)]
        return found

    for v in values:
        args = tuple(new[a] for a in v.args)
        if v.kind == "mm" and args[0].kind == "cat" and len(v.shape) == 1 and len({(reach[a], stage[a]) for a in v.args[0].args}) > 1:
            new[v] = _split(g, args[0], args[1])
        elif native and v.kind == "mm" and len(v.shape) > 1 and reach[v] is Reach.STATE:
            new[v] = _by_row(g, args[0], args[1])
        elif native and v.kind == "matmul" and reach[v] is Reach.STATE:
            new[v] = _as_sum(g, args[0], args[1])
        elif v.kind in ("add", "sub") and reach[v] is Reach.STATE and not inner(v):
            parts = terms(v, 1)
            if len(parts) > 2:
                new[v] = _ordered_sum(g, [(s, new[t], (reach[t], stage[t])) for s, t in parts])
            else:
                new[v] = g.remake(v, args)
        else:
            new[v] = g.remake(v, args)
    return [new[v] for v in results]


def _split(g: Graph, joined: Value, w: Value) -> Value:
    total, at = None, 0
    for part in joined.args:
        n = part.shape[0]
        rows = g.torch(torch.ops.aten.slice.Tensor, ([Slot(0), 0, at, at + n], {}), (w,), None, (n, w.shape[1]))
        product = g.mm(part, rows)
        total = product if total is None else g.op("add", total, product)
        at += n
    assert total is not None
    return total


def _by_row(g: Graph, a: Value, w: Value) -> Value:
    """A matrix per row times a parameter, as a product for each of the matrix's rows."""
    flat = g.reshape(a, (a.size // a.shape[-1], a.shape[-1]))
    rows = [g.mm(g.reshape(g.narrow(flat, 0, k, 1), (a.shape[-1],)), w) for k in range(flat.shape[0])]
    return g.reshape(g.cat([g.reshape(r, (1, w.shape[1])) for r in rows], 0), (*a.shape[:-1], w.shape[1]))


def _as_sum(g: Graph, a: Value, b: Value) -> Value:
    """A product of two values with rows, as a sum over the last dimension: aᵢₖ bₖⱼ at [i, j, k]."""
    dims = list(range(len(b.shape)))
    turned = g.permute(b, [*dims[:-2], dims[-1], dims[-2]])
    left = g.reshape(a, [*a.shape[:-1], 1, a.shape[-1]])
    right = g.reshape(turned, [*turned.shape[:-2], 1, *turned.shape[-2:]])
    return g.sum(g.op("mul", left, right))


def _ordered_sum(g: Graph, terms: list[tuple[int, Value, tuple[Reach, int]]]) -> Value:
    """The same sum, what is known earliest first; with a product of the inputs, the parameters' part goes along as its bias."""
    node, parameters, sequence = ((reach, -1) for reach in (Reach.NODE, Reach.PARAMETERS, Reach.SEQUENCE))
    totals: dict[tuple[Reach, int], Value] = {}
    for when in (node, parameters, sequence, *sorted({when for _, _, when in terms if when[0] is Reach.STATE})):
        into = when
        if when == parameters and node in totals:
            into = node
        elif when == sequence and parameters in totals:
            totals[sequence] = totals.pop(parameters)
        among = [(s, v) for s, v, w in terms if w == when]
        if not among:
            continue
        part: Value | None = None
        for sign, v in sorted(among, key=lambda t: -t[0]):
            if part is None:
                part = v if sign > 0 else g.op("neg", v)
            else:
                part = g.op("add" if sign > 0 else "sub", part, v)
        assert part is not None
        totals[into] = g.op("add", totals[into], part) if into in totals else part
    total: Value | None = None
    for part in totals.values():
        total = part if total is None else g.op("add", total, part)
    assert total is not None
    return total
