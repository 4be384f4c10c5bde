"""The compiled loop against the reference loop: every cell of the law table, outputs, final states and every gradient."""

import copy
import gc
import os
import pickle
import sys
import threading
import warnings
import weakref
from collections import OrderedDict

import pytest
import torch
from torch.utils import _pytree as pytree

import wavefront
from laws.table import CELLS, build, context_of, inputs_of
from wavefront import Cell, Recurrent, cells, wrap
from wavefront.engine import runs
from wavefront.engine.backends.compiled import run, threads as team
from wavefront.errors import BackendError, ShapeError

B, T = 5, 7
LENGTHS = [4, 7, 0, 2, 7]
RESETS = torch.rand(B, T, generator=torch.Generator().manual_seed(1)) < 0.2
FORMS = {
    "whole": (False, {}),
    "reversed, ragged, with resets": (True, {"lengths": LENGTHS, "resets": RESETS}),
}


def results(net, backend, x, state=None, context=None, draws=None, seed=4, **options):
    """Outputs, final states, and the gradients of a random function of them by everything."""
    net.backend = backend
    outputs, ends = net(x, state, context=context, draws=draws, **options)
    found = [t for t in pytree.tree_leaves((outputs, ends)) if t is not None]
    generator = torch.Generator().manual_seed(seed)
    loss = sum((t * torch.randn(t.shape, generator=generator, dtype=torch.float64).to(t.dtype)).sum() for t in found)
    leaves = [t for t in pytree.tree_leaves((x, state, context)) if isinstance(t, torch.Tensor) and t.requires_grad]
    leaves += [p for p in net.parameters() if p.requires_grad]
    gradients = torch.autograd.grad(loss, leaves, allow_unused=True)
    return found + [torch.zeros_like(t) if g is None else g for t, g in zip(leaves, gradients)]


def close(ours, theirs, tolerance=1e-10):
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs):
        assert a.shape == b.shape
        assert torch.equal(a.isnan(), b.isnan())
        assert ((a - b).abs() <= tolerance * (1 + b.abs().max() if b.numel() else 1)).all(), (a - b).abs().max()


def given_state(net, batch, dtype=torch.float64):
    generator = torch.Generator().manual_seed(5)
    first = net.cell.initial_state(batch)
    parts = [
        pytree.tree_map(lambda t: torch.randn(t.shape, generator=generator, dtype=dtype).requires_grad_(), first)
        for _ in range(max(net.skips))
    ]
    return parts[0] if max(net.skips) == 1 else tuple(parts)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("row", CELLS, ids=lambda row: row.name)
def test_compiled_equals_reference(row, form):
    reverse, options = FORMS[form]
    net = build(row, reverse=reverse)
    x, context = inputs_of(net, B, T, requires_grad=True), context_of(row, net, B, requires_grad=True)
    state, draws = given_state(net, B), net.draws(x)
    before = runs["compiled"]
    ours = results(net, "compiled", x, state, context, draws, **options)
    assert runs["compiled"] == before + 1
    close(ours, results(net, "reference", x, state, context, draws, **options))


@pytest.mark.parametrize("row", CELLS, ids=lambda row: row.name)
def test_float32_is_as_near_to_the_truth_as_torch(row):
    net = build(row)
    x, context = inputs_of(net, B, T), context_of(row, net, B)
    draws = net.draws(x)
    truth = results(net, "reference", x, None, context, draws)
    single = copy.deepcopy(net).float()
    x, context, draws = pytree.tree_map(lambda t: t.float() if isinstance(t, torch.Tensor) else t, (x, context, draws))
    ours, theirs = (results(single, backend, x, None, context, draws) for backend in ("compiled", "reference"))
    scale = [1 + t.norm() for t in truth]
    mine, torchs = (sum((a - t).norm() / n for a, t, n in zip(found, truth, scale)) for found in (ours, theirs))
    assert mine <= 4 * torchs + 1e-6


@pytest.mark.parametrize("units", [1, 2, 7, 8, 9, 33, 100])
@pytest.mark.parametrize("make", [cells.LSTM, cells.GRU, cells.GRUBefore, cells.MGU], ids=lambda c: c.__name__)
def test_any_number_of_units(make, units):
    net = Recurrent(make(3, units)).double()
    for batch in (1, 13):
        x = torch.randn(batch, 4, 3, dtype=torch.float64, requires_grad=True)
        close(results(net, "compiled", x), results(net, "reference", x))


