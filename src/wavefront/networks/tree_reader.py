"""What is said of trees of symbols: a label at each node, or one of two trees together."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavefront.cell import Cell
from wavefront.networks.embedding import UNKNOWN, Symbols
from wavefront.networks.learned_tree import LearnedTree
from wavefront.networks.recursive import Recursive
from wavefront.structure import Tree

__all__ = ["GivenTrees", "LearnedTrees", "TreePairs", "TreeReader", "TreeScores"]


class TreeStates(NamedTuple):
    """What was read of a batch of trees."""

    roots: Tensor  # [trees, outputs]
    nodes: Tensor | None  # [nodes, outputs], in the numbering of the trees
    found: Tree | None  # the trees, where they are not those that were given
    loss: Tensor | None  # of the trees themselves, such as what cannot be told of a node's children


class TreeScores(NamedTuple):
    """Scores of labels, [trees or pairs, outputs] and [nodes, outputs]; the rest as in the states that they are of."""

    roots: Tensor
    nodes: Tensor | None
    found: Tree | None
    loss: Tensor | None


class GivenTrees(nn.Module):
    """`Recursive` over the trees that are given; with `down`, each node also hears of what lies around it.

    x [nodes, inputs], words [nodes] (which nodes have one), tree. The loss is the error of a cell whose state has one, for each inner node.
    """

    def __init__(self, cell: Cell, down: Cell | None = None):
        super().__init__()
        self.recursive = Recursive(cell, down)

    @property
    def outputs(self) -> int:
        return self.recursive.outputs

    def forward(self, x: Tensor, words: Tensor, tree: Tree) -> TreeStates:
        h, root = self.recursive(x, tree)
        up: Any = root if self.recursive.down is None else root[0]
        error = getattr(up, "error", None)
        inner = max(1, tree.nodes - len(tree.leaves))
        return TreeStates(h[tree.roots.to(h.device)], h, None, None if error is None else error.sum() / inner)


class LearnedTrees(nn.Module):
    """`LearnedTree` over the words, the given trees' leaves from left to right.

    by "score"   the given trees, which have to be binary, teach: in training they are what is read, and the loss, for each choice, lets their pairs
                 score higher than all others; in eval mode trees are found from the words alone
    by "gumbel"  of what is given the words are all that counts
    """

    def __init__(self, cell: Cell, by: str):
        super().__init__()
        self.learned = LearnedTree(cell, by)

    @property
    def outputs(self) -> int:
        return self.learned.cell.outputs

    def forward(self, x: Tensor, words: Tensor, tree: Tree) -> TreeStates:
        row = torch.empty_like(tree.row).index_copy(0, tree.order, tree.row)[words.cpu()]
        lengths = torch.bincount(row, minlength=tree.rows).tolist()
        flat = x[words]
        padded = nn.utils.rnn.pad_sequence(flat.split(lengths), batch_first=True)
        if self.training and self.learned.by == "score":
            h, _ = Recursive(self.learned.cell)(x, tree)
            choices = max(1, tree.nodes - len(tree.leaves))
            return TreeStates(h[tree.roots.to(h.device)], h, None, self.learned.parsing_loss(padded, tree, lengths).sum() / choices)
        if self.training:
            root, found, _ = self.learned(padded, lengths)
            return TreeStates(_output(root), None, found, None)
        found = self.learned.search(padded, lengths)
        h, _ = Recursive(self.learned.cell)(flat, found)
        return TreeStates(h[found.roots.to(h.device)], h, found, None)


def _output(state: Any) -> Tensor:
    """A state's first part, which is what a tree cell puts out."""
    return state if isinstance(state, Tensor) else _output(state[0])


