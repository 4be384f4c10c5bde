"""What is said of trees of symbols: a label at each node, or one of two trees together."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavefront.cell import Cell
from wavefront.networks.embedding import Symbols
from wavefront.networks.recursive import Recursive
from wavefront.structure import Tree

__all__ = ["TreePairs", "TreeReader"]


class TreeReader(nn.Module):
    """Scores of labels at every node: o = V dropout(h) + c, h = `Recursive` over the vectors of the symbols.  [Goodfellow et al. 2016, 10.6]

    symbols [nodes], 0 where a node has none; parent [nodes] as in `Tree`, of all trees of the batch -> [nodes, outputs]

    dropout  of numbers of the vectors, and of the states that are read out

    >>> from wavefront import cells
    >>> net = TreeReader(Symbols([0, 0, 5, 3], 4), cells.TreeLSTM(4, 6), outputs=2)
    >>> net(torch.tensor([2, 3, 0]), torch.tensor([2, 2, -1])).shape
    torch.Size([3, 2])
    """

    def __init__(self, reader: Symbols, cell: Cell, outputs: int, dropout: float = 0.0):
        super().__init__()
        self.reader, self.recursive, self.dropout = reader, Recursive(cell), dropout
        self.V = nn.Linear(self.recursive.outputs, outputs)

    def states(self, symbols: Tensor, tree: Tree) -> Tensor:
        """h of every node."""
        x = F.dropout(self.reader(symbols[None])[0], self.dropout, self.training)
        return self.recursive(x, tree)[0]

    def forward(self, symbols: Tensor, parent: Tensor) -> Tensor:
        return self.V(F.dropout(self.states(symbols, Tree(parent)), self.dropout, self.training))


class TreePairs(TreeReader):
    """Scores of how two trees relate, from their roots a and b:  o = V tanh(C [a, b, a - b, a ⊙ b] + d) + c

    [Bowman et al. 2015, arXiv:1406.1827, section 3, with a layer of comparison; difference and product as in Mou et al. 2016]
    symbols and parent as in `TreeReader`; the trees stand in pairs, one after the other -> [pairs, outputs]. `compare` units compare.

    >>> from wavefront import cells
    >>> net = TreePairs(Symbols([0, 0, 5, 3], 4), cells.TreeLSTM(4, 6), outputs=7, compare=5)
    >>> net(torch.tensor([2, 3, 0, 2]), torch.tensor([2, 2, -1, -1])).shape
    torch.Size([1, 7])
    """

    def __init__(self, reader: Symbols, cell: Cell, outputs: int, compare: int, dropout: float = 0.0):
        super().__init__(reader, cell, outputs, dropout)
        self.C, self.V = nn.Linear(4 * self.recursive.outputs, compare), nn.Linear(compare, outputs)

    def forward(self, symbols: Tensor, parent: Tensor) -> Tensor:
        tree = Tree(parent)
        a, b = self.states(symbols, tree)[tree.roots.to(symbols.device)].unflatten(0, (-1, 2)).unbind(1)
        compared = self.C(F.dropout(torch.cat([a, b, a - b, a * b], -1), self.dropout, self.training)).tanh()
        return self.V(compared)
