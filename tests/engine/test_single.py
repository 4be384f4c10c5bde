"""One step as one native call: equal to the step, and it sees whatever changed since the last one."""

import copy
import gc
import threading
import weakref
from typing import Any, NamedTuple

import pytest
import torch
from torch.utils import _pytree as pytree
from torch.utils.flop_counter import FlopCounterMode

from laws.table import CELLS, build, context_of, inputs_of, state_of
from wavefront import Cell, Recurrent, cells
from wavefront.cell import Given, advance, draws_wanted
from wavefront.engine import explain, fallbacks, runs, single as engine_single, watch

pytestmark = pytest.mark.filterwarnings("ignore:.*reference loop")


class Pair(NamedTuple):
    a: Any
    b: Any


def close(ours, theirs, tolerance=1e-12):
    for a, b in zip(pytree.tree_leaves(ours), pytree.tree_leaves(theirs), strict=True):
        assert a.shape == b.shape
        assert a.dtype == b.dtype
        assert ((a - b).abs() <= tolerance * (1 + b.abs())).all()


def both(net, state, x):
    """The compiled step and the cell's own; the first has to have run."""
    with torch.no_grad():
        before = runs["single"]
        ours = net.step(state, x)
        assert runs["single"] == before + 1
        theirs = net.cell.step(state, x)
    close(ours, theirs, 1e-12 if x.dtype is torch.float64 else 1e-5)
    return ours


def steps_alone(row):
    """Whether a step of this row is one native call: one predecessor, no clock, nothing drawn, no sparse product."""
    net = build(row).eval()
    sparse = any(isinstance(part, cells.Reservoir) for part in net.modules())
    plain = net.cell.slots == 1 and net.cell.phases == 1 and draws_wanted(net.cell, 1) is None
    return row.skips == (1,) and plain and not sparse


@pytest.mark.parametrize("row", [row for row in CELLS if steps_alone(row)], ids=lambda row: row.name)
def test_a_step_alone_equals_the_step(row):
    net = build(row).eval()
    context = context_of(row, net, 3)
    x = pytree.tree_map(lambda t: t[:, 0], inputs_of(net, 3, 2))
    state = state_of(net, 3)
    if context is not None:
        x = Given(x, context) if isinstance(net.cell.inputs, Given) else torch.cat([x, context], -1)
    with torch.no_grad():
        before = runs["single"]
        ours = net.step(state, x)
        assert runs["single"] == before + 1
        close(ours, advance(net.cell, state, x))


@pytest.mark.parametrize("units", [1, 2, 7, 8, 17, 40])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_any_number_of_units_and_rows(units, dtype):
    net = Recurrent(cells.LSTM(5, units)).to(dtype)
    for rows in (1, 2, 4, 5, 9):
        state = pytree.tree_map(lambda t: torch.randn_like(t), net.cell.initial_state(rows))
        both(net, state, torch.randn(rows, 5, dtype=dtype))


def test_weights_lie_in_any_way():
    class Lying(Cell):
        def __init__(self, layout):
            super().__init__(6, state=4)
            self.U, self.W = torch.nn.Parameter(torch.randn(6, 4)), torch.nn.Parameter(layout(torch.randn(12, 12)))

        def step(self, h, x):
            h = (x @ self.U + h @ self.W[4:8, 2:6]).tanh()
            return h, h

    for layout in (lambda w: w, lambda w: w.t(), lambda w: torch.randn(12, 24)[:, ::2]):
        both(Recurrent(Lying(layout)), torch.randn(3, 4), torch.randn(3, 6))


def test_whatever_changes_a_weight_is_seen():
    net = Recurrent(cells.LSTM(3, 4))
    state, x = pytree.tree_map(torch.randn_like, net.cell.initial_state(2)), torch.randn(2, 3)
    last = both(net, state, x)

    def replace():
        net.cell.W.weight = torch.nn.Parameter(torch.randn(16, 4))

    def other_memory():
        net.cell.W.weight.data = torch.randn(4, 16).t()

    def turned():
        net.cell.W.weight.data[:4, :4].t_()
        net.cell.U.bias.data = net.cell.U.bias.data.flip(0)

    def optimised():
        with torch.enable_grad():
            net(torch.randn(2, 5, 3))[0].sum().backward()
        torch.optim.SGD(net.parameters(), 0.1).step()

    def new_module():
        net.cell.U = torch.nn.Linear(3, 16)

    for change in (
        lambda: net.cell.W.weight.data.mul_(2),
        lambda: net.cell.U.bias.data.__setitem__(3, 1.0),
        other_memory,
        turned,
        replace,
        optimised,
        new_module,
    ):
        change()
        with torch.no_grad():
            net.step(state, x)  # the first call after may go the ordinary way
        now = both(net, state, x)
        assert not torch.equal(now[1], last[1])
        last = now


