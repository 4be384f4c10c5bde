"""A plan in torch operations, its carried part front by front: what the native code is to equal, what second derivatives go through, and what runs
a step that no native code can be made for. What each front costs does not depend on how many there are, and autograd keeps what it needs.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from wavefront.engine.graph import OWNER, Recipe, Value, evaluate, order
from wavefront.engine.layout import Layout
from wavefront.engine.plan import Plan, Reach

__all__ = ["replay"]


def replay(plan: Plan, layout: Layout, into: Sequence[Tensor], starts: Sequence[Tensor]) -> list[Tensor]:
    """-> the exported values of all nodes, then the final states part by part. starts: the initial state's leaves, then those of what was given."""
    leaves, like = len(plan.after), starts[0]
    known = dict(zip(plan.into, into))
    known |= {v: like.new_full((), v.attr) for v in order([*plan.after, *plan.exported]) if v.kind == "const"}
    sums = evaluate(plan.lifted, dict(known), like, layout.nodes)
    outside = {v: t for v, t in known.items() if not v.rows}
    once = {v: t for v, t in known.items() if v.rows and plan.reach[v] is Reach.SEQUENCE}
    # split at once: a slice for each front would give each a gradient of the size of all
    by_front = {v: t.split(layout.sizes.tolist()) for v, t in (*known.items(), *zip(plan.lifted, sums)) if v.rows and v not in once}
    states = [leaf for slot in plan.before for leaf in slot]
    recipe = Recipe([*plan.after, *plan.exported], [*outside, *once, *by_front, *states])
    blocks = []
    for number in range(leaves):
        given = [starts[leaves * (j + 1) + number] for j in reversed(range(layout.history))]
        blocks.append(([starts[number]] if layout.anew else []) + given)
    kept: list[list[Tensor]] = [[] for _ in plan.exported]
    *gathers, ends = layout.gathers
    for front, slots in enumerate(gathers):
        first, last = layout.offsets[front : front + 2].tolist()
        env: dict[Value, Tensor] = outside | {v: parts[front] for v, parts in by_front.items()}
        env |= {v: _rows_of(t, layout.row[first:last]) for v, t in once.items()}
        if layout.owner is not None:
            low, high = layout.edge_offsets[front : front + 2]
            env[OWNER] = torch.from_numpy(layout.owner[low:high] - first).to(like.device)
        for gather, parts in zip(slots, plan.before):
            env |= {leaf: gather.of(block) for leaf, block in zip(parts, blocks)}
        found = recipe.run(env, like, last - first)
        for block, new in zip(blocks, found):
            block.append(new)
        for k, value in enumerate(found[leaves:]):
            kept[k].append(value)
    results = [torch.cat(k) if k else like.new_zeros(0, *v.shape) for k, v in zip(kept, plan.exported)]
    return results + [gather.of(block) for gather in ends for block in blocks]


def _rows_of(t: Tensor, row: np.ndarray) -> Tensor:
    """What is held once per sequence, for the nodes of a front: most often of all sequences, or of the longest, which come first."""
    if (np.diff(row) == 1).all() and row[0] == 0:
        return t[: len(row)] if len(row) < len(t) else t
    return t.index_select(0, torch.from_numpy(row).to(t.device))