def test_layer_norm_of_any_number_of_units():
    for units in (1, 3, 17, 40):
        net = Recurrent(cells.LSTM(2, units, layer_norm=True, peepholes=True, projection=2)).double()
        x = torch.randn(3, 5, 2, dtype=torch.float64, requires_grad=True)
        close(results(net, "compiled", x), results(net, "reference", x), 1e-8 if units == 1 else 1e-10)


def test_every_built_in_cell_runs_compiled_by_itself():
    for row in CELLS:
        if not row.name.startswith("yours"):
            net = build(row)
            before = runs["compiled"]
            net(inputs_of(net, B, T), context=context_of(row, net, B))
            assert runs["compiled"] == before + 1, row.name


@pytest.mark.parametrize("make", [cells.LSTM, cells.ChildSumTreeLSTM], ids=lambda c: c.__name__)
def test_the_number_of_threads_changes_nothing_but_rounding(make):
    net = Recurrent(make(8, 64)).double()
    x = torch.randn(7, 30, 8, dtype=torch.float64, requires_grad=True)
    before = torch.get_num_threads()
    found = []
    try:
        for number in (1, 2, 3, 8):
            torch.set_num_threads(number)
            found.append(results(net, "compiled", x, lengths=[30, 3, 0, 17, 30, 1, 22]))
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        close(other, found[0], 1e-12)


@pytest.mark.parametrize("make", [cells.LSTM, cells.GRU, lambda d, h: cells.LSTM(d, h, layer_norm=True)])
@pytest.mark.parametrize("units", [70, 33])
def test_threads_that_share_the_units_of_a_sequence(monkeypatch, make, units):
    monkeypatch.setattr(run, "SHARED", 0)
    monkeypatch.setattr(run, "SMALL", 0)
    net, before = Recurrent(make(5, units), backend="compiled").double(), torch.get_num_threads()
    x = torch.randn(1, 9, 5, dtype=torch.float64, requires_grad=True)
    found = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        try:
            outputs = net(x)[0]
            gradients = torch.autograd.grad(outputs.square().sum(), [x, *net.parameters()])
            with torch.inference_mode():
                found.append([outputs, net(x)[0], *gradients])
        finally:
            torch.set_num_threads(before)
    for others in found[1:]:
        for a, b in zip(found[0], others, strict=True):
            torch.testing.assert_close(b, a, rtol=0, atol=1e-12)


def test_threads_that_wait_too_long_for_each_other_go_on_alone(monkeypatch):
    for name, value in (("SHARED", 0), ("SMALL", 0), ("REST", 0.0)):
        monkeypatch.setattr(run, name, value)
    monkeypatch.setattr(team, "PATIENCE", 1)
    cell, x, before = cells.LSTM(5, 71).double(), torch.randn(1, 40, 5, dtype=torch.float64), torch.get_num_threads()

    def found(backend):
        outputs = Recurrent(cell, backend=backend)(x)[0]
        return [outputs, *torch.autograd.grad(outputs.square().sum(), list(cell.parameters()))]

    truth = found("reference")
    try:
        torch.set_num_threads(2)
        for _ in range(20):
            for a, b in zip(found("compiled"), truth, strict=True):
                torch.testing.assert_close(a, b, rtol=0, atol=1e-10)
    finally:
        torch.set_num_threads(before)


def test_a_row_does_not_see_its_neighbours():
    net = Recurrent(cells.GRU(3, 20), backend="compiled")
    x = torch.randn(13, 6, 3)
    outputs, state = net(x)
    for k in (0, 5, 12):
        alone, end = net(x[k : k + 1])
        assert torch.equal(alone[0], outputs[k])
        assert torch.equal(end[0], state[k])


@pytest.mark.parametrize("make", [cells.LSTM, cells.GRU, cells.Elman], ids=lambda c: c.__name__)
def test_nan_stays_in_its_row_and_is_not_swallowed(make):
    net = Recurrent(make(3, 17), backend="compiled")
    x = torch.randn(4, 6, 3)
    clean, _ = net(x)
    for bad in (float("nan"), float("inf")):
        x[2, 3, 1] = bad
        outputs, _ = net(x)
        kept = [0, 1, 3]
        assert torch.equal(outputs[kept], clean[kept])
        assert torch.equal(outputs[2, :3], clean[2, :3])
        net.backend = "reference"
        assert torch.equal(net(x)[0].isnan(), outputs.isnan())
        net.backend = "compiled"


