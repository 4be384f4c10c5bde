"""The compiled loops as one operation of autograd: tensors in, tensors out, gradients for any of them."""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Callable, Sequence
from itertools import islice
from time import monotonic
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from wavefront.engine.backends.compiled import spare, threads
from wavefront.engine.backends.compiled.kernel import Kernel
from wavefront.engine.backends.compiled.program import Arrays, Program
from wavefront.engine.backends.compiled.sparse import gathered
from wavefront.engine.differentiate import Contribution
from wavefront.engine.graph import Recipe, Value
from wavefront.engine.layout import Layout
from wavefront.engine.loop import replay
from wavefront.engine.plan import Reach, vanishes
from wavefront.engine.process import home_process
from wavefront.engine.products import LARGE, WeightGradient, contraction_of, cut, is_lowered, is_turned, lowered, product

__all__ = ["Carried", "carried"]

BLOCK, READ_ONCE = (
    1 << 24,
    1 << 21,
)  # bytes of x W + b before the loop passes over them; the second where nothing is stored: still in a cache then
ROWS = 6  # of a front, for each thread, from which products x W + b are made in the loop: nobody has to write them, and read them again
WEIGHTS = 1 << 22  # numbers of such a W
MANY = 8  # nodes, of which one starts from what is given: from there on it pays to see whether that is zero
SMALL = 2_000_000  # additions and multiplications below which a second thread costs more than it brings: some ten microseconds of work
REST = 2.0  # seconds for which threads share no units after they had to wait for a core
SHARED = 50_000  # likewise, from one meeting of threads that share the units of a front to the next: to meet takes 0.1 to 0.4 microseconds


def carried(
    program: Program, layout: Layout, into: Sequence[Tensor], starts: Sequence[Sequence[Tensor]]
) -> tuple[list[Tensor], list[list[Tensor]]]:
    """Run the loop. into: the values of `plan.into`; starts: the initial state's leaves, then those of each part of what was given.

    -> the values of `plan.exported` for all nodes, and the final states, part by part.
    """
    flat = [leaf for start in starts for leaf in start]
    if is_lowered():
        program = program.lowered
    if _inside(program, layout):
        program = program.inside
    if program.needs is None:
        results, _ = _forward(program, layout, into, flat)
    else:
        results = Carried.apply(program, layout, len(into), *into, *flat)
    count, leaves = len(program.plan.exported), len(program.leaves)
    ends = results[count:]
    return list(results[:count]), [list(ends[k : k + leaves]) for k in range(0, len(ends), leaves)]


class Carried(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, program: Program, layout: Layout, count: int, *tensors: Tensor) -> tuple[Tensor, ...]:
        results, memory = _forward(program, layout, tensors[:count], tensors[count:], any(ctx.needs_input_grad[3 + count :]))
        ctx.program, ctx.layout, ctx.count, ctx.low, ctx.zero = program, layout, count, is_lowered(), memory.zero
        parts = (tensors, memory.buffers, memory.written, *memory.blocks)
        ctx.sizes = [len(part) for part in parts]
        ctx.save_for_backward(*(t for part in parts for t in part))
        ctx.set_materialize_grads(False)
        return tuple(results)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
        program, layout, count = ctx.program, ctx.layout, ctx.count
        saved = iter(ctx.saved_tensors)
        tensors, buffers, written, *blocks = (list(islice(saved, size)) for size in ctx.sizes)
        if torch.is_grad_enabled():  # somebody asks for a second derivative: through plain torch, exactly
            return None, None, None, *_again(program, layout, tensors, count, grads, ctx.needs_input_grad[3:])
        again = torch._C._autograd._get_current_graph_task_keep_graph()  # what is stored may be asked for another time
        with lowered(ctx.low):
            found = _backward(
                program, layout, tensors[:count], Memory(buffers, written, ctx.zero, blocks), grads, ctx.needs_input_grad[3:], again
            )
        return None, None, None, *found


class Memory(NamedTuple):
    """What the forward loop leaves behind."""

    buffers: list[Tensor]  # the states, by part
    written: list[Tensor]  # exports and keeps that have an array of their own
    zero: bool  # whether it starts from zeros that nobody wants a gradient of
    blocks: list[list[Tensor]]  # of each block of fronts the places of the sums that came in


