"""Cells over trees: a node's state from those of its children. One equation each; from the leaves to the root they are recursive networks."""

from __future__ import annotations

from collections.abc import Sequence as Many
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from wavefront.cell import Cell
from wavefront.cells._parts import Activation, function, hidden_to_hidden, input_to_hidden
from wavefront.cells.lstm import LSTMState

__all__ = ["MVRNN", "RNTN", "ChildSumTreeLSTM", "RecursiveAutoencoder", "TreeGRU", "TreeLSTM", "TreeRNN"]


def children_of(cell: Cell, state: Any) -> Many[Any]:
    """The states before a node as a sequence, also where there is one slot and the state comes bare."""
    return (state,) if cell.slots == 1 else state


class TreeRNN(Cell[Tensor]):
    """The recursive network: the same weights at every node.  [Goodfellow et al. 2016, 10.6; Pollack 1990; Socher et al. 2011]

        h' = φ(U x + b + Σₖ Wₖ hₖ)

    states hₖ [N, units] of `slots` children, x [N, inputs] -> output h' [N, units]. W holds the Wₖ side by side: [units, slots · units].
    With one slot this is `Elman`.

    >>> import torch
    >>> from wavefront import Tree, unfold
    >>> tree = Tree.nested([(("a", "b"), "c")])
    >>> outputs, root = unfold(TreeRNN(3, 5), tree, tree.pack(tree.at_leaves(torch.randn(3, 3))))
    >>> root.shape
    torch.Size([1, 5])
    """

    def __init__(self, inputs: int, units: int, *, slots: int = 2, activation: str | Activation = "tanh", bias: bool = True):
        super().__init__(inputs, state=units, slots=slots)
        self.U, self.W = input_to_hidden(inputs, units, bias=bias), hidden_to_hidden(slots * units, units)
        self.activation = function(activation)

    def step(self, state, x):
        h = self.activation(self.U(x) + self.W(torch.cat([*children_of(self, state)], -1)))
        return h, h


class RNTN(Cell[Tensor]):
    """Recursive neural tensor network: the children also multiply each other.  [Socher et al. 2013, section 4.3]

        h' = tanh(U x + b + W a + aᵀ T a)       a = [h₁; h₂],   (aᵀ T a)ᵢ = aᵀ Tᵢ a

    states h₁, h₂ [N, units], x [N, inputs] -> output h' [N, units]. T holds the matrices Tᵢ, [2 units, 2 units] each, below each other.

    >>> import torch
    >>> h, output = RNTN(3, 5)(None, torch.randn(2, 3))
    >>> output.shape
    torch.Size([2, 5])
    """

    def __init__(self, inputs: int, units: int, *, slots: int = 2):
        super().__init__(inputs, state=units, slots=slots)
        self.U, self.W = input_to_hidden(inputs, units), hidden_to_hidden(slots * units, units)
        self.T = nn.Linear(slots * units, units * slots * units, bias=False)
        # a sum of (slots · units)² products of numbers below 1 should start below the linear part
        nn.init.uniform_(self.T.weight, -1 / (slots * units) ** 1.5, 1 / (slots * units) ** 1.5)

    def step(self, state, x):
        a = torch.cat([*children_of(self, state)], -1)
        products = self.T(a).unflatten(-1, (-1, a.shape[-1])) * a.unsqueeze(1)
        h = (self.U(x) + self.W(a) + products.sum(-1)).tanh()
        return h, h


class MVState(NamedTuple):
    h: Tensor  # [N, units]
    M: Tensor  # [N, units, units], (A - I)ᵀ


class MVRNN(Cell[MVState]):
    """Matrix-vector network: each node is a vector, and a matrix by which it changes its sibling.  [Socher et al. 2012, eq. 1-3]

        h' = tanh(U x + b + W [A₂ h₁; A₁ h₂])       A' - I = mat(U_M x) + W_M [A₁ - I; A₂ - I]

    states (hₖ [N, units], (Aₖ - I)ᵀ [N, units, units]) of two children, x [N, inputs] -> output h' [N, units]. Matrices are held as what they
    differ from the identity by, from where they start in the paper; a missing child's is the identity. W_M starts as the mean of the two.

    >>> import torch
    >>> state, output = MVRNN(3, 5)(None, torch.randn(2, 3))
    >>> output.shape, state.M.shape
    (torch.Size([2, 5]), torch.Size([2, 5, 5]))
    """

    def __init__(self, inputs: int, units: int):
        super().__init__(inputs, state=MVState(h=units, M=(units, units)), slots=2)  # type: ignore[arg-type]
        self.U, self.W = input_to_hidden(inputs, units), hidden_to_hidden(2 * units, units)
        self.U_M = input_to_hidden(inputs, units * units, bias=False)
        self.W_M = nn.Linear(2 * units, units, bias=False)
        with torch.no_grad():
            self.U_M.weight.mul_(0.1)  # words differ little from the identity at first
            self.W_M.weight.copy_(torch.eye(units).repeat(1, 2) / 2)

    def step(self, state, x):
        left, right = state
        changed = [a.h + (a.h.unsqueeze(1) @ b.M).squeeze(1) for a, b in ((left, right), (right, left))]
        h = (self.U(x) + self.W(torch.cat(changed, -1))).tanh()
        M = self.U_M(x).unflatten(-1, left.M.shape[1:]) + self.W_M(torch.cat([left.M, right.M], -1))
        return MVState(h, M), h


