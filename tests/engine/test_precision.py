"""Mixed precision: large products in bfloat16, all else in float32."""

import pytest
import torch

from wavefront import Bidirectional, Recurrent, cells
from wavefront.engine import runs
from wavefront.engine.backends.compiled import native, program, run, spare
from wavefront.engine.backends.compiled.pairs import contract_pairs
from wavefront.errors import BackendError


def everything(net, x):
    outputs, state = net(x)
    outputs.sum().backward()
    found = [outputs.detach(), state.c.detach(), x.grad.clone(), *(p.grad.clone() for p in net.parameters())]
    net.zero_grad()
    x.grad = None
    return found


def test_bf16_is_near_and_its_results_are_float32():
    net = Recurrent(cells.LSTM(64, 128), backend="compiled")
    x = torch.randn(16, 20, 64, requires_grad=True)
    full = everything(net, x)
    net.precision = "bf16"
    before = runs["compiled"]
    low = everything(net, x)
    assert runs["compiled"] == before + 1
    for a, b in zip(full, low):
        assert b.dtype is torch.float32
        assert 0 < (a - b).norm() <= 0.02 * a.norm()


@pytest.mark.parametrize("name", ["LSTM", "GRU", "Elman"])
def test_gradients_of_bf16_are_near_where_no_size_divides(name):
    """Sums over rows are made in float32: what rounding does to them does not grow with their number."""
    torch.manual_seed(0)
    cell = getattr(cells, name)(67, 131)
    x = torch.randn(37, 30, 67)
    found = {}
    for precision in ("float32", "bf16"):
        net = Recurrent(cell, backend="compiled", precision=precision)
        found[precision] = torch.autograd.grad(net(x)[0].square().sum(), list(cell.parameters()))
    for low, full in zip(found["bf16"], found["float32"]):
        assert low.shape == full.shape
        assert 0 < far(low, full) < 2**-7


def test_a_large_step_is_compiled_in_bf16_without_having_been_seen_before():
    net = Recurrent(cells.LSTM(160, 200), backend="compiled", precision="bf16")  # its step alone has products that are large
    net(torch.randn(4, 8, 160))


