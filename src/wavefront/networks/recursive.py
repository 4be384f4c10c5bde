"""Recursive networks: a cell over trees, from the leaves to the root and back, and what is read out."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from wavefront.cell import Cell, named
from wavefront.errors import ShapeError
from wavefront.structure import Graph, Tree
from wavefront.unfolding import unfold

__all__ = ["Recursive", "TreeReadout"]


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