@pytest.mark.parametrize("scale", [1e-40, 1e-20, 1e4, 1e30])
def test_huge_and_tiny_values(scale):
    net = Recurrent(cells.LSTM(3, 9))
    x = torch.randn(4, 6, 3) * scale
    torch.testing.assert_close(results(net, "compiled", x)[0], results(net, "reference", x)[0])


def test_nothing_to_do():
    net = Recurrent(cells.LSTM(3, 4))
    assert net(torch.zeros(2, 0, 3))[0].shape == (2, 0, 4)
    assert net(torch.zeros(0, 5, 3))[0].shape == (0, 5, 4)
    state = net.cell.initial_state(2)._replace(c=torch.ones(2, 4))
    outputs, end = net(torch.zeros(2, 5, 3), state, lengths=[0, 0])
    assert not outputs.any()
    assert torch.equal(end.c, state.c)


@pytest.mark.parametrize("wanted", ["x", "state", "U", "W", "nothing"])
def test_any_subset_of_gradients(wanted):
    net = Recurrent(cells.LSTM(3, 5)).double()
    x, state = torch.randn(2, 6, 3, dtype=torch.float64), given_state(net, 2)
    pytree.tree_map(lambda t: t.requires_grad_(wanted == "state"), state)
    x.requires_grad_(wanted == "x")
    for name, p in net.named_parameters():
        p.requires_grad_(f".{wanted}." in name)
    if wanted == "nothing":
        net.backend = "compiled"
        assert not net(x, state)[0].requires_grad
    else:
        close(results(net, "compiled", x, state), results(net, "reference", x, state))


def test_only_one_of_the_results_is_used():
    net = Recurrent(cells.LSTM(3, 5)).double()
    x = torch.randn(2, 6, 3, dtype=torch.float64, requires_grad=True)
    found = {}
    for net.backend in ("compiled", "reference"):
        outputs, state = net(x)
        found[net.backend] = [torch.autograd.grad(t.sum(), x, retain_graph=True)[0] for t in (outputs, state.h, state.c, outputs[:, 2])]
    close(found["compiled"], found["reference"])


@pytest.mark.parametrize("make", [cells.LSTM, cells.GRU, lambda d, h: cells.LSTM(d, h, layer_norm=True, peepholes=True)])
def test_first_and_second_derivatives(make):
    net = Recurrent(make(2, 3), backend="compiled").double()
    x = torch.randn(2, 3, 2, dtype=torch.float64, requires_grad=True)
    weights = [p.detach().clone().requires_grad_() for p in net.parameters()]
    names = [n for n, _ in net.named_parameters()]

    def f(x, *weights):
        for name, w in zip(names, weights):
            module, _, leaf = name.rpartition(".")
            del net.get_submodule(module)._parameters[leaf]
            net.get_submodule(module)._parameters[leaf] = w
        outputs, state = net(x)
        return outputs, *pytree.tree_leaves(state)

    assert torch.autograd.gradcheck(f, (x, *weights))
    assert torch.autograd.gradgradcheck(f, (x, *weights))


def test_weights_changed_in_place_are_seen():
    net = Recurrent(cells.GRU(3, 5), backend="compiled")
    x = torch.randn(2, 6, 3)
    net(x)
    with torch.no_grad():
        net.cell.W.weight.mul_(2)
        net.cell.U.bias.data.add_(1)
    ours = net(x)[0]
    net.backend = "reference"
    torch.testing.assert_close(ours, net(x)[0])


def test_an_attribute_changed_is_seen():
    class Scaled(Cell):
        def __init__(self):
            super().__init__(2, state=2)
            self.factor = 1.0

        def step(self, state, x):
            h = (self.factor * state + x).tanh()
            return h, h

    net, x = Recurrent(Scaled(), backend="compiled"), torch.randn(3, 6, 2)
    first = net(x)[0]
    net.cell.factor = 0.5
    second = net(x)[0]
    assert not torch.equal(first, second)
    net.backend = "reference"
    torch.testing.assert_close(second, net(x)[0])


def test_copies_and_pickles_run():
    net = Recurrent(cells.LSTM(3, 5), backend="compiled")
    x = torch.randn(2, 6, 3)
    outputs = net(x)[0]
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert torch.equal(other(x)[0], outputs)
        with torch.no_grad():
            other.cell.W.weight.zero_()
    assert torch.equal(net(x)[0], outputs)


