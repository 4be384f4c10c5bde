"""The compiled loops as one operation of autograd: tensors in, tensors out, gradients for any of them."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wavefront.engine.backends.compiled import threads
from wavefront.engine.backends.compiled.kernel import Kernel, Pack
from wavefront.engine.backends.compiled.program import Arrays, Program
from wavefront.engine.backends.compiled.sparse import gathered
from wavefront.engine.graph import PRODUCTS, Value, evaluate
from wavefront.engine.layout import Layout
from wavefront.engine.loop import replay
from wavefront.engine.plan import Reach
from wavefront.engine.process import home_process
from wavefront.engine.products import is_lowered, lowered, weight_gradient

__all__ = ["Carried", "carried"]

SMALL = 2_000_000  # additions and multiplications below which a second thread costs more than it brings: some ten microseconds of work


def carried(
    program: Program, layout: Layout, into: Sequence[Tensor], starts: Sequence[Sequence[Tensor]]
) -> tuple[list[Tensor], list[list[Tensor]]]:
    """Run the loop. into: the values of `plan.into`; starts: the initial state's leaves, then those of each part of what was given.

    -> the values of `plan.exported` for all nodes, and the final states, part by part.
    """
    flat = [leaf for start in starts for leaf in start]
    if program.needs is None:
        results = _forward(program, layout, into, flat)[0]
    else:
        results = Carried.apply(program, layout, len(into), *into, *flat)
    count, leaves = len(program.plan.exported), len(program.leaves)
    ends = results[count:]
    return list(results[:count]), [list(ends[k : k + leaves]) for k in range(0, len(ends), leaves)]


class Carried(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, program: Program, layout: Layout, count: int, *tensors: Tensor) -> tuple[Tensor, ...]:
        into, starts = tensors[:count], tensors[count:]
        results, buffers, arrays = _forward(program, layout, into, starts)
        ctx.program, ctx.layout, ctx.count, ctx.low = program, layout, count, is_lowered()
        ctx.save_for_backward(*tensors, *buffers, *arrays)
        ctx.sizes = len(tensors), len(buffers)
        ctx.set_materialize_grads(False)
        return tuple(results)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
        program, layout, count = ctx.program, ctx.layout, ctx.count
        saved = ctx.saved_tensors
        n, m = ctx.sizes
        tensors, buffers, arrays = saved[:n], saved[n : n + m], saved[n + m :]
        if torch.is_grad_enabled():  # somebody asks for a second derivative: through plain torch, exactly
            return None, None, None, *_again(program, layout, tensors, count, grads, ctx.needs_input_grad[3:])
        with lowered(ctx.low):
            found = _backward(program, layout, tensors[:count], buffers, arrays, grads, ctx.needs_input_grad[3:])
        return None, None, None, *found


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


def _address(array: np.ndarray | Tensor) -> int:
    return array.ctypes.data if isinstance(array, np.ndarray) else array.data_ptr()


class Call:
    """One call of a kernel: gathers what it has to be handed."""

    def __init__(self, kernel: Kernel, arrays: Arrays, layout: Layout, like: Tensor, work: int):
        self.kernel, self.arrays, self.layout, self.like = kernel, arrays, layout, like
        wanted = torch.get_num_threads() if home_process() else 1
        self.slices = max(1, min(wanted, layout.rows)) if work >= SMALL else 1
        starts, counts, nodes = layout.shares(self.slices)
        self.most = int(counts.max(initial=0))
        self.scratch = like.new_empty(self.slices, max(1, (kernel.schedule.scratch + kernel.turned) * self.most))
        self.values: dict[Any, int] = {
            "fronts": layout.fronts,
            "starts": _address(starts),
            "counts": _address(counts),
            "list": _address(nodes),
            "row": _address(layout.row),
            "most": self.most,
            "scratch": self.scratch.data_ptr(),
            "scratch_size": self.scratch.shape[1],
            "slices": self.slices,
            "clear": 0,
            "turned": kernel.schedule.scratch * self.most,
        }
        self.alive: list[Any] = [starts, counts, nodes]

    def give(self, key: Any, array: np.ndarray | Tensor) -> None:
        self.values[key] = _address(array)
        self.alive.append(array)

    def run(self, tensor_of: dict[Value, Tensor]) -> None:
        fixed = [v for _, v in self.arrays.fixed]
        weights = [w for pack in self.kernel.packs for w, _ in pack.windows]
        weights += [v for pack in self.kernel.sparse for v in (pack.weight, pack.sources)]
        evaluate([*fixed, *weights], tensor_of, self.like, 0)
        for number, v in enumerate(fixed):
            self.give(("fixed", number), tensor_of[v].contiguous())
        for number, pack in enumerate(self.kernel.packs):
            self.give(("pack", number), packed(pack, tensor_of, self.kernel.width))
        for number, sparse in enumerate(self.kernel.sparse):
            for part, array in gathered(sparse, tensor_of[sparse.weight], tensor_of[sparse.sources], self.kernel.width)._asdict().items():
                self.give((part, number), array)
        table = (ctypes.c_int64 * len(self.kernel.arguments))(*(self.values[key] for key in self.kernel.arguments))
        threads.run(self.kernel, table, self.slices)


def packed(pack: Pack, tensor_of: dict[Value, Tensor], width: int) -> Tensor:
    """The weights of a group's k loops, in the order in which they are read."""
    count = -(-pack.columns // width)
    windows = []
    for weight, column in pack.windows:
        w = tensor_of[weight][:, column : column + pack.columns]
        padded = w.new_zeros(pack.rows, count * width) if w.shape[1] < count * width else w
        if padded is not w:
            padded[:, : w.shape[1]] = w
        windows.append(padded.unflatten(1, (count, width)))
    both = torch.stack(windows, 1) if len(windows) > 1 else windows[0][:, None]  # [K, window, panel, lane]
    whole = count - count % pack.panels
    out = both.new_empty(pack.rows * len(windows) * count * width)
    cut = pack.rows * len(windows) * whole * width
    if whole:
        source = both[:, :, :whole].unflatten(2, (whole // pack.panels, pack.panels)).permute(2, 0, 1, 3, 4)
        out[:cut].view(source.shape).copy_(source)
    if whole < count:
        source = both[:, :, whole:]
        out[cut:].view(source.shape).copy_(source)
    return out


def _work(program: Program, layout: Layout) -> int:
    return layout.nodes * max(1, sum(2 * v.args[1].size if v.kind in PRODUCTS else 10 * v.size for v in program.plan.carried))


def _forward(
    program: Program, layout: Layout, into: Sequence[Tensor], starts: Sequence[Tensor]
) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """-> exported and final values; the buffers of states; what was stored."""
    plan, leaves = program.plan, len(program.leaves)
    like = starts[0]
    kernel, arrays = program.forward
    tensor_of = dict(zip(plan.into, into))
    call = Call(kernel, arrays, layout, like, _work(program, layout))
    rolls = program.needs is None and layout.chain
    buffers: list[Tensor] = []
    ends: list[np.ndarray] = []
    for number in range(leaves):
        full = not rolls or number in program.as_state.values()
        size = layout.extra + (layout.nodes if full else 2 * layout.rows)
        buffer = like.new_empty(size, *program.leaves[number])
        at = 0
        for part in ([starts[number]] if layout.anew else []) + [
            starts[leaves * (j + 1) + number] for j in reversed(range(layout.history))
        ]:
            buffer[at : at + layout.rows] = part
            at += layout.rows
        own, before, end = (layout.own, layout.before, layout.ends) if full else layout.rolling
        call.give(("own", number), own)
        call.give(("state before", number), before)
        call.give(("state", number), buffer)
        buffers.append(buffer)
        ends.append(end)
    written: dict[Value, Tensor] = {}
    for number, (kind, v) in enumerate(arrays.node):
        if kind == "into":
            array = tensor_of[v].contiguous()
        else:
            array = written[v] = like.new_empty(layout.nodes, *v.shape)
        call.give(("node", number), array)
    for number, (_, v) in enumerate(arrays.row):
        call.give(("row", number), tensor_of[v].contiguous())
    call.run(tensor_of)
    results = []
    for v in plan.exported:
        results.append(buffers[program.as_state[v]][layout.extra :] if v in program.as_state else written[v])
    for back in range(layout.history):
        results += [buffer.index_select(0, torch.from_numpy(end[:, back])) for buffer, end in zip(buffers, ends)]
    return results, buffers, [written[v] for v in (*program.exports, *program.keeps)]


def _backward(
    program: Program,
    layout: Layout,
    into: Sequence[Tensor],
    buffers: Sequence[Tensor],
    stored: Sequence[Tensor],
    grads: Sequence[Tensor | None],
    wanted: Sequence[bool],
) -> list[Tensor | None]:
    plan, leaves = program.plan, len(program.leaves)
    like = buffers[0]
    kernel, arrays = program.backward
    tensor_of = dict(zip(plan.into, into))
    written = dict(zip((*program.exports, *program.keeps), stored))
    call = Call(kernel, arrays, layout, like, _work(program, layout))
    rolls = layout.chain
    own, before, end = layout.rolling if rolls else (layout.own, layout.before, layout.ends)
    call.give("acc own", own)
    call.give("acc before", before)
    call.values["clear"] = int(rolls)
    accs = []
    d_ends = grads[len(plan.exported) :]
    for number in range(leaves):
        acc = like.new_zeros(layout.extra + (2 * layout.rows if rolls else layout.nodes), *program.leaves[number])
        for part in range(layout.history):
            d = d_ends[part * leaves + number]
            if d is not None:
                acc.index_add_(0, torch.from_numpy(end[:, part]), d)
        accs.append(acc)
        call.give(("acc", number), acc)
        call.give(("own", number), layout.own)
        call.give(("state before", number), layout.before)
        call.give(("state", number), buffers[number])
    given = dict(zip(program.grad, grads))
    deltas: dict[Value, Tensor] = {}
    for number, (kind, v) in enumerate(arrays.node):
        if kind == "into":
            array = tensor_of[v].contiguous()
        elif kind == "grad":
            d = given[v]
            array = like.new_zeros(layout.nodes, *v.shape) if d is None else d.contiguous()
        elif kind == "delta":
            array = deltas[v] = like.new_empty(layout.nodes, *v.shape)
        else:
            array = written[v]
        call.give(("node", number), array)
    for number, (_, v) in enumerate(arrays.row):
        call.give(("row", number), tensor_of[v].contiguous())
    call.run(tensor_of)

    tensors = _Nodes(program, layout, tensor_of, buffers, written)
    found: list[Tensor | None] = []
    for v in plan.into:
        if v.rows:
            d = deltas[program.gradients[v]] if v in program.gradients else None
            if d is not None and plan.reach[v] is Reach.SEQUENCE:
                d = d.new_zeros(layout.rows, *v.shape).index_add_(0, layout.index["row"], d)
            found.append(d)
        else:
            found.append(_contributed(program, v, tensor_of[v], tensors, deltas))
    for at in range(leaves * (layout.history + 1)):
        part, number = divmod(at, leaves)
        if not wanted[len(plan.into) + at] or (part == 0 and not layout.anew):
            found.append(None)
            continue
        section = 0 if part == 0 else layout.rows * (layout.anew + layout.history - part)
        found.append(accs[number][section : section + layout.rows].clone())
    return found


class _Nodes:
    """Forward values for all nodes at once, for the products after the loop."""

    def __init__(
        self, program: Program, layout: Layout, tensor_of: dict[Value, Tensor], buffers: Sequence[Tensor], written: dict[Value, Tensor]
    ):
        self.program, self.layout, self.buffers = program, layout, buffers
        self.known = {**tensor_of, **written}

    def of(self, v: Value) -> Tensor:
        if v in self.known:
            if v.rows and self.program.plan.reach.get(v) is Reach.SEQUENCE:
                return self.known[v].index_select(0, self.layout.index["row"])
            return self.known[v]
        plan, layout = self.program.plan, self.layout
        if v in plan.after:
            return self.buffers[plan.after.index(v)][layout.extra :]
        for slot, parts in enumerate(plan.before):
            if v in parts:
                buffer = self.buffers[parts.index(v)]
                if layout.shifted:
                    start = int(layout.before[0, 0])
                    self.known[v] = buffer[start : start + layout.nodes]
                else:
                    self.known[v] = buffer.index_select(0, layout.index["before"][:, slot])
                return self.known[v]
        if v.kind == "narrow":
            return self.of(v.args[0]).narrow(v.attr[0] + 1, v.attr[1], v.shape[v.attr[0]])
        if v.kind in ("reshape", "stop"):
            return self.of(v.args[0]).reshape(layout.nodes, *v.shape)
        raise AssertionError(f"{v} was not stored")


def _contributed(program: Program, v: Value, weight: Tensor, nodes: _Nodes, deltas: dict[Value, Tensor]) -> Tensor | None:
    total: Tensor | None = None
    for to, a, delta, at in program.contributions:
        if to is not v:
            continue
        d = deltas[delta]
        if a is None:
            part = d.sum(0).sum_to_size(weight.shape)
        elif at is not None:
            part = (d.t() @ nodes.of(a)).gather(1, nodes.known[at])
        else:
            x = nodes.of(a).reshape(-1, weight.shape[0])
            d = d.reshape(-1, weight.shape[1])
            part = weight_gradient(x, d, weight)
        total = part if total is None else total + part
    return total
