"""Cells of somebody's own, for structures of any shape."""

from torch import nn

from wavefront import Cell


class Echo(Cell):
    """k predecessors, each with weights of its own."""

    def __init__(self, inputs, units, slots=1):
        super().__init__(inputs, state=units, slots=slots)
        self.U = nn.Linear(inputs, units)
        self.W = nn.ModuleList(nn.Linear(units, units, bias=False) for _ in range(slots))

    def step(self, state, x):
        before = (state,) if self.slots == 1 else state
        h = (self.U(x) + sum(W(s) for W, s in zip(self.W, before))).tanh()
        return h, h


class ChildSum(Cell):
    """Any number of predecessors."""

    def __init__(self, inputs, units):
        super().__init__(inputs, state=units, slots="any")
        self.U, self.W = nn.Linear(inputs, units), nn.Linear(units, units)

    def step(self, children, x):
        gate = (children.expand(self.U(x)) + self.W(children.states)).sigmoid()
        h = (self.U(x) + children.sum(gate * children.states)).tanh()
        return h, h