def test_inference_mode_and_functions_of_functions():
    net = Recurrent(cells.LSTM(3, 5), backend="auto").double()
    x = torch.randn(2, 6, 3, dtype=torch.float64)
    outputs = net(x)[0]
    with torch.inference_mode():
        close([net(x)[0]], [outputs])
    (jacobian,) = torch.func.jacrev(lambda x: net(x)[0].sum((0, 1)), argnums=(0,))(x)
    assert jacobian.shape == (5, 2, 6, 3)
    close([torch.func.vmap(lambda x: net(x[None])[0][0])(x)], [outputs])


def test_outputs_changed_in_place_are_noticed():
    net = Recurrent(cells.LSTM(3, 5), backend="compiled")
    outputs, _ = net(torch.randn(1, 6, 3))
    loss = outputs.square().sum()
    outputs.data.zero_  # noqa: B018
    with torch.no_grad():
        net.cell.W.weight.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_several_threads_of_python_at_once():
    nets = [Recurrent(cells.LSTM(3, 5 + k % 2), backend="compiled").double() for k in range(6)]
    xs = [torch.randn(4, 9, 3, dtype=torch.float64, requires_grad=True) for _ in nets]
    found = [None] * len(nets)

    def work(k):
        for _ in range(3):
            found[k] = results(nets[k], "compiled", xs[k])

    workers = [threading.Thread(target=work, args=(k,)) for k in range(len(nets))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for net, x, ours in zip(nets, xs, found):
        close(ours, results(net, "reference", x))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_runs():
    net = Recurrent(cells.LSTM(8, 64), backend="compiled")
    x = torch.randn(8, 50, 8)
    with torch.no_grad():
        outputs = net(x)[0]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # forking with threads about is what is tested
            child = os.fork()
        if child == 0:
            torch.set_num_threads(1)
            os._exit(0 if torch.allclose(net(x)[0], outputs, atol=1e-6) else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_equal_cells_share_their_code():
    from wavefront.engine.choose import _compiled

    x = torch.randn(2, 6, 3)
    Recurrent(cells.LSTM(3, 11), backend="compiled")(x)
    before = len(_compiled)
    Recurrent(cells.LSTM(3, 11), backend="compiled")(x)
    assert len(_compiled) == before


def test_code_is_bounded_and_lives_as_long_as_somebody_needs_it(monkeypatch):
    choose = sys.modules["wavefront.engine.choose"]
    monkeypatch.setattr(choose, "KEPT", 1)
    monkeypatch.setattr(choose, "_compiled", OrderedDict())  # what other tests compiled is theirs
    nets = [Recurrent(cells.Elman(3, units), backend="compiled").double() for units in (2, 3)]
    x = torch.randn(2, 5, 3, dtype=torch.float64)
    losses = [net(x)[0].sum() for net in nets]
    assert len(choose._compiled) == 1
    gc.collect()
    for net, loss in zip(nets, losses):
        gradient = torch.autograd.grad(loss, net.cell.U.weight)[0]
        net.backend = "reference"
        close([gradient], [torch.autograd.grad(net(x)[0].sum(), net.cell.U.weight)[0]])


def test_a_cell_that_ran_is_not_kept_for_ever():
    class Own(Cell):
        def __init__(self):
            super().__init__(3, state=4)
            self.W, self.U = torch.nn.Parameter(torch.randn(4, 4)), torch.nn.Parameter(torch.randn(4, 3))

        def step(self, h, x):
            h = (x @ self.U.T + h @ self.W.T).tanh()
            return h, h

    cell = Own()
    Recurrent(cell, backend="compiled")(torch.randn(2, 5, 3))
    alive = weakref.ref(cell)
    del cell
    gc.collect()
    assert alive() is None


def test_plans_of_a_cell_that_changes_at_every_call_are_bounded(monkeypatch):
    choose = sys.modules["wavefront.engine.choose"]
    monkeypatch.setattr(choose, "FORMS", 2)
    cell = cells.Elman(3, 4)
    for n in range(4):
        cell.temperature = n
        Recurrent(cell)(torch.randn(2, 5, 3))
    assert len(choose._plans[cell]) == 2


def test_a_drop_in_is_traced_once(monkeypatch):
    choose, net, x = sys.modules["wavefront.engine.choose"], wavefront.LSTM(3, 23, num_layers=2), torch.randn(6, 2, 3)
    traced = []
    original = choose._plan
    monkeypatch.setattr(choose, "_plan", lambda problem, key: traced.append(key) or original(problem, key))
    for _ in range(3):
        net(x)
    assert len(traced) == 2


def test_layouts_kept_are_bounded_by_what_they_hold(monkeypatch):
    layout = sys.modules["wavefront.engine.layout"]
    monkeypatch.setattr(layout, "KEPT_NODES", 100)
    for steps in range(20, 60):
        layout.layout_of(wavefront.Sequence(1, steps), 1)
    assert sum(kept.nodes for kept in layout._by_key.values()) <= 100
    layout.layout_of(wavefront.Sequence(1, 1000), 1)
    assert [kept.nodes for kept in layout._by_key.values()] == [1000]


def test_a_cell_without_a_state_runs_in_the_reference_loop():
    class Stateless(Cell):
        def __init__(self, **outputs):
            super().__init__(3, state=(), **outputs)
            self.V = torch.nn.Linear(3, 4)

        def step(self, state, x):
            return state, self.V(x)

    cell, x = Stateless(outputs=4), torch.randn(2, 5, 3)
    torch.testing.assert_close(Recurrent(cell)(x)[0], cell.V(x))
    with pytest.raises(BackendError, match="a cell without a state"):
        Recurrent(cell, backend="compiled")(x)
    with pytest.raises(ShapeError, match="says what it gives"):
        Stateless()


def test_the_norm_of_nothing_has_a_derivative():
    class Unit(Cell):
        def __init__(self):
            super().__init__(2, state=2)
            self.W = torch.nn.Linear(2, 2)

        def step(self, state, x):
            h = self.W(x) + state / (1 + state.norm(dim=-1, keepdim=True))
            return h, h

    net, x = Recurrent(Unit()).double(), torch.randn(2, 5, 2, dtype=torch.float64, requires_grad=True)
    close(results(net, "compiled", x), results(net, "reference", x))


def test_cells_that_compute_the_same_but_are_not_the_same_are_told_apart():
    class Plain(Cell):
        def __init__(self):
            super().__init__(3, state=3)
            self.W = torch.nn.Linear(3, 3)

        def step(self, state, x):
            h = (self.W(state) + x).tanh()
            return h, h

    class Cut(Plain):
        def step(self, state, x):
            with torch.no_grad():
                h = self.W(state) + x
            return h.tanh(), h.tanh()

    x = torch.randn(2, 5, 3)
    Recurrent(Plain(), backend="compiled")(x)
    with pytest.warns(UserWarning, match="reference loop"), pytest.raises(BackendError, match="gradients are not those"):
        Recurrent(Cut(), backend="compiled")(x)


def test_a_function_with_a_backward_of_its_own_is_refused():
    class Straight(torch.autograd.Function):
        @staticmethod
        def forward(ctx, a):
            return a.tanh()

        @staticmethod
        def backward(ctx, d):
            return d

    class Odd(Cell):
        def __init__(self):
            super().__init__(2, state=2)
            self.W = torch.nn.Linear(2, 2)

        def step(self, state, x):
            h = Straight.apply(self.W(state) + x)
            return h, h

    net = Recurrent(Odd(), backend="compiled")
    with pytest.warns(UserWarning, match="reference loop"), pytest.raises(BackendError, match="gradients are not those of its operations"):
        net(torch.randn(2, 5, 2))


def test_a_step_that_looks_at_values_is_refused():
    class Looking(Cell):
        def __init__(self):
            super().__init__(2, state=2)

        def step(self, state, x):
            h = state + x if state[0, 0] > 0 else x
            return h, h

    net = Recurrent(Looking(), backend="compiled")
    with pytest.warns(UserWarning, match="reference loop"), pytest.raises(BackendError, match=r"values|rows"):
        net(torch.randn(2, 5, 2))


def test_trees_and_stacks_use_the_same_kernel():
    net = Recurrent(wrap.Stack(cells.LSTM(3, 5), wrap.Residual(cells.GRU(5, 5))), skips=(1,)).double()
    x = torch.randn(3, 9, 3, dtype=torch.float64, requires_grad=True)
    close(results(net, "compiled", x, lengths=[9, 2, 5]), results(net, "reference", x, lengths=[9, 2, 5]))


def test_a_call_that_cannot_be_compiled_says_so_once():
    from wavefront.engine import fallbacks

    net, x = Recurrent(cells.GRU(3, 4)), torch.randn(2, 6, 3)
    fallbacks.pop("under autocast", None)
    with torch.autocast("cpu", torch.float16), pytest.warns(UserWarning, match="reference loop, slowly: under autocast"):
        net(x)
    with torch.autocast("cpu", torch.float16), warnings.catch_warnings():
        warnings.simplefilter("error")
        net(x)
    assert fallbacks["under autocast"] == 2
