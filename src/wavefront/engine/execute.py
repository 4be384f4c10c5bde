"""Running a planned step over a structure: hoisted operations, the loop, deferred operations."""

from __future__ import annotations

import threading
from collections.abc import Hashable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from wavefront.cell import leaves_of, map_draws
from wavefront.engine.graph import OWNER, Recipe, Value, needed, order
from wavefront.engine.layout import Layout, layout_of
from wavefront.engine.loop import replay
from wavefront.engine.plan import Plan, Reach
from wavefront.engine.specimen import fetch

__all__ = ["Planned", "execute"]

_lock = threading.RLock()


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


def execute(problem: Any, planned: Planned, backend: str) -> Any:
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


def _like_first(problem: Any, leaves: list[Tensor]) -> Any:
    """Leaves in the form that the initial state has."""
    first = problem.first
    if isinstance(first, Tensor):
        return leaves[0]
    if isinstance(first, tuple) and hasattr(first, "_fields") and all(isinstance(part, Tensor) for part in first):
        return type(first)(*leaves)
    return pytree.tree_unflatten(leaves, pytree.tree_structure(first))
