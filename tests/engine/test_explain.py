"""The plan says what is where, for every cell of the table."""

import pytest

from laws.table import CELLS
from wavefront import Bidirectional, cells, wrap
from wavefront.engine import explain


def line(text, colour):
    return next(part for part in text.splitlines() if part.strip().startswith(colour))


def test_input_products_leave_the_loop():
    text = explain(cells.LSTM(3, 5))
    assert "mm [20]" in line(text, "hoisted")
    assert line(text, "carried").count("mm") == 1
    assert line(text, "carried").count("sigmoid") == 3


def test_a_product_over_a_join_is_taken_apart():
    """[x, h] W: its input part needs no state."""
    import torch

    from wavefront import Cell

    class Joined(Cell):
        def __init__(self):
            super().__init__(3, state=4)
            self.W = torch.nn.Linear(7, 4)

        def step(self, state, x):
            h = self.W(torch.cat([x, state], -1)).tanh()
            return h, h

    text = explain(Joined())
    assert "mm [4]" in line(text, "hoisted")
    assert "add [4]" in line(text, "hoisted")  # the bias
    assert line(text, "carried").count("mm") == 1
    assert "cat" not in line(text, "carried")


def test_heads_are_deferred_and_input_gates_hoisted():
    text = explain(wrap.Deepened(cells.Elman(3, 4), after=(2,)))
    assert "mm [2]" in line(text, "deferred")
    text = explain(cells.MUT1(3, 4))
    assert "sigmoid" in line(text, "hoisted")


def test_a_stack_is_explained_as_one_and_two_directions_as_two():
    assert explain(wrap.Stack(cells.LSTM(3, 4), cells.GRU(4, 4))).count("compiled") == 1
    assert explain(Bidirectional(cells.LSTM(3, 4), cells.GRU(3, 4))).count("compiled") == 2


@pytest.mark.filterwarnings("ignore:.*reference loop")
@pytest.mark.parametrize("row", CELLS, ids=lambda row: row.name)
def test_every_cell_is_explained(row):
    text = explain(row.make())
    assert "compiled" in text or "reference loop, in plain torch: " in text


def test_code_is_printed():
    assert "define void @kernel" in explain(cells.Elman(3, 4), code=True)
