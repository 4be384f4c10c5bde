"""Trees that a network finds itself, over sequences where none is given: neighbours are joined, again and again."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils import _pytree as pytree

from wavefront.cell import Cell, advance, draws_wanted, map_draws, named
from wavefront.errors import ShapeError
from wavefront.networks.recursive import Recursive
from wavefront.structure import Tree

__all__ = ["LearnedTree"]


class LearnedTree(nn.Module):
    """Binary trees over sequences where none is given: of all neighbours, again and again, the pair whose parent scores best is joined.

        score of a pair = w · h(parent)              the first output of the cell's step on the pair

    by "score"   the best pair is taken; the sum of the scores of a tree is what a max-margin loss raises for the right tree over all others:
                 `parsing_loss`. Nothing flows back through the choice  [Socher et al. 2011, Parsing natural scenes and natural language]
    by "gumbel"  in training a pair is drawn by the softmax of the scores, and the gradient passes as if the states had been mixed by it
                 (straight-through, at `temperature`); in eval mode the best is taken  [Choi et al. 2018, arXiv:1707.02786, section 3.2]

    x [B, T, cell.inputs], lengths [B] of at least 1 -> the states of the roots, the trees (a `Tree`, leaves first, as `Tree.balanced`), and their
    scores [B]. To take the best pair, each step is made once: 3T of them. To draw, T - 1 rounds of at most T - 1 steps, as in the paper.

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
        if self.by == "gumbel" and self.training:
            return self._drawn(x, length)
        tree = self.search(x, length)
        outputs, root = Recursive(self.cell)(_flat(x, length), tree)
        return root, tree, self._sums(outputs, tree)

    @torch.no_grad()
    def search(self, x: Tensor, lengths: Any = None, given: Tree | None = None, wrong: float = 0.0) -> Tree:
        """The trees that are found when the best pair is taken; each pair that is no node of the `given` trees scores so much higher."""
        length = self._lengths(x, lengths)
        batch, steps = x.shape[:2]
        rows = torch.arange(batch, device=x.device)
        missing = self.cell.initial_state(batch * steps)
        leaves, _ = self._step((missing, missing), _known(x, length).flatten(0, 1))
        parts, spec = pytree.tree_flatten(leaves)
        # every state that is ever made: the leaves, then two pairs a round, some of which become nodes
        made = [leaf.new_zeros(batch, steps + max(0, steps - 1) + 2 * steps, *leaf.shape[1:]) for leaf in parts]
        for table, leaf in zip(made, parts):
            table[:, :steps] = leaf.unflatten(0, (batch, steps))
        right = None if given is None else _spans(given, length, steps).to(x.device)

        def joined(left: Tensor, right_: Tensor) -> tuple[list[Tensor], Tensor]:
            """States and scores of the parents of pairs of states [B, n]."""
            pair = (pytree.tree_unflatten([table[rows[:, None], which].flatten(0, 1) for table in made], spec) for which in (left, right_))
            state, output = self._step(tuple(pair), x.new_zeros(left.numel(), x.shape[2]))
            return [leaf.unflatten(0, left.shape) for leaf in pytree.tree_leaves(state)], self.w(output).view(left.shape)

        def judged(scores: Tensor, first: Tensor, last: Tensor) -> Tensor:
            return scores if right is None else scores + wrong * (~right[rows[:, None], first, last]).to(scores)

        places = torch.arange(steps, device=x.device)
        here, first, last = (
            places.repeat(batch, 1) for _ in range(3)
        )  # at each place: the state that is there, and which leaves are below it
        fresh, merges = steps, []
        states, scores = joined(here[:, :-1], here[:, 1:])
        for table, leaf in zip(made, states):
            table[:, fresh : fresh + steps - 1] = leaf
        pair, fresh = fresh + places[: steps - 1].repeat(batch, 1), fresh + steps - 1
        scores = judged(scores, first[:, :-1], last[:, 1:])
        for left in range(steps, 1, -1):  # places that are looked at
            there = places[1:left] < (length - (steps - left))[:, None]
            place = scores.masked_fill(~there, -torch.inf).argmax(1)
            merges.append((place.cpu().numpy(), there[:, 0].cpu().numpy()))
            here = here.scatter(1, place[:, None], pair.gather(1, place[:, None]))
            last = last.scatter(1, place[:, None], last.gather(1, place[:, None] + 1))
            here, first, last = (_without(v, place + 1) for v in (here, first, last))
            if left == 2:
                break
            pair, scores = (_without(v, place) for v in (pair, scores))
            touched = torch.stack([(place - 1).clamp(min=0), place.clamp(max=left - 3)], 1)  # the pairs that the new node is in
            states, new = joined(here.gather(1, touched), here.gather(1, touched + 1))
            for table, leaf in zip(made, states):
                table[:, fresh : fresh + 2] = leaf
            pair = pair.scatter(1, touched, torch.arange(fresh, fresh + 2, device=x.device).repeat(batch, 1))
            scores = scores.scatter(1, touched, judged(new, first.gather(1, touched), last.gather(1, touched + 1)))
            fresh += 2
        return _tree(length.cpu().numpy(), merges)

    def score(self, x: Tensor, tree: Tree) -> Tensor:
        """The sum of the scores of given trees [trees]; x [leaves, inputs] or [nodes, inputs] as in `Recursive`."""
        return self._sums(Recursive(self.cell)(x, tree)[0], tree)

    def parsing_loss(self, x: Tensor, given: Tree, lengths: Any = None, wrong: float = 1.0) -> Tensor:
        """How far the given binary trees are from scoring higher than any other by `wrong` for each node that is wrong: [B].

            L = max(0, max over trees (score(tree) + wrong · nodes of it that are not in the given one) - score(given))

        where the highest is the one that `search` finds.  [Socher et al. 2011, eq. 4-7; Taskar et al. 2004]
        """
        length = self._lengths(x, lengths)
        flat, steps = _flat(x, length), x.shape[1]
        found = self.search(x, length, given, wrong)
        spans = _spans(found, length, steps)
        missed = (spans & ~_spans(given, length, steps)).flatten(1).sum(1).to(x)
        return self.margin(self.score(flat, found), self.score(flat, given), wrong * missed)

    @staticmethod
    def margin(best: Tensor, given: Tensor, wrong: Tensor | float = 1.0) -> Tensor:
        """The max-margin loss of a tree, 0 where the given one scores higher than the best found by `wrong`, how far the found one is off.

        L = max(0, score(found) + wrong - score(given))                                             [Socher et al. 2011, eq. 6-7]
        """
        return (best + wrong - given).clamp(min=0)

    def _drawn(self, x: Tensor, length: Tensor) -> tuple[Any, Tree, Tensor]:
        """Pairs drawn by the softmax of their scores, with a gradient to the scores."""
        batch, steps = x.shape[:2]
        missing = self.cell.initial_state(batch * steps)
        nodes, _ = self._step((missing, missing), _known(x, length).flatten(0, 1))
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

    def _sums(self, outputs: Tensor, tree: Tree) -> Tensor:
        """The scores of the inner nodes of each tree."""
        inner = torch.ones(tree.nodes, dtype=torch.bool)
        inner[tree.leaves] = False
        row = torch.empty_like(tree.row).index_copy(0, tree.order, tree.row)
        each = self.w(outputs[inner.to(outputs.device)])[:, 0]
        return each.new_zeros(tree.rows).index_add(0, row[inner].to(outputs.device), each)

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
        """One of the pairs that are there, drawn, as a row of zeros and a one: [B, pairs]."""
        # the lowest finite number, not minus infinity: a row that is done has no pair, and must not become NaN
        lowest = torch.finfo(scores.dtype).min
        # -log of an exponential is Gumbel's distribution
        noisy = scores - torch.empty_like(scores).exponential_().log()
        soft = F.softmax(noisy.masked_fill(~there, lowest) / self.temperature, 1)
        hard = F.one_hot(soft.argmax(1), scores.shape[1]).to(soft)
        return hard + soft - soft.detach()


