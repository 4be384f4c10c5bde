"""Layers that feed nothing back down are unfolded one after the other, where that takes a large product out of the loop."""

import sys

import pytest
import torch

from engine.test_compiled import close, given_state, results
from laws.table import CELLS, build, inputs_of
from wavefront import Recurrent, cells, wrap
from wavefront.engine import explain, runs

ROWS = {"Stack": 3, "Stack of slots": 3, "RecursiveAutoencoder": 2, "Feedback": 1, "Stack that draws": 2}


@pytest.mark.parametrize("name", ROWS)
def test_loops_one_after_the_other_equal_the_reference(name, monkeypatch):
    monkeypatch.setattr(sys.modules["wavefront.engine.plan"], "WORTH", 0)
    monkeypatch.setattr(sys.modules["wavefront.engine.choose"], "_compiled", type(sys.modules["wavefront.engine.choose"]._compiled)())
    net = build(next(row for row in CELLS if row.name == name))
    x, state = inputs_of(net, 4, 6, requires_grad=True), given_state(net, 4)
    draws = net.draws(x)
    ours = results(net, "compiled", x, state, draws=draws, lengths=[6, 2, 0, 5])
    close(ours, results(net, "reference", x, state, draws=draws, lengths=[6, 2, 0, 5]))
    (found,) = {len(kept.plan.stages) for kept in sys.modules["wavefront.engine.choose"]._compiled.values()}
    assert found == ROWS[name]


def test_large_layers_are_unfolded_one_by_one_and_what_feeds_back_jointly():
    large = wrap.Stack(cells.LSTM(8, 256), cells.LSTM(256, 256))
    assert "2 native calls, one after the other" in explain(large)
    assert "one native call for all steps" in explain(wrap.Stack(cells.LSTM(8, 16), cells.LSTM(16, 16)))
    assert "one native call for all steps" in explain(wrap.Feedback(wrap.Stack(cells.Elman(264, 512), cells.Elman(512, 256))))
    net, before = Recurrent(large, backend="compiled"), runs["compiled"]
    with torch.no_grad():
        outputs, _ = net(x := torch.randn(2, 5, 8))
        assert runs["compiled"] == before + 1
        net.backend = "reference"
        torch.testing.assert_close(outputs, net(x)[0])