def test_a_square_weight_turned_where_it_lies_is_seen():
    class Square(Cell):
        def __init__(self):
            super().__init__(3, state=3)
            self.W = torch.nn.Parameter(torch.randn(3, 3))

        def step(self, h, x):
            h = (x + h @ self.W).tanh()
            return h, h

    net, h, x = Recurrent(Square()), torch.randn(2, 3), torch.randn(2, 3)
    with torch.no_grad():
        net.step(h, x)
        net.cell.W.data = net.cell.W.data.t()
        close(net.step(h, x), net.cell.step(h, x), 1e-5)
        close(net.step(h, x), net.cell.step(h, x), 1e-5)


def test_another_dtype_is_seen():
    net = Recurrent(cells.GRU(3, 4))
    both(net, torch.randn(2, 4), torch.randn(2, 3))
    net.double()
    with torch.no_grad():
        net.step(torch.randn(2, 4).double(), torch.randn(2, 3).double())
    both(net, torch.randn(2, 4).double(), torch.randn(2, 3).double())


def test_an_attribute_or_what_is_in_one_is_seen():
    class Scaled(Cell):
        def __init__(self):
            super().__init__(2, state=2)
            self.factors = [1.0, 2.0]

        def step(self, state, x):
            h = (self.factors[0] * state + x).tanh() + (self.shift if hasattr(self, "shift") else 0)
            return h, h

    net, h, x = Recurrent(Scaled()), torch.randn(3, 2), torch.randn(3, 2)
    first = both(net, h, x)
    net.cell.factors[0] = 0.5
    second = both(net, h, x)
    assert not torch.equal(first[1], second[1])
    net.cell.shift = 1.0
    assert not torch.equal(both(net, h, x)[1], second[1])


@pytest.mark.parametrize("counted", [True, False])
def test_tables_are_watched_with_and_without_numbers_of_their_changes(counted, monkeypatch):
    if not counted:
        monkeypatch.setattr(watch, "_counts_changes", lambda: False)
    net, h, x = Recurrent(cells.Elman(3, 4)), torch.randn(2, 4), torch.randn(2, 3)
    first = both(net, h, x)
    net.train(False).train(True)  # as it was
    assert torch.equal(both(net, h, x)[1], first[1])
    net.cell.U.register_buffer("unused", torch.ones(1))
    assert torch.equal(both(net, h, x)[1], first[1])
    net.cell.U.bias = torch.nn.Parameter(torch.ones(4))
    assert not torch.equal(both(net, h, x)[1], first[1])


def test_a_cell_without_parameters_and_a_nest_of_states():
    class Sums(Cell):
        def __init__(self):
            super().__init__(3, state=(Pair(3, (2, 2)), (3, (2,))))

        def step(self, state, x):
            pair, (last, two) = state
            return (Pair(pair.a + x, 0.5 * pair.b), (pair.a * last, two + 1)), x + last

    net = Recurrent(Sums())
    state = pytree.tree_map(torch.randn_like, net.cell.initial_state(3))
    for _ in range(2):
        new, _ = both(net, state, torch.randn(3, 3))
        assert type(new[0]) is Pair
        state = new


def test_what_is_made_of_parameters_one_by_one_takes_no_operation_of_torch():
    class Leaks(Cell):
        def __init__(self):
            super().__init__(3, state=5)
            self.U, self.rate, self.scale = torch.nn.Linear(3, 5), torch.nn.Parameter(torch.randn(5)), torch.nn.Parameter(torch.ones(1))

        def step(self, h, x):
            leak = torch.nn.functional.softplus(self.rate).clamp(max=1.0)
            later = torch.arange(5, dtype=x.dtype) * self.scale
            h = leak * h + (1 - leak) * (self.U(x) - later).tanh()
            return h, h

    net, h, x = Recurrent(Leaks()), torch.randn(2, 5), torch.randn(2, 3)
    first = both(net, h, x)
    assert not engine_single._singles[id(net.cell)].anew
    with torch.no_grad():
        net.cell.rate.add_(0.5)
        net.cell.scale.data = torch.zeros(1)
    assert not torch.equal(both(net, h, x)[1], first[1])


def test_what_was_given_back_stays_what_it_was():
    net, xs = Recurrent(cells.LSTM(3, 4)), torch.randn(20, 1, 3)
    with torch.no_grad():
        state, given = net.cell.initial_state(1), []
        for x in xs:
            state, output = net.step(state, x)
            given.append((state, output, state.c.clone(), output.clone()))
    for state, output, c, o in given:
        assert torch.equal(state.c, c)
        assert torch.equal(output, o)