def _again(
    program: Program, layout: Layout, tensors: Sequence[Tensor], count: int, grads: Sequence[Tensor | None], wanted: Sequence[bool]
) -> list[Tensor | None]:
    outputs = replay(program.plan, layout, tensors[:count], tensors[count:])
    asked = [t for t, want in zip(tensors, wanted) if want]
    pairs = [(o, g) for o, g in zip(outputs, grads) if g is not None and o.requires_grad]
    found = iter(
        torch.autograd.grad([o for o, _ in pairs], asked, [g for _, g in pairs], create_graph=True, allow_unused=True)
        if pairs
        else [None] * len(asked)
    )
    return [next(found) if want else None for want in wanted]


class Frame(NamedTuple):
    """A kernel's table with all that stays the same while the layout does."""

    layout: weakref.ref[Layout]
    team: tuple[int, int]
    table: Any
    scratch: int  # numbers for each slice


class Call:
    """A call of a kernel, for some of the fronts at a time: gathers what it has to be handed."""

    def __init__(
        self,
        kernel: Kernel,
        arrays: Arrays,
        layout: Layout,
        like: Tensor,
        work: int,
        tensor_of: dict[Value, Tensor],
        settle: Callable[[Call], None],
    ):
        """settle: gives what depends on the layout alone; it is done once for calls in a row over the same one."""
        self.kernel, self.layout = kernel, layout
        wanted = torch.get_num_threads() if home_process() and work >= SMALL else 1
        few = (
            kernel.splits and 2 * layout.rows <= wanted and work >= SHARED * kernel.meetings * layout.fronts and monotonic() >= kernel.rest
        )
        self.slices, self.pieces = (1, wanted) if few else (max(1, min(wanted, layout.rows)), 1)
        self.alive: list[Any] = []
        known = kernel.frame
        if known is None or known.layout() is not layout or known.team != (self.slices, self.pieces):
            self.table = (ctypes.c_int64 * len(kernel.arguments))()
            known = self._frame(layout)
            settle(self)
            kernel.frame = known
        self.table = type(known.table).from_buffer_copy(known.table)
        scratch = like.new_empty(self.slices * known.scratch)
        self.give("scratch", scratch)
        fixed, weights = [v for _, v in arrays.fixed], kernel.packing.weights
        if kernel.recipe is None:
            sparse = [v for pack in kernel.sparse for v in (pack.weight, pack.sources)]
            kernel.recipe = Recipe([*fixed, *weights, *sparse], tensor_of)
        kernel.recipe.run(tensor_of, like, 0)
        for number, v in enumerate(fixed):
            self.give(("fixed", number), tensor_of[v].contiguous())
        together = kernel.packing.run([tensor_of[w] for w in weights], like, self.slices * self.pieces)
        for number, start in enumerate(kernel.packing.starts):
            self.give(("pack", number), together, -start)
        for number, pack in enumerate(kernel.sparse):
            for part, array in gathered(pack, tensor_of[pack.weight], tensor_of[pack.sources], kernel.width)._asdict().items():
                self.give((part, number), array)

    def _frame(self, layout: Layout) -> Frame:
        starts, counts, nodes = layout.shares(self.slices)
        most = int(counts.max(initial=0))
        by_node = (self.kernel.schedule.scratch + self.kernel.turned) * most
        scratch = max(1, by_node)
        if self.kernel.schedule.edged:
            edges = layout.edge_shares(self.slices)
            most_edges = int(edges["edge counts"].max(initial=0))
            scratch += self.kernel.schedule.edge_scratch * most_edges
            self.set("edge_scratch", by_node)
            self.set("most_edges", most_edges)
            for name, array in edges.items():
                self.give(name, array)
        for key, number in (
            ("fronts", layout.fronts),
            ("most", most),
            ("scratch_size", scratch),
            ("slices", self.slices * self.pieces),
            ("pieces", self.pieces),
            ("turned", self.kernel.schedule.scratch * most),
        ):
            self.set(key, number)
        for key, array in (("starts", starts), ("counts", counts), ("list", nodes), ("row", layout.row)):
            self.give(key, array)
        return Frame(weakref.ref(layout), (self.slices, self.pieces), self.table, scratch)

    def set(self, key: Any, number: int) -> None:
        at = self.kernel.place.get(key)
        if at is not None:
            self.table[at] = number

    def give(self, key: Any, array: np.ndarray | Tensor, first: int = 0, column: int = 0) -> None:
        """An array; of what is held by node, the part that starts with node `first`, from a column on."""
        if isinstance(array, Tensor):
            address = array.data_ptr()
            if first or column:
                address += (column - first * array.stride(0)) * array.element_size()
        else:
            address = array.ctypes.data
        self.set(key, address)
        self.alive.append(array)

    def join(self, zero: bool) -> None:
        """zero: nodes without another before them start from zeros that need no gradient."""
        self.give("joined", self.layout.joining(self.slices) if zero else self.layout.shares(self.slices)[1])

    def run(self, low: int, high: int) -> None:
        self.set("low", low)
        self.set("high", high)
        self.set("met", 0)
        self.set("part", 0)
        threads.run(self.kernel, self.table, self.slices * self.pieces)
        if self.pieces > 1 and self.table[self.kernel.place["part"]]:
            self.kernel.rest = monotonic() + REST


