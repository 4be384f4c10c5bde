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
from wavefront.structure import Graph, Tree

__all__ = ["LearnedTree"]

Merges = list[tuple[np.ndarray, np.ndarray]]  # round by round, of each row: the place of the pair, and whether the row still took part


class LearnedTree(nn.Module):
    """Binary trees over sequences where none is given: of all neighbours, again and again, the pair whose parent scores best is joined.

        score of a pair = w · h(parent)              the first output of the cell's step on the pair

    by "score"   the best pair is taken, and nothing flows back through the choice: given trees teach it, by `parsing_loss`, or by the `margin`
                 between the scores of whole trees  [Socher et al. 2011, Parsing natural scenes and natural language with recursive neural networks]
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

    def search(self, x: Tensor, lengths: Any = None) -> Tree:
        """The trees that are found when the best pair is taken, without gradients."""
        length = self._lengths(x, lengths)
        return _tree(length.cpu().numpy(), self._search(x, length, None)[0])

    def parsing_loss(self, x: Tensor, given: Tree, lengths: Any = None, wrong: float = 1.0) -> Tensor:
        """How far `search` is from finding the given binary trees, choice by choice: [B].

            L = Σ over choices  max(0, wrong + best score of a pair that is no node of the given tree - best score of one that is)

        where the choices before were right. The margin is that of Socher et al. 2011, between the two best pairs instead of between two whole trees:
        the sum of a tree's scores may be the highest of all and the greedy search for it still go wrong.  [Collins and Roark 2004, section 3]
        """
        length = self._lengths(x, lengths)
        merges, rivals = self._search(x, length, _spans(given, length, x.shape[1]).to(x.device))
        tree = _tree(length.cpu().numpy(), merges)
        # the given trees, and beside them the parents that the wrong pairs would have: a graph, unfolded at once
        first = np.concatenate([[0], np.cumsum(2 * length.cpu().numpy() - 1)])
        row = np.concatenate([rows for rows, _, _ in rivals]) if rivals else np.zeros(0, np.int64)
        pairs = np.concatenate([pair for _, pair, _ in rivals]) if rivals else np.zeros((0, 2), np.int64)
        right = (
            torch.from_numpy(np.concatenate([taken for _, _, taken in rivals]) + first[row]) if rivals else torch.zeros(0, dtype=torch.long)
        )
        child, extra = np.flatnonzero(tree.parent.numpy() >= 0), tree.nodes + np.arange(len(row))
        of_node = torch.empty_like(tree.row).index_copy(0, tree.order, tree.row).numpy()
        graph = Graph(
            np.concatenate([child, (pairs + first[row][:, None]).flatten()]),
            np.concatenate([tree.parent.numpy()[child], extra.repeat(2)]),
            tree.nodes + len(row),
            np.concatenate([tree.slot.numpy()[child], np.tile([0, 1], len(row))]),
            np.concatenate([of_node, row]),
            tree.rows,
            ends=tree.roots,
        )
        outputs, _ = Recursive(self.cell)(F.pad(tree.at_leaves(_flat(x, length)), (0, 0, 0, len(row))), graph)
        scores = self.w(outputs)[:, 0]
        short = (wrong + scores[tree.nodes :] - scores[right.to(x.device)]).clamp(min=0)
        return short.new_zeros(tree.rows).index_add(0, torch.from_numpy(row).to(x.device), short)

    def score(self, x: Tensor, tree: Tree) -> Tensor:
        """The sum of the scores of given trees [trees]; x [leaves, inputs] or [nodes, inputs] as in `Recursive`."""
        return self._sums(Recursive(self.cell)(x, tree)[0], tree)

    @staticmethod
    def margin(best: Tensor, given: Tensor, wrong: Tensor | float = 1.0) -> Tensor:
        """The max-margin loss of a tree, 0 where the given one scores higher than the best found by `wrong`, how far the found one is off.

        L = max(0, score(found) + wrong - score(given))                                             [Socher et al. 2011, eq. 6-7]
        """
        return (best + wrong - given).clamp(min=0)

    @torch.no_grad()
    def _search(self, x: Tensor, length: Tensor, right: Tensor | None) -> tuple[Merges, list[tuple[np.ndarray, np.ndarray, np.ndarray]]]:
        """The best pair is taken, again and again; of the `right` spans [B, T, T] alone, where they are given: then also, for each choice where
        there was a wrong pair, its row, the best wrong pair, and the node that was made instead, as numbers of the tree.
        """
        batch, steps = x.shape[:2]
        rows = torch.arange(batch, device=x.device)
        missing = self.cell.initial_state(batch * steps)
        leaves, _ = self._step((missing, missing), _known(x, length).flatten(0, 1))
        parts, spec = pytree.tree_flatten(leaves)
        # every state that is ever made: the leaves, all pairs of them, then two pairs a round; some of the pairs become nodes
        made = [leaf.new_zeros(batch, 4 * steps, *leaf.shape[1:]) for leaf in parts]

        def joined(left: Tensor, beside: Tensor, fresh: int) -> Tensor:
            """Scores of the parents of pairs of states [B, n]; the parents' states are kept from number `fresh` on."""
            pair = [pytree.tree_unflatten([table[rows[:, None], which].flatten(0, 1) for table in made], spec) for which in (left, beside)]
            state, output = self._step(tuple(pair), x.new_zeros(left.numel(), x.shape[2]))
            for table, leaf in zip(made, pytree.tree_leaves(state)):
                table[:, fresh : fresh + left.shape[1]] = leaf.unflatten(0, left.shape)
            return self.w(output).view(left.shape)

        for table, leaf in zip(made, parts):
            table[:, :steps] = leaf.unflatten(0, (batch, steps))
        places = torch.arange(steps, device=x.device)
        # at each place: which state is there, its node's number in the tree, and the first and the last leaf below it
        here, name, first, last = (places.repeat(batch, 1) for _ in range(4))
        fresh, merges, rivals = steps, [], []
        scores, pair = joined(here[:, :-1], here[:, 1:], fresh), fresh + places[: steps - 1].repeat(batch, 1)
        fresh += steps - 1
        for left in range(steps, 1, -1):  # places that are looked at
            there = places[1:left] < (length - (steps - left))[:, None]
            allowed = there if right is None else there & right[rows[:, None], first[:, :-1], last[:, 1:]]
            place = scores.masked_fill(~allowed, -torch.inf).argmax(1)
            made_now = length + (steps - left)
            if right is not None and (other := (there & ~allowed).any(1)).any():
                rival = scores.masked_fill(~there | allowed, -torch.inf).argmax(1, keepdim=True)
                two = torch.cat([name.gather(1, rival), name.gather(1, rival + 1)], 1)
                rivals.append((rows[other].cpu().numpy(), two[other].cpu().numpy(), made_now[other].cpu().numpy()))
            merges.append((place.cpu().numpy(), there[:, 0].cpu().numpy()))
            at = place[:, None]
            here, name = here.scatter(1, at, pair.gather(1, at)), name.scatter(1, at, made_now[:, None])
            last = last.scatter(1, at, last.gather(1, at + 1))
            here, name, first, last = (_without(v, place + 1) for v in (here, name, first, last))
            if left > 2:
                pair, scores = (_without(v, place) for v in (pair, scores))
                touched = torch.stack([(place - 1).clamp(min=0), place.clamp(max=left - 3)], 1)  # the pairs that the new node is in
                scores = scores.scatter(1, touched, joined(here.gather(1, touched), here.gather(1, touched + 1), fresh))
                pair = pair.scatter(1, touched, torch.arange(fresh, fresh + 2, device=x.device).repeat(batch, 1))
                fresh += 2
        return merges, rivals

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


def _tree(lengths: np.ndarray, merges: Merges) -> Tree:
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