class TreeLSTM(Cell[LSTMState]):
    """N-ary Tree-LSTM: children in order, a forget gate for each, which sees all of them.  [Tai et al. 2015, arXiv:1503.00075, eq. 9-14]

        i = σ(Uᵢ x + Σₗ Wᵢˡ hₗ + b)       fₖ = σ(U_f x + Σₗ W_fᵏˡ hₗ + b)       g = tanh(U_g x + Σₗ W_gˡ hₗ + b)
        c' = i ⊙ g + Σₖ fₖ ⊙ cₖ           o = σ(Uₒ x + Σₗ Wₒˡ hₗ + b)           h' = o ⊙ tanh(c')

    states (hₖ, cₖ) [N, units] each of `slots` children, x [N, inputs] -> output h' [N, units]. Rows of U (with the biases): i, f, g, o; of W, whose
    columns are the children: i, f₁, f₂, ..., g, o. With one slot this is `LSTM`. The forget gates' bias starts at `forget_bias`: 0 keeps half of
    each of two children.

    >>> import torch
    >>> state, output = TreeLSTM(3, 5)(None, torch.randn(2, 3))
    >>> output.shape, state.c.shape
    (torch.Size([2, 5]), torch.Size([2, 5]))
    """

    def __init__(self, inputs: int, units: int, *, slots: int = 2, forget_bias: float = 0.0):
        super().__init__(inputs, state=LSTMState(h=units, c=units), slots=slots)  # type: ignore[arg-type]
        self.U, self.W = input_to_hidden(inputs, units, 4), hidden_to_hidden(slots * units, units, 3 + slots)
        nn.init.constant_(self.U.bias.chunk(4)[1], forget_bias)

    def step(self, state, x):
        children = children_of(self, state)
        x_i, x_f, x_g, x_o = self.U(x).chunk(4, -1)
        h_i, *h_f, h_g, h_o = self.W(torch.cat([child.h for child in children], -1)).chunk(3 + len(children), -1)
        c = (x_i + h_i).sigmoid() * (x_g + h_g).tanh()
        for child, h_fk in zip(children, h_f):
            c = c + (x_f + h_fk).sigmoid() * child.c
        h = (x_o + h_o).sigmoid() * c.tanh()
        return LSTMState(h, c), h


class ChildSumTreeLSTM(Cell[LSTMState]):
    """Child-sum Tree-LSTM: any number of children, whose order does not matter.  [Tai et al. 2015, arXiv:1503.00075, eq. 2-8]

        s = Σₖ hₖ      i = σ(Uᵢ x + Wᵢ s + b)      fₖ = σ(U_f x + W_f hₖ + b)      g = tanh(U_g x + W_g s + b)
                       c' = i ⊙ g + Σₖ fₖ ⊙ cₖ     o = σ(Uₒ x + Wₒ s + b)          h' = o ⊙ tanh(c')

    states (hₖ, cₖ) [edges, units] each, x [N, inputs] -> output h' [N, units]. Rows of U (with the biases): i, f, g, o; of W: i, g, o.
    With one child at every node this is `LSTM`. The forget gates' bias starts at `forget_bias`.

    >>> import torch
    >>> state, output = ChildSumTreeLSTM(3, 5)(None, torch.randn(2, 3))     # two leaves
    >>> output.shape
    torch.Size([2, 5])
    """

    def __init__(self, inputs: int, units: int, *, forget_bias: float = 0.0):
        super().__init__(inputs, state=LSTMState(h=units, c=units), slots="any")  # type: ignore[arg-type]
        self.U, self.W, self.W_f = input_to_hidden(inputs, units, 4), hidden_to_hidden(units, units, 3), hidden_to_hidden(units, units)
        nn.init.constant_(self.U.bias.chunk(4)[1], forget_bias)

    def step(self, children, x):
        x_i, x_f, x_g, x_o = self.U(x).chunk(4, -1)
        h_i, h_g, h_o = self.W(children.sum(children.states.h)).chunk(3, -1)
        f = (children.expand(x_f) + self.W_f(children.states.h)).sigmoid()
        c = (x_i + h_i).sigmoid() * (x_g + h_g).tanh() + children.sum(f * children.states.c)
        h = (x_o + h_o).sigmoid() * c.tanh()
        return LSTMState(h, c), h