def _inside(program: Program, layout: Layout) -> bool:
    """Whether to make the products x W + b in the loop: where a front has rows enough for each thread to make use of what it reads of W, and W
    stays in a cache."""
    enough = layout.nodes >= ROWS * layout.fronts * torch.get_num_threads()
    return bool(program.lifted) and enough and program.input_weights <= WEIGHTS and is_lowered() <= program.low


def _work(program: Program, layout: Layout) -> int:
    return layout.nodes * program.work


def _blocks(program: Program, layout: Layout, like: Tensor) -> list[tuple[int, int, int, int]]:
    """Fronts in blocks, (first front, last, first node, last): as many as let the sums of a block stay in a cache."""
    width = sum(v.size for v in program.lifted) * like.element_size()
    return layout.blocks(max(1, (READ_ONCE if program.needs is None else BLOCK) // width) if width else layout.nodes)


def _sums(program: Program, tensor_of: dict[Value, Tensor], first: int, last: int) -> list[Tensor]:
    """x W + b for some of the nodes."""
    found = []
    for x, w, b in program.lifted.values():
        rows = tensor_of[x]
        found.append(product(rows[first:last] if rows.shape[0] > last - first else rows, tensor_of[w], None if b is None else tensor_of[b]))
    return found


def _zero(layout: Layout, starts: Sequence[Tensor]) -> bool:
    """Whether it starts from zeros: products of these need not be made. Looked at where many nodes have none before them, as half of a binary
    tree."""
    return MANY * layout.starting > layout.nodes and not any(bool(start.any()) for start in starts)


def _forward(
    program: Program, layout: Layout, into: Sequence[Tensor], starts: Sequence[Tensor], asked: bool = False
) -> tuple[list[Tensor], Memory]:
    """asked: somebody wants a gradient of what it starts from. -> exported and final values; what is left for the backward pass."""
    plan, leaves = program.plan, len(program.leaves)
    like, zero = starts[0], not asked and _zero(layout, starts)
    kernel, arrays = program.forward
    tensor_of = dict(zip(plan.into, into))
    rolls = program.needs is None and layout.chain
    full = [not rolls or number in program.as_state.values() for number in range(leaves)]

    def settle(call: Call) -> None:
        for number in range(leaves):
            call.give(("own", number), layout.own if full[number] else layout.rolling[0])
            call.give(("state before", number), layout.before if full[number] else layout.rolling[1])

    call = Call(kernel, arrays, layout, like, _work(program, layout), tensor_of, settle)
    call.join(zero)
    for number, (_, v) in enumerate(arrays.row):
        call.give(("row", number), tensor_of[v].contiguous())
    buffers: list[Tensor] = []
    for number in range(leaves):
        size = layout.extra + (layout.nodes if full[number] else 2 * layout.rows)
        buffer = like.new_empty(size, *program.leaves[number])
        at = 0
        for part in ([starts[number]] if layout.anew else []) + [
            starts[leaves * (j + 1) + number] for j in reversed(range(layout.history))
        ]:
            buffer[at : at + layout.rows] = part
            at += layout.rows
        call.give(("state", number), buffer)
        buffers.append(buffer)
    written: dict[Value, Tensor] = {}
    sums, kept = {}, []
    for number, (kind, v) in enumerate(arrays.node):
        if kind == "lifted":
            sums[v] = number
        elif v in program.homes:
            kept.append((number, program.homes[v]))
        else:
            array = tensor_of[v].contiguous() if kind == "into" else like.new_empty(layout.count(v.edges), *v.shape)
            call.give(("node", number), array)
            if kind != "into":
                written[v] = array
    blocks: list[list[Tensor]] = []
    with torch.no_grad():
        for low, high, first, last in _blocks(program, layout, like):
            if program.makes_sums:
                block = {v: spare.take(like, last - first, v.size) for v in program.lifted}
            else:
                block = dict(zip(program.lifted, _sums(program, tensor_of, first, last)))
            for v, number in sums.items():
                call.give(("node", number), block[v], first)
            for number, home in kept:
                call.give(("node", number), block[home.of], first, home.start)
            call.run(low, high)
            if program.needs is None:
                del call.alive[len(call.alive) - len(sums) - len(kept) :]
            else:
                blocks.append(list(block.values()))
    results = []
    for v in plan.exported:
        results.append(buffers[program.as_state[v]][layout.extra :] if v in program.as_state else written[v])
    for back in range(layout.history):
        results += [buffer.index_select(0, (layout.last if whole else layout.rolling[2])[back]) for buffer, whole in zip(buffers, full)]
    return results, Memory(buffers, [written[v] for v in program.own_arrays], zero, blocks)


def _backward(
    program: Program,
    layout: Layout,
    into: Sequence[Tensor],
    memory: Memory,
    grads: Sequence[Tensor | None],
    wanted: Sequence[bool],
    again: bool,
) -> list[Tensor | None]:
    """again: what is stored must not be written over."""
    plan, leaves, buffers = program.plan, len(program.leaves), memory.buffers
    like = buffers[0]
    kernel, arrays = program.backward
    tensor_of = dict(zip(plan.into, into))
    written = dict(zip(program.own_arrays, memory.written))
    rolls = layout.chain
    own, before, end = layout.rolling if rolls else (layout.own, layout.before, layout.last)

    def settle(call: Call) -> None:
        call.give("acc own", own)
        call.give("acc before", before)
        call.set("clear", int(rolls))
        for number in range(leaves):
            call.give(("own", number), layout.own)
            call.give(("state before", number), layout.before)

    call = Call(kernel, arrays, layout, like, _work(program, layout), tensor_of, settle)
    call.join(memory.zero)
    for number, (_, v) in enumerate(arrays.row):
        call.give(("row", number), tensor_of[v].contiguous())
    accs = []
    d_ends = grads[len(plan.exported) :]
    for number in range(leaves):
        acc = like.new_zeros(layout.extra + (2 * layout.rows if rolls else layout.nodes), *program.leaves[number])
        for part in range(layout.history):
            d = d_ends[part * leaves + number]
            if d is not None:
                acc.index_add_(0, end[part], d)
        accs.append(acc)
        call.give(("acc", number), acc)
        call.give(("state", number), buffers[number])
    given = dict(zip(program.grad, grads))
    whole = {program.gradients[v] for v in program.into_rows if v in program.gradients}  # asked for by node
    deltas: dict[Value, Tensor] = {}
    sums, kept, passing = {}, [], {}
    for number, (kind, v) in enumerate(arrays.node):
        if kind == "lifted":
            sums[v] = number
        elif v in program.homes and kind == "keep":
            kept.append((number, program.homes[v]))
        elif kind == "delta" and v not in whole:
            passing[v] = number
        else:
            if kind == "into":
                array = tensor_of[v].contiguous()
            elif kind == "grad":
                d = given[v]
                array = like.new_zeros(layout.nodes, *v.shape) if d is None else d.contiguous()
            elif kind == "delta":
                array = deltas[v] = like.new_empty(layout.count(v.edges), *v.shape)
            else:
                array = written[v]
            call.give(("node", number), array)
    over = {} if again else {d: v for v, d in program.over.items()}
    joint = _joint(program, layout, like, tensor_of, memory.zero)
    parts = {v: Sum(program, v, tensor_of, joint) for v in {c.to: None for c in program.contributions}}
    passed: dict[Value, list[Tensor]] = {}  # the gradients of each x of x W + b, block by block
    needed = dict(zip(plan.into, wanted))
    nodes = _Nodes(program, layout, tensor_of, buffers, written)
    for (low, high, first, last), block in reversed(list(zip(_blocks(program, layout, like), memory.blocks))):
        of = dict(zip(program.lifted, block))
        for v, number in sums.items():
            call.give(("node", number), of[v], first)
        for number, home in kept:
            call.give(("node", number), of[home.of], first, home.start)
        parts_of = {False: slice(first, last), True: slice(int(layout.edge_offsets[low]), int(layout.edge_offsets[high]))}  # True: of edges
        here = {
            d: of[over[d]]
            if d in over
            else like.new_empty(_length(parts_of[d.edges]), *d.shape, dtype=torch.bfloat16 if d in program.halves else like.dtype)
            for d in passing
        }
        for d, number in passing.items():
            call.give(("node", number), here[d], parts_of[d.edges].start)
        call.run(low, high)
        nodes.part, nodes.sums = parts_of, of
        joined = torch.from_numpy(np.flatnonzero(layout.joined[first:last])) if memory.zero else None
        here |= {d: array[first:last] for d, array in deltas.items()}
        for shared in joint.values():
            shared.add(nodes, here)
        for total in parts.values():
            total.add(nodes, here, joined)
        back: dict[Value, Tensor] = {}
        for v, (x, w, _) in program.lifted.items():
            if v in program.gradients and needed[x]:
                d = product(here[program.gradients[v]], tensor_of[w].t())
                back[x] = back[x] + d if x in back else d
        for x, d in back.items():
            passed.setdefault(x, []).append(d)

    if not again:
        for block in memory.blocks:
            for array in block:
                spare.give(array)
    found: list[Tensor | None] = []
    for v in plan.into:
        if v.rows:
            d = deltas[program.gradients[v]] if v in program.gradients else None
            if d is not None and plan.reach[v] is Reach.SEQUENCE:
                d = d.new_zeros(layout.rows, *v.shape).index_add_(0, layout.index["row"], d)
            if v in passed:
                through = torch.cat(passed[v][::-1]) if len(passed[v]) > 1 else passed[v][0]
                d = through if d is None else d + through
            found.append(d)
        else:
            found.append(parts[v].result() if v in parts else None)
    for at in range(leaves * (layout.history + 1)):
        part, number = divmod(at, leaves)
        if not wanted[len(plan.into) + at] or (part == 0 and not layout.anew):
            found.append(None)
            continue
        section = 0 if part == 0 else layout.rows * (layout.anew + layout.history - part)
        found.append(accs[number][section : section + layout.rows].clone())
    return found


def _length(part: slice) -> int:
    return int(part.stop - part.start)


class _Nodes:
    """Forward values of some of the nodes, for the products after the loop."""

    def __init__(
        self, program: Program, layout: Layout, tensor_of: dict[Value, Tensor], buffers: Sequence[Tensor], written: dict[Value, Tensor]
    ):
        self.program, self.layout, self.buffers = program, layout, buffers
        self.known = {**tensor_of, **written}
        self.part: dict[bool, slice] = {}  # of the nodes, and of the edges
        self.sums: dict[Value, Tensor] = {}

    def of(self, v: Value) -> Tensor:
        plan, layout, here = self.program.plan, self.layout, self.part[v.edges]
        if v in self.sums:
            return self.sums[v]
        if v in self.known:
            if v.rows and plan.reach.get(v) is Reach.SEQUENCE:
                return self.known[v].index_select(0, layout.index["row"][here])
            return self.known[v][here] if v.rows else self.known[v]
        if v in plan.after:
            return self.buffers[plan.after.index(v)][layout.extra + here.start : layout.extra + here.stop]
        for slot, parts in enumerate(plan.before):
            if v in parts:
                buffer = self.buffers[parts.index(v)]
                if layout.shifted:
                    start = int(layout.before[0, 0])
                    return buffer[start + here.start : start + here.stop]
                return buffer.index_select(0, layout.index["before"][here, slot])
        if v.kind == "narrow":
            return self.of(v.args[0]).narrow(v.attr[0] + 1, v.attr[1], v.shape[v.attr[0]])
        if v.kind in ("reshape", "stop"):
            return self.of(v.args[0]).reshape(_length(here), *v.shape)
        if v.kind == "spread":
            return self.of(v.args[0]).index_select(0, layout.index["owner"][here] - self.part[False].start)
        raise AssertionError(f"{v} was not stored")


class Joint:
    """The gradients that one δ gives: it is read once for all products with it, and for its own sum."""

    def __init__(self, delta: Value, products: list[Contribution], sums: list[Contribution]):
        self.delta, self.products, self.sums = delta, products, sums
        self.totals: list[Tensor] | None = None

    def add(self, nodes: _Nodes, deltas: dict[Value, Tensor]) -> None:
        operands = [nodes.of(c.a) for c in self.products if c.a is not None]
        rows = [t if t.stride(-1) == 1 else t.contiguous() for t in (deltas[self.delta], *operands)]
        self.totals = contraction_of(is_lowered())(rows[0], rows[1:], self.totals)

    def result(self, c: Contribution) -> Tensor:
        assert self.totals is not None
        if c in self.sums:
            return self.totals[0][: self.delta.size]
        return cut(self.totals[1 + self.products.index(c)], self.delta.size, c.to.shape[0]).t()


def _joint(program: Program, layout: Layout, like: Tensor, tensor_of: dict[Value, Tensor], zero: bool) -> dict[Value, Joint]:
    """By δ, where it pays, and where δ is in bfloat16."""
    low = is_lowered()
    if like.dtype is not torch.float32 or contraction_of(low) is None:
        return {}
    found = {}
    for delta in {c.delta: None for c in program.contributions if len(c.delta.shape) == 1}:
        among = [c for c in program.contributions if c.delta is delta and c.at is None]
        products = [c for c in among if c.a is not None and len(c.a.shape) == 1 and (low or is_turned(tensor_of[c.to]))]
        sums = [c for c in among if c.a is None and c.to.shape == delta.shape]
        large = layout.count(delta.edges) * delta.size * sum(c.to.shape[0] for c in products) >= LARGE
        if (large and not zero) or delta in program.halves:
            found[delta] = Joint(delta, products, sums)
    return found


class Sum:
    """The gradient of something prepared: its contributions, summed block by block."""

    def __init__(self, program: Program, v: Value, tensor_of: dict[Value, Tensor], joint: dict[Value, Joint]):
        everything = [c for c in program.contributions if c.to is v]
        self.joint = [(j, c) for c in everything if (j := joint.get(c.delta)) and c in (*j.products, *j.sums)]
        self.contributions = [c for c in everything if all(c is not other for _, other in self.joint)]
        self.states = {leaf for slot in program.plan.before for leaf in slot}
        self.weight = tensor_of[v]
        self.product = WeightGradient(self.weight)
        self.total: Tensor | None = None

    def add(self, nodes: _Nodes, deltas: dict[Value, Tensor], joined: Tensor | None) -> None:
        """joined: which nodes, if not all, have anything but zeros before them."""
        for _, a, delta, at in self.contributions:
            d = deltas[delta]
            if a is not None and at is None:
                x = nodes.of(a)
                if joined is not None and not a.edges and vanishes(a, self.states):
                    x, d = x.index_select(0, joined), d.index_select(0, joined)
                self.product.add(x.reshape(-1, self.weight.shape[0]), d.reshape(-1, self.weight.shape[1]))
                continue
            if a is None or at is None:
                part = d.sum(0).sum_to_size(self.weight.shape)
            else:
                part = (d.t() @ nodes.of(a)).gather(1, nodes.of(at))
            self.total = part if self.total is None else self.total + part

    def result(self) -> Tensor | None:
        found: Tensor | None = None
        for part in (self.product.result(), self.total, *(j.result(c) for j, c in self.joint)):
            if part is not None:
                found = part if found is None else found + part
        return found
