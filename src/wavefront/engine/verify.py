"""Whether what was recorded of a step is the step."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from wavefront.engine.differentiate import differentiate
from wavefront.engine.graph import OWNER, Unsupported, Value, evaluate, order
from wavefront.engine.specimen import fetch, specimen

__all__ = ["verify"]


def verify(
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
    names, _, _, step, _ = specimen(problem, rows, edges=5)
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
