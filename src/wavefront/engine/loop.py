"""The carried part of a plan in plain torch operations, front by front: what the native code is to equal, and what second derivatives go
through."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from wavefront.engine.graph import OWNER, Value, evaluate
from wavefront.engine.layout import Layout
from wavefront.engine.plan import Plan, Reach

__all__ = ["replay"]


def replay(plan: Plan, layout: Layout, into: Sequence[Tensor], starts: Sequence[Tensor]) -> list[Tensor]:
    """-> the exported values of all nodes, then the final states part by part. starts: the initial state's leaves, then those of what was given."""
    leaves = len(plan.after)
    like = starts[0]
    row, before = layout.index["row"], layout.index["before"]
    blocks: list[list[Tensor]] = []
    for number in range(leaves):
        parts = [starts[number]] if layout.anew else []
        parts += [starts[leaves * (j + 1) + number] for j in reversed(range(layout.history))]
        blocks.append(parts)
    kept: list[list[Tensor]] = [[] for _ in plan.exported]
    for number, (first, last) in enumerate(zip(layout.offsets[:-1].tolist(), layout.offsets[1:].tolist())):
        env: dict[Value, Tensor] = {}
        low, high = first, last
        if layout.owner is not None:
            low, high = layout.edge_offsets[number : number + 2].tolist()
            env[OWNER] = layout.index["owner"][low:high] - first
        for v, tensor in zip(plan.into, into):
            if v.rows:
                env[v] = tensor.index_select(0, row[first:last]) if plan.reach[v] is Reach.SEQUENCE else tensor[first:last]
            else:
                env[v] = tensor
        for number in range(leaves):
            together = torch.cat(blocks[number])
            blocks[number] = [together]
            for slot in range(layout.slots):
                env[plan.before[slot][number]] = together.index_select(0, before[low:high, slot])
        found = evaluate([*plan.after, *plan.exported], env, like, last - first)
        for number in range(leaves):
            blocks[number].append(found[number])
        for k, value in enumerate(found[leaves:]):
            kept[k].append(value)
    results = [torch.cat(k) if k else like.new_zeros(0, *v.shape) for k, v in zip(kept, plan.exported)]
    whole = [torch.cat(b) for b in blocks]
    for part in range(layout.history):
        results += [whole[number].index_select(0, layout.index["ends"][:, part]) for number in range(leaves)]
    return results