def test_autocast_is_the_same_and_takes_what_came_before_in_bfloat16():
    net, before = Recurrent(cells.LSTM(64, 128), backend="compiled"), torch.nn.Linear(64, 64)
    x = torch.randn(16, 20, 64, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        ours = everything(net, x)
        assert net(before(x))[0].dtype is torch.float32
        net.precision = "float32"
        exact = net(x)[0]
    net.precision = "bf16"
    for a, b in zip(ours, everything(net, x)):
        assert torch.equal(a, b)
    net.precision = None
    assert torch.equal(exact, net(x)[0])


def test_the_reference_takes_it_too_and_other_words_are_refused():
    net = Recurrent(cells.LSTM(16, 32), backend="reference", precision="bf16")
    x = torch.randn(4, 5, 16)
    assert (net(x)[0].float() - Recurrent(net.cell)(x)[0]).abs().max() < 0.1
    with pytest.raises(BackendError, match='precision is "float32", "bf16"'):
        Bidirectional(cells.GRU(3, 4), cells.GRU(3, 4), precision="half")(torch.randn(2, 5, 3))


LOW = pytest.mark.skipif(not native.has_bf16(), reason="this machine has no instructions for pairs of bfloat16")


def far(a, b):
    return float((a - b).detach().norm() / (b.detach().norm() + 1e-9))


@LOW
@pytest.mark.parametrize("inside", [0, 1000], ids=["inputs inside the loop", "inputs before it"])
@pytest.mark.parametrize("units", [1, 16, 37])
@pytest.mark.parametrize("name", ["LSTM", "GRU", "GRUBefore", "Elman", "MUT2"])
def test_carried_products_in_bfloat16(monkeypatch, name, units, inside):
    """Two units in the last place of bfloat16 at the most, and other numbers than float32's: they were made so."""
    monkeypatch.setattr(run, "ROWS", inside)
    torch.manual_seed(0)
    cell = getattr(cells, name)(5, units)
    x = torch.randn(9, 6, 5)
    found = {}
    for precision in ("float32", "bf16"):
        net = Recurrent(cell, backend="compiled", precision=precision)
        outputs = net(x, lengths=[6, 6, 1, 0, 6, 2, 6, 6, 5])[0]
        with torch.no_grad():
            inferred = net(x, lengths=[6, 6, 1, 0, 6, 2, 6, 6, 5])[0]
        found[precision] = [outputs, inferred, *torch.autograd.grad(outputs.square().sum(), list(cell.parameters()))]
    errors = [far(a, b) for a, b in zip(found["bf16"], found["float32"])]
    assert max(errors[:2]) < 2**-7
    assert max(errors) < 2**-5
    assert errors[0] > 1e-6


@LOW
def test_rows_in_bfloat16_do_not_see_each_other():
    torch.manual_seed(0)
    net = Recurrent(cells.GRU(5, 21), backend="compiled", precision="bf16")
    x = torch.randn(11, 4, 5)
    with torch.no_grad():
        alone = torch.cat([net(row[None])[0] for row in x])
        x[3, 1, 2] = float("nan")
        together = net(x)[0]
    assert together[3, 1:].isnan().all()
    others = [n for n in range(11) if n != 3]
    assert far(together[others], alone[others]) < 1e-2


def test_machines_without_bfloat16_keep_the_loop_in_float32(monkeypatch):
    monkeypatch.setattr(program, "has_bf16", lambda: False)
    torch.manual_seed(0)
    cell = cells.LSTM(5, 21)
    x = torch.randn(2, 4, 5)  # its large products are too small to be made in bfloat16
    plain, low = (Recurrent(cell, backend="compiled", precision=p)(x)[0] for p in ("float32", "bf16"))
    assert torch.equal(plain, low)


@LOW
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("rows", "columns", "others"), [(1, 1, (1,)), (7, 3, (5, 70)), (300, 40, (64,)), (513, 29, (129, 16))])
def test_products_over_pairs_of_rows(rows, columns, others, kind):
    """Of exact pairs of bfloat16 the sums are as exact as float32 is, whatever the sizes, and are added to what was there."""
    torch.manual_seed(0)
    d, *xs = (torch.randn(rows, 2 * k)[:, :k] for k in (columns, *others))
    d = d.to(kind)
    first = contract_pairs(d, xs)
    for times in (1, 2):
        total, *found = first if times == 1 else contract_pairs(d, xs, first)
        torch.testing.assert_close(total[:columns], times * d.float().sum(0), rtol=1e-5, atol=1e-4)
        for out, x in zip(found, xs):
            exact = d.bfloat16().double().t() @ x.bfloat16().double()
            torch.testing.assert_close(out[:columns, : x.shape[1]].double(), times * exact, rtol=1e-5, atol=1e-4)


@LOW
def test_what_is_stored_is_not_handed_on_before_it_is_read(monkeypatch):
    """Several steps at once, their backward passes in any order, one of them twice: as each alone."""
    monkeypatch.setattr(spare, "LEAST", 1)
    torch.manual_seed(0)
    net = Recurrent(cells.LSTM(24, 40), backend="compiled", precision="bf16")
    xs = [torch.randn(14, 9, 24) for _ in range(3)]

    def gradient(y, **options):
        return torch.autograd.grad(y.square().sum(), list(net.parameters()), **options)

    alone = [gradient(net(x)[0]) for x in xs]
    first, second = net(xs[0])[0], net(xs[1])[0]
    kept = gradient(first, retain_graph=True)
    third = net(xs[2])[0]
    together = [gradient(first), gradient(second), gradient(third)]
    for a, b in zip([*alone, alone[0]], [*together, kept]):
        for p, q in zip(a, b):
            assert torch.equal(p, q)
