"""Depth in the book's three ways, and streaming: step by step is all at once."""

import pytest
import torch
from torch.utils import _pytree as pytree

from wavefront import Bidirectional, Recurrent, ShapeError, cells, wrap
from wavefront.cell import Cell
from wavefront.errors import SettingsError
from wavefront.networks.deep import Deep


class TwoBack(Cell):
    """A cell that sees its two last states."""

    def __init__(self, inputs, units, slots=2):
        super().__init__(inputs, state=units, slots=slots)
        self.U, self.W = torch.nn.Linear(inputs, units), torch.nn.Linear(slots * units, units)

    def step(self, state, x):
        h = (self.U(x) + self.W(torch.cat(state, -1))).tanh()
        return h, h


NETWORKS = {
    "stack": lambda: Recurrent(wrap.Stack(cells.LSTM(3, 5), wrap.Residual(cells.GRU(5, 5)), cells.Elman(5, 2))),
    "deep (a)": lambda: Deep(3, (5, 4), cell=cells.LSTM),
    "deep (b)": lambda: Deep(3, (5,), before=(6, 7), transition=(4,), after=(6, 2)),
    "deep (c)": lambda: Deep(3, (5, 4), transition=(), shortcut=True, cell=cells.GRU),
    "deep, skips": lambda: Deep(3, (5, 4), cell=TwoBack, skips=(1, 3), before=(4,), after=(2,)),
    "skips": lambda: Recurrent(TwoBack(3, 5), skips=(2, 5)),
    "leaky": lambda: Recurrent(cells.Leaky(3, 5, leak=0.2)),
    "learned start": lambda: Recurrent(wrap.LearnedStart(cells.LSTM(3, 5))),
}


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_streamed_is_at_once(name):
    torch.manual_seed(0)
    net = NETWORKS[name]().double()
    x = torch.randn(2, 9, 3, dtype=torch.float64)
    at_once, last = net(x)
    state, streamed = None, []
    for t in range(9):
        state, output = net.step(state, x[:, t])
        streamed.append(output)
    torch.testing.assert_close(torch.stack(streamed, 1), at_once, rtol=1e-12, atol=1e-12)
    for got, want in zip(pytree.tree_leaves(state), pytree.tree_leaves(last), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)
    # cut: at once up to some step, streamed from there on
    state = net(x[:, :4])[1]
    for t in range(4, 9):
        state, output = net.step(state, x[:, t])
        torch.testing.assert_close(output, at_once[:, t], rtol=1e-12, atol=1e-12)


def test_a_step_of_a_stream_makes_no_first_state(monkeypatch):
    net = Recurrent(cells.LSTM(3, 4))
    state, _ = net.step(None, torch.randn(2, 3))
    monkeypatch.setattr(cells.LSTM, "initial_state", lambda self, rows: pytest.fail("asked for"))
    net.step(state, torch.randn(2, 3))


def test_streamed_is_at_once_with_a_context():
    torch.manual_seed(0)
    net = Recurrent(wrap.Stack(cells.GRU(3 + 2, 5), cells.LSTM(5, 4))).double()
    x, context = torch.randn(2, 6, 3, dtype=torch.float64), torch.randn(2, 2, dtype=torch.float64)
    at_once, _ = net(x, context=context)
    state = None
    for t in range(6):
        state, output = net.step(state, x[:, t], context=context)
        torch.testing.assert_close(output, at_once[:, t], rtol=1e-12, atol=1e-12)


def test_what_looks_ahead_does_not_stream():
    x = torch.zeros(2, 3)
    for net in (Deep(3, (5,), reverse=True), Bidirectional(cells.GRU(3, 5), cells.GRU(3, 5))):
        with pytest.raises(ShapeError, match="cannot stream"):
            net.step(None, x)


def test_all_three_ways_are_their_equations():
    """Two layers, deeper in every path, with shortcuts: against the equations written out."""
    torch.manual_seed(1)
    net = Deep(3, (5, 4), before=(6, 7), transition=(8,), after=(9, 2), shortcut=True).double()
    x = torch.randn(2, 6, 3, dtype=torch.float64)
    p = {name: value.detach() for name, value in net.named_parameters()}

    def affine(name, a):
        return a @ p[f"{name}.U.weight"].T + p[f"{name}.U.bias"]

    h = [torch.zeros(2, n, dtype=torch.float64) for n in (5, 4)]
    for t in range(6):
        a = x[:, t]
        for layer in (0, 1):
            a = affine(f"cell.before.{layer}", a).tanh()
        for layer in (0, 1):
            path = f"cell.cell.cells.{layer}"
            through = affine(f"{path}.transition.1", affine(f"{path}.transition.0", h[layer]).tanh()).tanh()
            seen = h[layer] + through
            a = h[layer] = (affine(f"{path}.cell", a) + seen @ p[f"{path}.cell.W.weight"].T).tanh()
        o = affine("cell.after.1", affine("cell.after.0", a).tanh())
        torch.testing.assert_close(net(x[:, : t + 1])[0][:, -1], o, rtol=1e-12, atol=1e-12)


def test_depth_in_one_way_leaves_the_others_out():
    assert isinstance(Deep(3, (5,)).cell, cells.Elman)
    assert isinstance(Deep(3, (5, 4), cell=cells.LSTM).cell, wrap.Stack)
    assert [n for n, _ in Deep(3, (5,), transition=()).cell.named_parameters()] == [
        "cell.U.weight",
        "cell.U.bias",
        "cell.W.weight",
        "transition.0.U.weight",
        "transition.0.U.bias",
    ]


def test_lengths_and_gradients():
    torch.manual_seed(2)
    net = Deep(2, (3, 2), before=(3,), transition=(2,), after=(2,), shortcut=True).double()
    x = torch.randn(2, 4, 2, dtype=torch.float64, requires_grad=True)
    outputs, state = net(x, lengths=[4, 2])
    alone, last = net(x[1:, :2])
    torch.testing.assert_close(outputs[1:, :2], alone)
    torch.testing.assert_close(state[1][1:], last[1])
    assert torch.autograd.gradcheck(lambda x, *p: net(x, lengths=[4, 2])[0], (x, *net.parameters()))


def test_impossible_depth_is_refused():
    with pytest.raises(SettingsError, match="units of each layer"):
        Deep(3, 5)
    with pytest.raises(SettingsError, match="units of each layer"):
        Deep(3, ())
    with pytest.raises(SettingsError, match="a shortcut skips the transition"):
        Deep(3, (5,), shortcut=True)