class TreeGRU(Cell[Tensor]):
    """Tree-GRU: any number of children, a reset gate for each, whose order does not matter.  [Jin et al. 2018, arXiv:1802.04364, eq. 4-8]

        s = Σₖ hₖ      z = σ(U_z x + W_z s + b)      rₖ = σ(Uᵣ x + Wᵣ hₖ + b)      n = tanh(Uₙ x + Wₙ Σₖ rₖ ⊙ hₖ + b)
        h' = (1 - z) ⊙ s + z ⊙ n

    states hₖ [edges, units], x [N, inputs] -> output h' [N, units]. z near one replaces. Rows of U (with the biases): r, z, n.
    With one child at every node this is `GRUBefore`, its z turned round.

    >>> import torch
    >>> h, output = TreeGRU(3, 5)(None, torch.randn(2, 3))     # two leaves
    >>> output.shape
    torch.Size([2, 5])
    """

    def __init__(self, inputs: int, units: int):
        super().__init__(inputs, state=units, slots="any")
        self.U = input_to_hidden(inputs, units, 3)
        self.W_r, self.W_z, self.W_n = (hidden_to_hidden(units, units) for _ in "rzn")

    def step(self, children, x):
        x_r, x_z, x_n = self.U(x).chunk(3, -1)
        s = children.sum(children.states)
        z = (x_z + self.W_z(s)).sigmoid()
        r = (children.expand(x_r) + self.W_r(children.states)).sigmoid()
        n = (x_n + self.W_n(children.sum(r * children.states))).tanh()
        h = (1 - z) * s + z * n
        return h, h


class AutoencoderState(NamedTuple):
    h: Tensor  # [N, units]
    error: Tensor  # [N, 1], of all reconstructions in the tree below


class RecursiveAutoencoder(Cell[AutoencoderState]):
    """Recursive autoencoder: a node from which its children can be told.  [Socher et al. 2011, Semi-Supervised Recursive Autoencoders, eq. 1-3]

        p = tanh(U x + b + W [h₁; h₂])       h' = p / ‖p‖       [r₁; r₂] = V h' + c
        error' = Σₖ errorₖ + ½ Σₖ ‖hₖ‖² ‖hₖ - rₖ‖²

    states (hₖ [N, units], errorₖ [N, 1]) of `slots` children, x [N, inputs] -> output h' [N, units]. The error of the root's state is that of the
    whole tree: an extra loss. Vectors have length 1 (section 2.3 there), or shrinking them would lower the error; so the factor ‖hₖ‖² is 1 for a
    child and 0 for one that is missing, whose state is zeros.

    >>> import torch
    >>> from wavefront import Tree, unfold
    >>> tree = Tree.nested([("a", "b"), "c"])
    >>> outputs, root = unfold(RecursiveAutoencoder(3, 5), tree, tree.pack(tree.at_leaves(torch.randn(3, 3))))
    >>> root.error.shape, bool(root.error[0] > 0), bool(root.error[1] == 0)     # a leaf alone has nothing to be told
    (torch.Size([2, 1]), True, True)
    """

    def __init__(self, inputs: int, units: int, *, slots: int = 2):
        super().__init__(inputs, state=AutoencoderState(h=units, error=1), slots=slots)  # type: ignore[arg-type]
        self.U, self.W = input_to_hidden(inputs, units), hidden_to_hidden(slots * units, units)
        self.V = hidden_to_hidden(units, slots * units, bias=True)

    def step(self, state, x):
        children = children_of(self, state)
        p = (self.U(x) + self.W(torch.cat([child.h for child in children], -1))).tanh()
        h = p / ((p * p).sum(-1, keepdim=True) + 1e-8).sqrt()  # a vector of zeros stays one
        error = torch.zeros_like(children[0].error)
        for child, r in zip(children, self.V(h).chunk(len(children), -1)):
            present, missed = ((v * v).sum(-1, keepdim=True) for v in (child.h, child.h - r))
            error = error + child.error + present * missed / 2
        return AutoencoderState(h, error), h
