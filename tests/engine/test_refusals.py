"""What is asked of the engine and cannot be, said so that it can be mended."""

import warnings

import pytest
import torch
from torch import nn

import wavefront
from wavefront import Cell, Draw, Recurrent, cells, draw
from wavefront.engine import explain, fallbacks
from wavefront.errors import BackendError, ShapeError


def test_a_step_that_stores_something_is_refused_by_the_name_of_it():
    class Storing(Cell):
        def __init__(self):
            super().__init__(3, state=4)
            self.part = cells.Elman(3, 4)
            self.seen = []

        def step(self, state, x):
            self.last = state
            self.seen.append(len(self.seen))
            return self.part.step(state, x)

    net, x = Recurrent(Storing(), backend="compiled"), torch.randn(2, 5, 3)
    with (
        pytest.warns(UserWarning, match="reference loop"),
        pytest.raises(BackendError, match=r"its step sets self.last, self.seen; a step"),
    ):
        net(x)
    net.backend = "auto"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        net(x)  # said once
    assert net.cell.last.shape == (2, 4)


def test_what_is_refused_is_said_once_and_counted():
    class WeightsAnew(Cell):
        """A mask over the weights at each step."""

        def __init__(self):
            super().__init__(3, state=4)
            self.U, self.W = nn.Linear(3, 4), nn.Linear(4, 4)

        def draws(self, rows):
            return Draw((4, 4), "keep", 0.5, per_row=False)

        def step(self, state, x, draws):
            h = (self.U(x) + nn.functional.linear(state, self.W.weight * (1 if draws is None else draws))).tanh()
            return h, h

    net, x = Recurrent(WeightsAnew(), backend="compiled"), torch.randn(2, 5, 3)
    with pytest.warns(UserWarning, match="reference loop"), pytest.raises(BackendError, match="weights that are drawn anew at each step"):
        net(x)
    net.backend, before = "auto", sum(fallbacks.values())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        net(x)
    assert sum(fallbacks.values()) == before + 1


def test_what_is_kept_at_its_first_use_is_no_harm():
    class Lazy(Cell):
        def __init__(self):
            super().__init__(3, state=3)

        def step(self, state, x):
            if not hasattr(self, "scale"):
                self.scale = 0.5
            h = self.scale * state + x
            return h, h

    net, x = Recurrent(Lazy(), backend="compiled"), torch.randn(2, 5, 3)
    outputs = net(x)[0]
    net.backend = "reference"
    torch.testing.assert_close(outputs, net(x)[0])


def test_a_container_that_changed_is_seen():
    class Scaled(Cell):
        def __init__(self):
            super().__init__(2, state=2)
            self.by = {"factor": [1.0]}

        def step(self, state, x):
            h = (self.by["factor"][0] * state + x).tanh()
            return h, h

    net, x = Recurrent(Scaled(), backend="compiled"), torch.randn(3, 6, 2)
    first = net(x)[0]
    net.cell.by["factor"][0] = 0.5
    second = net(x)[0]
    assert not torch.equal(first, second)
    net.backend = "reference"
    torch.testing.assert_close(second, net(x)[0])


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: Recurrent(cells.LSTM), TypeError, r"the class LSTM: make one, LSTM\(inputs, units\)"),
        (lambda: Recurrent(cells.GRU(3, 4))(torch.randn(2, 5, 3), lengths="ab"), ShapeError, "2 whole numbers, one per sequence; got 'ab'"),
        (lambda: Recurrent(cells.GRU(3, 4))(torch.randn(2, 5, 3), lengths=5), ShapeError, "2 whole numbers, one per sequence; got 5"),
        (lambda: explain(nn.LSTM(3, 4)), TypeError, r"no cell in this LSTM.*wavefront.convert\(network\)"),
        (lambda: explain("lstm"), TypeError, "takes a network or a cell, got str"),
        (lambda: draw(Recurrent(cells.GRU(3, 4)), "a.svg"), TypeError, r"got 'a.svg'. A file\? "),
    ],
)
def test_mistaken_calls_are_told_what_to_do(call, error, text):
    with pytest.raises(error, match=text):
        call()


def test_a_drop_in_is_explained_layer_by_layer():
    assert explain(wavefront.LSTM(3, 4, num_layers=2, bidirectional=True)).count("cells.LSTM") == 4