def test_hooks_are_called():
    net, h, x = Recurrent(cells.Elman(3, 4)), torch.randn(2, 4), torch.randn(2, 3)
    both(net, h, x)
    called = []
    net.cell.U.register_forward_hook(lambda *_: called.append(1))
    with torch.no_grad():
        net.step(h, x)
    assert called


def test_what_needs_a_gradient_gets_it():
    net, h = Recurrent(cells.GRU(3, 4)), torch.randn(2, 4)
    x = torch.randn(2, 3, requires_grad=True)
    _, output = net.step(h, x)
    output.sum().backward()
    assert x.grad is not None
    assert net.cell.W.weight.grad is not None


def test_copies_have_weights_of_their_own_and_the_dead_are_forgotten():
    net, h, x = Recurrent(cells.GRU(3, 4)), torch.randn(2, 4), torch.randn(2, 3)
    first = both(net, h, x)
    other = copy.deepcopy(net)
    with torch.no_grad():
        other.cell.W.weight.zero_()
    assert not torch.equal(both(other, h, x)[1], first[1])
    assert torch.equal(both(net, h, x)[1], first[1])
    alive = weakref.ref(other.cell)
    del other
    gc.collect()
    assert alive() is None


def test_inference_mode_and_what_is_wrong():
    net = Recurrent(cells.LSTM(3, 4))
    state = net.cell.initial_state(2)
    with torch.inference_mode():
        _, output = net.step(state, torch.randn(2, 3))
        assert output.is_inference()
        for bad in (torch.randn(2, 4), torch.randn(3, 3), torch.randn(2, 3).double(), torch.randn(3)):
            with pytest.raises(RuntimeError, match=r"expects|parameters of"):
                net.step(state, bad)


def test_several_threads_step_at_once():
    net = Recurrent(cells.LSTM(8, 32)).double()
    xs = torch.randn(4, 50, 1, 8, dtype=torch.float64)
    found = [None] * 4

    def work(k):
        with torch.no_grad():
            state = net.cell.initial_state(1)
            for x in xs[k]:
                state, _ = net.step(state, x)
        found[k] = state

    workers = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    with torch.no_grad():
        for k in range(4):
            close(found[k], net(xs[k].transpose(0, 1))[1])


@pytest.mark.parametrize(
    ("make", "reason"),
    [(lambda: cells.Reservoir(2, 30, seed=0), "a sparse product"), (lambda: cells.Clockwork(2, 6, periods=(1, 2)), "a cell with a clock")],
    ids=["sparse", "clock"],
)
def test_a_step_that_cannot_be_one_native_call_is_counted_and_explained(make, reason):
    net = Recurrent(make())
    state, x = net.cell.initial_state(1), torch.randn(1, 2)
    before = fallbacks[f"one step alone: {reason}"]
    with torch.no_grad():
        net.step(state, x)
        net.step(state, x)
    assert fallbacks[f"one step alone: {reason}"] == before + 2
    assert f"one step  alone, in plain torch: {reason}" in explain(net)
    assert "one step  alone: one native call" in explain(Recurrent(cells.GRU(2, 3)))


def test_where_operations_mean_something_else_the_step_is_the_cells_own():
    net = Recurrent(cells.GRU(3, 4))
    h, x = torch.randn(5, 4), torch.randn(5, 3)
    ours = both(net, h, x)
    with torch.no_grad():
        close(torch.func.vmap(lambda h, x: net.step(h[None], x[None])[1][0])(h, x), ours[1], 1e-5)
        before = runs["single"]
        with torch.autocast("cpu", torch.bfloat16):
            net.step(h, x)
        with FlopCounterMode(display=False) as counted:
            net.step(h, x)
        assert counted.get_total_flops() > 0
        _, tangent = torch.func.jvp(lambda x: net.step(h, x)[1], (x,), (torch.ones_like(x),))
        assert runs["single"] == before
        assert tangent.abs().sum() > 0
    both(net, h, x)


def test_a_tensor_that_is_given_twice_or_lies_with_gaps():
    net = Recurrent(cells.LSTM(4, 4))
    h, wide = torch.randn(3, 4), torch.randn(3, 7, 4)
    for _ in range(2):
        both(net, (h, h), wide[:, 2])
        both(net, (wide[:, 1], torch.randn(4, 3).t()), h)


def test_a_backend_that_was_named_takes_the_step_too():
    net, x = Recurrent(cells.LSTM(3, 5)), torch.randn(2, 3)
    for net.backend, native in (("auto", 1), ("compiled", 1), ("torch", 0), ("reference", 0)):
        before = runs["single"]
        with torch.no_grad():
            net.step(net.cell.initial_state(2), x)
        assert runs["single"] == before + native