def _known(x: Tensor, length: Tensor) -> Tensor:
    """x [B, T, ...] with zeros beyond the lengths."""
    return x.masked_fill((torch.arange(x.shape[1], device=x.device) >= length[:, None])[:, :, None], 0)


def _flat(x: Tensor, length: Tensor) -> Tensor:
    """x [B, T, ...] -> [leaves, ...], row after row."""
    return x[torch.arange(x.shape[1], device=x.device) < length[:, None]]


def _without(values: Tensor, place: Tensor) -> Tensor:
    """[B, places] without one place in each row: what stood right of it moves to the left."""
    position = torch.arange(values.shape[1] - 1, device=values.device)
    return values.gather(1, position + (position >= place[:, None]))


def _merged(leaf: Tensor, parent: Tensor, choice: Tensor, open_: Tensor) -> Tensor:
    """States [B, places, ...] with one pair replaced by its parent: [B, places - 1, ...]. A row that is done keeps its first."""
    shape = (*choice.shape, *[1] * (leaf.dim() - 2))
    before = (1 - choice.cumsum(1)).view(shape)  # 1 left of the pair
    after = (choice.cumsum(1) - choice).view(shape)  # 1 right of it
    merged = before * leaf[:, :-1] + choice.view(shape) * parent + after * leaf[:, 1:]
    return torch.where(open_.view(-1, *[1] * (leaf.dim() - 1)), merged, leaf[:, :-1])


def _spans(trees: Tree, length: Tensor, steps: int) -> Tensor:
    """Which leaves the nodes are over, [B, T, T]: whether a node begins at leaf i and ends at leaf j. Leaves are in the order of their numbers."""
    place = torch.full((trees.nodes,), -1)
    place[trees.leaves] = torch.cat([torch.arange(n) for n in length.tolist()])
    parent = trees.parent.numpy()
    first, last = np.where(place < 0, steps, place), place.numpy().copy()
    for front in list(trees.fronts())[:-1]:  # from the leaves up
        nodes = trees.order[front].numpy()
        nodes = nodes[parent[nodes] >= 0]
        np.minimum.at(first, parent[nodes], first[nodes])
        np.maximum.at(last, parent[nodes], last[nodes])
    found = torch.zeros(trees.rows, steps, steps, dtype=torch.bool)
    row = torch.empty_like(trees.row).index_copy(0, trees.order, trees.row)
    found[row, torch.from_numpy(first), torch.from_numpy(last)] = True
    return found


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
