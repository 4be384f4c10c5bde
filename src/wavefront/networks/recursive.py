"""Recursive networks: a cell over trees, from the leaves to the root and back; what is read out; and trees that are learned."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils import _pytree as pytree

from wavefront.cell import Cell, advance, draws_wanted, map_draws, named
from wavefront.errors import ShapeError
from wavefront.structure import Graph, Tree
from wavefront.unfolding import unfold

__all__ = ["LearnedTree", "Recursive", "TreeReadout"]


class Recursive(nn.Module):
    """Any cell, unfolded over a batch of trees (or graphs), from the leaves to the root; and by choice another one from the root down.

        h(node) = f(h(child₁), h(child₂), ..., x(node))               g(node) = f'(g(parent), h(node))        [Goodfellow et al. 2016, 10.6]

    cell     of as many slots as a node has children at most, or slots="any"
    down     a cell of one slot whose inputs are the outputs of `cell`: each node hears of what lies around it. The outputs are [h, g] then, the state
             is the pair
    backend  as in `unfold`

    Called with

        x        [nodes, cell.inputs] in the numbering of the tree, or [leaves, cell.inputs]: x is zero at the inner nodes then
        tree     a `Tree`, or a `Graph`
        state    one row per tree, where a child is missing; None: the cell's initial state
        context  [trees, ...], given once per tree

    it returns outputs [nodes, outputs], and the state of each root.

    >>> from wavefront import Recursive, Tree, cells
    >>> tree = Tree.nested([(("the", "cat"), "sleeps"), ("it", "rains")])
    >>> net = Recursive(cells.TreeLSTM(3, 5), down=cells.GRU(5, 2))
    >>> outputs, (root, _) = net(torch.randn(5, 3), tree)     # five words, eight nodes
    >>> outputs.shape, root.h.shape
    (torch.Size([8, 7]), torch.Size([2, 5]))
    """

    def __init__(self, cell: Cell, down: Cell | None = None, backend: str = "auto"):
        super().__init__()
        for one in (cell,) if down is None else (cell, down):
            if not isinstance(one, Cell):
                raise TypeError(
                    f"Recursive unfolds a wavefront.Cell, got {type(one).__name__}. Derive yours from Cell, with a step(state, x)."
                )
        if down is not None and (down.inputs != cell.outputs or down.slots not in (1, "any")):
            raise ShapeError(
                f"the way down takes the outputs of the way up, {cell.outputs} of them, and one parent's state;"
                f" {named(down)} has inputs={down.inputs}, slots={down.slots!r}."
            )
        self.cell, self.down, self.backend = cell, down, backend

    @property
    def outputs(self) -> int:
        return self.cell.outputs + (0 if self.down is None else self.down.outputs)

    def forward(self, x: Any, tree: Graph, state: Any = None, context: Any = None) -> tuple[Tensor, Any]:
        if isinstance(tree, Tree):
            x = pytree.tree_map(lambda leaf: leaf if leaf.shape[0] == tree.nodes else tree.at_leaves(leaf), x)
        below, above = (state, None) if self.down is None else state or (None, None)
        packed = pytree.tree_map(tree.pack, x)
        up, root = unfold(self.cell, tree, packed, below, context=context, backend=self.backend)
        up = tree.unpack(up)
        if self.down is None:
            return up, root
        if not isinstance(tree, Tree) or tree.down:
            raise ShapeError(f"the way down needs a Tree whose steps lead to the root, got a {type(tree).__name__}.")
        back = tree.top_down()
        down, last = unfold(self.down, back, back.pack(up), above, backend=self.backend)
        return torch.cat([up, back.unpack(down)], -1), (root, last)


class TreeReadout(nn.Module):
    """Outputs at nodes of trees: o = V h + c, at the root, at every node, or at chosen ones.

    h [nodes, inputs], tree, chosen -> o, one row for each node that is asked for: in the order of the trees for "root", of the nodes else

    at      "root" or "nodes"
    chosen  instead: a bool for each node (those with a label), or the numbers of some

    >>> from wavefront import Tree
    >>> tree, h = Tree.nested([("a", ("b", "c")), "d"]), torch.randn(6, 5)
    >>> V = TreeReadout(5, 2)
    >>> V(h, tree).shape, V(h, tree, chosen=torch.tensor([4])).shape, TreeReadout(5, 2, at="nodes")(h, tree).shape
    (torch.Size([2, 2]), torch.Size([1, 2]), torch.Size([6, 2]))
    """

    def __init__(self, inputs: int, outputs: int, at: str = "root"):
        super().__init__()
        if at not in ("root", "nodes"):
            raise ValueError(f'at is "root" or "nodes", got {at!r}. Other nodes? Give their numbers as chosen=.')
        self.V, self.at = nn.Linear(inputs, outputs), at

    def forward(self, h: Tensor, tree: Tree, chosen: Tensor | None = None) -> Tensor:
        if h.dim() != 2 or h.shape[0] != tree.nodes:
            raise ShapeError(f"expected the outputs of all {tree.nodes} nodes, [{tree.nodes}, {self.V.in_features}], got {list(h.shape)}.")
        if chosen is None and self.at == "nodes":
            return self.V(h)
        return self.V(h[(tree.roots if chosen is None else chosen).to(h.device)])

    def extra_repr(self) -> str:
        return f"at={self.at!r}"


class LearnedTree(nn.Module):
    """Binary trees over sequences where none is given: of all neighbours, again and again, the pair whose parent scores best is joined.

        score of a pair = w · h(parent)              the first output of the cell's step on the pair

    by "score"   the best pair is taken; the sum of the scores of a tree is what a max-margin loss raises for the right tree over all others:
                 `margin`. Nothing flows back through the choice itself  [Socher et al. 2011, Parsing natural scenes and natural language]
    by "gumbel"  in training a pair is drawn by the softmax of the scores, and the gradient passes as if the states had been mixed by it
                 (straight-through, at `temperature`); in eval mode the best is taken  [Choi et al. 2018, arXiv:1707.02786, section 3.2]

    x [B, T, cell.inputs], lengths [B] of at least 1 -> the states of the roots, the trees (a `Tree`, leaves first, as `Tree.balanced`), and their
    scores [B]. T - 1 rounds of at most T - 1 steps: work grows with T², as in both papers.

    >>> from wavefront import cells
    >>> net = LearnedTree(cells.TreeLSTM(3, 5))
    >>> state, tree, score = net(torch.randn(2, 4, 3), lengths=[4, 2])
    >>> state.h.shape, tree.nodes, score.shape
    (torch.Size([2, 5]), 10, torch.Size([2]))
    """

    def __init__(self, cell: Cell, by: str = "gumbel", temperature: float = 1.0):
        super().__init__()
        if by not in ("gumbel", "score"):
            raise ValueError(f'by is "gumbel" or "score", got {by!r}.')
        if cell.slots != 2 or not isinstance(cell.inputs, int):
            raise ShapeError(f"LearnedTree joins two nodes: a cell with slots=2 over vectors, got {named(cell)} with slots={cell.slots!r}.")
        if not temperature > 0:
            raise ValueError(f"temperature is above 0, got {temperature}.")
        self.cell, self.by, self.temperature = cell, by, temperature
        self.w = nn.Linear(cell.outputs, 1, bias=False)

    def forward(self, x: Tensor, lengths: Any = None) -> tuple[Any, Tree, Tensor]:
        length = self._lengths(x, lengths)
        batch, steps = x.shape[:2]
        x = x.masked_fill((torch.arange(steps, device=x.device) >= length[:, None])[:, :, None], 0)
        missing = self.cell.initial_state(batch * steps)
        nodes, _ = self._step((missing, missing), x.flatten(0, 1))
        leaves, spec = pytree.tree_flatten(nodes)
        here = [leaf.unflatten(0, (batch, steps)) for leaf in leaves]  # the states that are left, [B, places, ...]
        score, merges = x.new_zeros(batch), []
        for places in range(steps, 1, -1):
            pair = (
                pytree.tree_unflatten([leaf[:, :-1].flatten(0, 1) for leaf in here], spec),
                pytree.tree_unflatten([leaf[:, 1:].flatten(0, 1) for leaf in here], spec),
            )
            parents, output = self._step(pair, x.new_zeros(batch * (places - 1), x.shape[2]))
            scores = self.w(output).view(batch, places - 1)
            left = length - (steps - places)  # how many nodes each row has left; a row with one is done
            there = torch.arange(1, places, device=x.device) < left[:, None]
            choice = self._choose(scores, there)
            open_ = left > 1
            merges.append((choice.argmax(1).cpu().numpy(), open_.cpu().numpy()))
            score = score + (choice.detach() * scores.masked_fill(~there, 0)).sum(1) * open_
            here = [
                _merged(leaf, parent.unflatten(0, (batch, places - 1)), choice, open_)
                for leaf, parent in zip(here, pytree.tree_leaves(parents))
            ]
        root = pytree.tree_unflatten([leaf[:, 0] for leaf in here], spec)
        return root, _tree(length.cpu().numpy(), merges), score

    def score(self, x: Tensor, tree: Tree) -> Tensor:
        """The sum of the scores of given trees [trees]; x [leaves, inputs] or [nodes, inputs] as in `Recursive`."""
        outputs, _ = Recursive(self.cell)(x, tree)
        inner = torch.ones(tree.nodes, dtype=torch.bool)
        inner[tree.leaves] = False
        row = torch.empty_like(tree.row).index_copy(0, tree.order, tree.row)
        each = self.w(outputs[inner.to(x.device)])[:, 0]
        return each.new_zeros(tree.rows).index_add(0, row[inner].to(x.device), each)

    @staticmethod
    def margin(best: Tensor, given: Tensor, wrong: Tensor | float = 1.0) -> Tensor:
        """The max-margin loss of a tree, 0 where the given one scores higher than the best found by `wrong`, how far the found one is off.

        L = max(0, score(found) + wrong - score(given))                                             [Socher et al. 2011, eq. 6-7]
        """
        return (best + wrong - given).clamp(min=0)

    def _lengths(self, x: Tensor, lengths: Any) -> Tensor:
        if x.dim() != 3 or x.shape[2] != self.cell.inputs or x.shape[1] == 0:
            raise ShapeError(f"LearnedTree({named(self.cell)}) expects x of [B, T, {self.cell.inputs}], got {list(x.shape)}.")
        length = torch.full((x.shape[0],), x.shape[1]) if lengths is None else torch.as_tensor(lengths)
        if tuple(length.shape) != (x.shape[0],) or bool((length < 1).any()) or bool((length > x.shape[1]).any()):
            raise ShapeError(f"lengths are {x.shape[0]} whole numbers from 1 to {x.shape[1]}, got {length.tolist()}.")
        return length.to(x.device)

    def _step(self, state: Any, x: Tensor) -> tuple[Any, Tensor]:
        drawn = map_draws(lambda draw: draw.sample(draw.shape, x), draws_wanted(self.cell, x.shape[0]))
        return advance(self.cell, state, x, drawn)

    def _choose(self, scores: Tensor, there: Tensor) -> Tensor:
        """One of the pairs that are there, as a row of zeros and a one: [B, pairs]."""
        # the lowest finite number, not minus infinity: a row that is done has no pair, and must not become NaN
        scores = scores.masked_fill(~there, torch.finfo(scores.dtype).min)
        if self.by == "gumbel" and self.training:
            # -log of an exponential is Gumbel's distribution
            noisy = scores - torch.empty_like(scores).exponential_().log()
            soft = F.softmax(noisy.masked_fill(~there, torch.finfo(scores.dtype).min) / self.temperature, 1)
            hard = F.one_hot(soft.argmax(1), scores.shape[1]).to(soft)
            return hard + soft - soft.detach()
        return F.one_hot(scores.argmax(1), scores.shape[1]).to(scores)


def _merged(leaf: Tensor, parent: Tensor, choice: Tensor, open_: Tensor) -> Tensor:
    """States [B, places, ...] with one pair replaced by its parent: [B, places - 1, ...]. A row that is done keeps its first."""
    shape = (*choice.shape, *[1] * (leaf.dim() - 2))
    before = (1 - choice.cumsum(1)).view(shape)  # 1 left of the pair
    after = (choice.cumsum(1) - choice).view(shape)  # 1 right of it
    merged = before * leaf[:, :-1] + choice.view(shape) * parent + after * leaf[:, 1:]
    return torch.where(open_.view(-1, *[1] * (leaf.dim() - 1)), merged, leaf[:, :-1])


def _tree(lengths: np.ndarray, merges: list[tuple[np.ndarray, np.ndarray]]) -> Tree:
    """The trees that merges at places (and whether each row still took part) make; leaves first, from left to right."""
    batch, steps = len(lengths), int(max(lengths, default=1))
    rows = np.arange(batch)
    names = np.tile(np.arange(max(steps, len(merges) + 1)), (batch, 1))  # the node at each place
    parent, slot = np.full((batch, 2 * names.shape[1]), -1), np.zeros((batch, 2 * names.shape[1]), dtype=np.int64)
    fresh = lengths.copy()
    for place, taking in merges:
        row, at = rows[taking], place[taking]
        left, right = names[row, at], names[row, at + 1]
        parent[row, left] = parent[row, right] = names[row, at] = fresh[row]
        slot[row, right] = 1
        fresh[row] += 1
        # what stood right of the pair moves one place to the left
        position = np.arange(names.shape[1] - 1)
        shifted = np.where(position > at[:, None], names[row, 1:], names[row, :-1])
        names[row, :-1] = shifted
    nodes = 2 * lengths - 1
    return Tree.batch([p[:n] for p, n in zip(parent, nodes)], [s[:n] for s, n in zip(slot, nodes)])