class TreeReader(nn.Module):
    """Scores of labels: o = V dropout(h) + c at every root and every node, h of `trees` over the vectors of the symbols.
    [Goodfellow et al. 2016, 10.6]

    symbols [nodes], 0 where a node has none; parent [nodes] as in `Tree`, of all trees of the batch -> `TreeScores`

    trees    what reads them: `GivenTrees`, `LearnedTrees`
    dropout  of numbers of the vectors, and of the states that are read out

    >>> from wavefront import cells
    >>> net = TreeReader(Symbols([0, 0, 5, 3], 4), GivenTrees(cells.TreeLSTM(4, 6)), outputs=2)
    >>> scores = net(torch.tensor([2, 3, 0]), torch.tensor([2, 2, -1]))
    >>> scores.roots.shape, scores.nodes.shape
    (torch.Size([1, 2]), torch.Size([3, 2]))
    """

    def __init__(self, reader: Symbols, trees: GivenTrees | LearnedTrees, outputs: int, dropout: float = 0.0):
        super().__init__()
        self.reader, self.trees, self.dropout = reader, trees, dropout
        self.V = nn.Linear(trees.outputs, outputs)

    def inputs(self, symbols: Tensor, tree: Tree) -> Tensor:
        """x of every node."""
        return self.reader(symbols[None])[0]

    def states(self, symbols: Tensor, parent: Tensor) -> TreeStates:
        tree = Tree(parent)
        x = F.dropout(self.inputs(symbols, tree), self.dropout, self.training)
        return self.trees(x, symbols > 0, tree)

    def forward(self, symbols: Tensor, parent: Tensor) -> TreeScores:
        roots, nodes, found, loss = self.states(symbols, parent)
        if nodes is None:
            return TreeScores(self.V(F.dropout(roots, self.dropout, self.training)), None, found, loss)
        scores = self.V(F.dropout(nodes, self.dropout, self.training))
        tree = Tree(parent) if found is None else found
        return TreeScores(scores[tree.roots.to(scores.device)], scores, found, loss)


class TreePairs(TreeReader):
    """Scores of how two trees relate, from their roots a and b:  o = V tanh(C [a, b, a - b, a ⊙ b] + d [+ aᵀ T b]) + c

    [Bowman et al. 2015, arXiv:1406.1827, section 3; difference and product as in Mou et al. 2016]
    symbols and parent as in `TreeReader`; the trees stand in pairs, one after the other -> `TreeScores` of the pairs.

    compare  units that compare
    tensor   whether they see all products of a number of a and one of b, as in the tensor layer of the paper: T [compare, outputs, outputs]
    shared   whether a learned vector is added to those of words (but the unknown one) that stand in both trees of a pair

    >>> from wavefront import cells
    >>> net = TreePairs(Symbols([0, 0, 5, 3], 4), GivenTrees(cells.TreeLSTM(4, 6)), outputs=7, compare=5)
    >>> net(torch.tensor([2, 3, 0, 2]), torch.tensor([2, 2, -1, -1])).roots.shape
    torch.Size([1, 7])
    """

    def __init__(
        self,
        reader: Symbols,
        trees: GivenTrees | LearnedTrees,
        outputs: int,
        compare: int,
        dropout: float = 0.0,
        tensor: bool = False,
        shared: bool = False,
    ):
        super().__init__(reader, trees, outputs, dropout)
        self.C, self.V = nn.Linear(4 * trees.outputs, compare), nn.Linear(compare, outputs)
        self.T = nn.Linear(trees.outputs, compare * trees.outputs, bias=False) if tensor else None
        self.shared = nn.Parameter(torch.randn(reader.outputs) * reader.outputs**-0.5) if shared else None

    def inputs(self, symbols: Tensor, tree: Tree) -> Tensor:
        x = super().inputs(symbols, tree)
        if self.shared is None:
            return x
        row = torch.empty_like(tree.row).index_copy(0, tree.order, tree.row).to(symbols.device)
        word, first = symbols * (symbols > UNKNOWN) + (row // 2) * len(self.reader.table.weight), row % 2 == 0
        both = torch.where(first, torch.isin(word, word[~first]), torch.isin(word, word[first])) & (symbols > UNKNOWN)
        return x + both[:, None] * self.shared

    def forward(self, symbols: Tensor, parent: Tensor) -> TreeScores:
        roots, _, found, loss = self.states(symbols, parent)
        a, b = roots.unflatten(0, (-1, 2)).unbind(1)
        compared = self.C(F.dropout(torch.cat([a, b, a - b, a * b], -1), self.dropout, self.training))
        if self.T is not None:
            compared = compared + (self.T(b).unflatten(-1, (-1, a.shape[-1])) @ a.unsqueeze(-1)).squeeze(-1)
        return TreeScores(self.V(compared.tanh()), None, found, loss)
