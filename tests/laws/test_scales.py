"""Many time scales: what each way is at the end of its range, what it is equal to, how far its gradients reach."""

import copy
from functools import partial

import pytest
import torch
from torch.utils import _pytree as pytree

from laws.table import CELLS, build, inputs_of, state_of
from wavefront import Cell, Recurrent, Sequence, cells, unfold, wrap
from wavefront.cells import Affine, Irregular, LinearRecurrence
from wavefront.errors import SettingsError, ShapeError
from wavefront.networks import Clockwork, Dilated, Pyramid, Scan

D, H, B, T = 3, 4, 3, 11
line = partial(Recurrent, backend="reference")
LENGTHS = torch.tensor([11, 0, 6])
RESETS = torch.rand(B, T, generator=torch.Generator().manual_seed(0)) < 0.2


def close(a, b, tolerance=1e-12):
    a, b = pytree.tree_leaves(a), pytree.tree_leaves(b)
    assert len(a) == len(b)
    for ours, theirs in zip(a, b):
        torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)


def xs(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def random_state(cell):
    return pytree.tree_map(torch.randn_like, cell.initial_state(B))


# --- leaks


@pytest.mark.parametrize("make", [lambda: cells.LSTM(D, H), lambda: cells.MLSTM(D, H)])
def test_a_leak_of_one_is_the_cell_itself(make):
    cell = make().double()
    x, state = xs(B, T, D), random_state(cell)
    close(line(wrap.Leak(cell, 1.0).double())(x, state, LENGTHS), line(cell)(x, state, LENGTHS))


@pytest.mark.parametrize("learned", [False, True])
def test_elman_with_a_leak_is_leaky_units(learned):
    simple, options = cells.Elman(D, H), {"time_constants": (1.5, 30), "learned": learned}
    leaky, wrapped = cells.Leaky(D, H, **options).double(), wrap.Leak(simple, **options).double()
    leaky.U, leaky.W = simple.U, simple.W
    x, h = xs(B, T, D), xs(B, H)
    close(line(wrapped)(x, h), line(leaky)(x, h))


# --- clocks


def test_a_clock_of_one_is_elman():
    clockwork, elman = cells.Clockwork(D, H, periods=(1,)).double(), cells.Elman(D, H).double()
    elman.U, elman.W = clockwork.U[0], clockwork.W[0]
    x, h = xs(B, T, D), xs(B, H)
    close(line(clockwork)(x, h, LENGTHS), line(elman)(x, h, LENGTHS))


def test_clocks_of_one_for_all_groups_are_elman_without_the_way_from_fast_to_slow():
    clockwork, elman = cells.Clockwork(D, H, periods=(1, 1, 1)).double(), cells.Elman(D, H).double()
    with torch.no_grad():
        elman.U.weight.copy_(torch.cat([U.weight for U in clockwork.U]))
        elman.W.weight.copy_(torch.cat([torch.nn.functional.pad(W.weight, (H - W.in_features, 0)) for W in clockwork.W]))
    x, h = xs(B, T, D), xs(B, H)
    close(line(clockwork)(x, h), line(elman)(x, h))


def test_what_does_not_tick_is_not_computed():
    cell = cells.Clockwork(D, 8, periods=(1, 2, 4, 8))
    done = []
    for group, U in enumerate(cell.U):
        U.register_forward_hook(lambda *_, group=group: done.append(group))
    for t in range(8):
        cell.step(torch.zeros(1, 8), torch.zeros(1, D), phase=t)
    assert [done.count(group) for group in range(4)] == [8, 4, 2, 1]


def test_a_slow_layer_is_the_cell_over_every_kth_step():
    cell = cells.GRU(D, H).double()
    x, h = xs(B, T, D), xs(B, H)
    outputs, last = line(wrap.Every(cell, 3))(x, wrap.every.EveryState(h, xs(B, H)))
    slow, end = line(cell)(x[:, ::3], h)
    close(outputs, slow.repeat_interleave(3, 1)[:, :T])
    close(last.inner, end)


def test_the_clock_inside_a_slow_layer_counts_the_steps_that_it_takes():
    cell = cells.Clockwork(D, H, periods=(1, 2)).double()
    x = xs(B, 12, D)
    close(line(wrap.Every(cell, 3))(x)[0][:, ::3], line(cell)(x[:, ::3])[0])


# --- delays


def test_a_delay_of_one_alone_is_the_plain_network():
    cell, x = cells.GRU(D, H).double(), xs(B, T, D)
    dilated = Dilated(D, H, delays=(1,), backend="reference").double()
    dilated.layers[0].cell.load_state_dict(cell.state_dict())
    outputs, (state,) = dilated(x, lengths=LENGTHS)
    close((outputs, state), line(cell)(x, lengths=LENGTHS))
    close(line(wrap.Delays(cell, D))(x)[0], line(cell)(x)[0])


@pytest.mark.parametrize("skips", [(3,), (2, 5)])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("backend", ["reference", "compiled"])
def test_interleaved_phases_are_the_plain_loop(skips, reverse, backend):
    make = {(3,): "Elman", (2, 5): "TreeLSTM"}[skips]
    row = next(row for row in CELLS if row.name == make)._replace(skips=skips)
    net = build(row, reverse=reverse)
    x = inputs_of(net, B, T, requires_grad=True)
    state = state_of(net, B, requires_grad=True)
    found = []
    for together in (1, min(skips)):
        places = Sequence(B, T, LENGTHS, RESETS, reverse, skips, together=together)
        assert len(places.sizes) == -(T // -together)
        outputs, last = unfold(net.cell, places, places.pack(x), state, backend=backend)
        outputs = places.unpack(outputs)
        wanted = [x, *pytree.tree_leaves(state), *net.parameters()]
        loss = (outputs.sin().sum() + sum(leaf.cos().sum() for leaf in pytree.tree_leaves(last))).sum()
        found.append((outputs, last, torch.autograd.grad(loss, wanted)))
    close(*found)
    close(net(x, state, LENGTHS, RESETS), found[0][:2])


def test_steps_that_the_cell_tells_apart_are_not_done_together():
    assert line(cells.Elman(D, H), (4,))._together() == 4
    assert line(cells.Clockwork(D, H, (1, 2)), (4,))._together() == 1
    with pytest.raises(ShapeError, match="1 to 2 here; got 3"):
        Sequence(1, 5, skips=(2, 7), together=3)


def test_a_dilated_stack_is_its_layers_and_streams():
    net = Dilated(D, H, layers=3, cell=cells.LSTM, backend="reference").double()
    assert net.delays == (1, 2, 4)
    x = xs(B, T, D)
    h = x
    for d, layer in zip(net.delays, net.layers):
        h, _ = line(layer.cell, (d,))(h)
    outputs, state = net(x)
    close(outputs, h)
    first, middle = net(x[:, :5])
    second, last = net(x[:, 5:], middle)
    close((torch.cat([first, second], 1), last), (outputs, state))
    streamed = None
    for t in range(T):
        streamed, output = net.step(streamed, x[:, t])
        close(output, outputs[:, t])


def test_narx_sees_past_inputs_and_past_outputs():
    cell = cells.Elman(2 * D + 2 * H, H).double()
    net = line(wrap.Delays(cell, D, inputs=(0, 4), outputs=(1, 3)))
    x = xs(B, T, D)
    h, past_x, past_o = torch.zeros(B, H).double(), [torch.zeros(B, D).double()] * 4, [torch.zeros(B, H).double()] * 3
    outputs, _ = net(x)
    for t in range(T):
        h, output = cell.step(h, torch.cat([x[:, t], past_x[-4], past_o[-1], past_o[-3]], -1))
        past_x, past_o = [*past_x, x[:, t]], [*past_o, output]
        close(outputs[:, t], output)


class Keeping(Cell):
    """h' = w h + x"""

    def __init__(self, inputs, w):
        super().__init__(inputs, state=inputs)
        self.w = torch.nn.Parameter(torch.tensor(w, dtype=torch.float64))

    def step(self, state, x):
        h = self.w * state + x
        return h, h


@pytest.mark.parametrize("d", [1, 2, 5])
def test_gradients_through_skips_of_d_shrink_with_tau_over_d(d):
    net, tau = line(Keeping(1, 0.7), (d,)), 10
    x = torch.zeros(1, tau + 1, 1, dtype=torch.float64, requires_grad=True)
    outputs, _ = net(x)
    (found,) = torch.autograd.grad(outputs[0, -1, 0], x)
    close(found[0, 0, 0].item(), 0.7 ** (tau / d))


# --- subsampling


def test_a_pyramid_reads_several_steps_as_one():
    net = Pyramid(D, (4, 5, 6), factors=(2, 3), backend="reference").double()
    x, lengths = xs(B, T, D), torch.tensor([11, 0, 8])
    outputs, left, state = net(x, lengths)
    assert left.tolist() == [2, 0, 2]
    for b, n in enumerate(lengths.tolist()):
        h = x[b : b + 1, :n]
        for layer, k, last in zip(net.layers, (1, 2, 3), state):
            h = torch.cat([h, h.new_zeros(1, -h.shape[1] % k, h.shape[2])], 1)
            h, end = layer(h.reshape(1, h.shape[1] // k, k * h.shape[2]))
            close(end, last[b : b + 1])
        close(outputs[b, : left[b]], h[0])
        assert (outputs[b, left[b] :] == 0).all()


def test_a_pyramid_is_carried_on_where_it_was_cut():
    net = Pyramid(D, (4, 5), factors=3, cell=cells.LSTM, backend="reference").double()
    x = xs(B, T, D)
    whole, _, end = net(x)
    first, _, middle = net(x[:, :6])
    second, _, last = net(x[:, 6:], state=middle)
    close((torch.cat([first, second], 1), last), (whole, end))


# --- linear recurrences


LINEAR = [row for row in CELLS if isinstance(row.make(), LinearRecurrence)]
each_linear = pytest.mark.parametrize("row", LINEAR, ids=lambda row: row.name)


@each_linear
def test_combine_is_associative_and_is_one_step_after_another(row):
    cell = build(row).cell
    a, b, c = (cell.affine(xs(B, D)) for _ in range(3))
    close(tuple(cell.combine(cell.combine(a, b), c)), tuple(cell.combine(a, cell.combine(b, c))))
    s = random_state(cell)
    close(cell.act(cell.combine(a, b), s), cell.act(b, cell.act(a, s)))
    assert isinstance(cell.combine(a, b), Affine)


@each_linear
@pytest.mark.parametrize("steps", [1, 2, T])
def test_a_parallel_scan_is_the_loop(row, steps):
    net = build(row)
    x, state = xs(B, steps, D).requires_grad_(), random_state(net.cell)
    lengths, resets = LENGTHS.clamp(max=steps), RESETS[:, :steps]
    found = []
    for run in (net, Scan(net.cell)):
        outputs, last = run(x, state, lengths, resets)
        loss = outputs.sin().sum() + sum(leaf.cos().sum() for leaf in pytree.tree_leaves(last))
        found.append((outputs, last, torch.autograd.grad(loss, [x, *net.parameters()])))
    close(*found, tolerance=1e-10)
    poisoned = torch.where((torch.arange(steps) < lengths[:, None])[..., None], x, torch.nan)
    close(Scan(net.cell)(poisoned, state, lengths, resets), found[0][:2], tolerance=1e-10)


def test_only_what_is_linear_is_scanned():
    with pytest.raises(TypeError, match=r"the state of cells.GRU\(inputs=3\) decides where it goes. Use Recurrent"):
        Scan(cells.GRU(D, H))


# --- gaps


def gapped(net, k):
    """The state after an observation, then k steps of gap 1 without one; or one step of gap k without one."""
    first = Irregular(xs(B, 1, D), torch.ones(B, 1, 1).double(), torch.ones(B, 1, D).double())
    _, state = net(first)
    nothing = torch.zeros(B, k, D).double()
    _, slowly = net(Irregular(nothing, torch.ones(B, k, 1).double(), nothing), state)
    _, at_once = net(Irregular(nothing[:, :1], torch.full((B, 1, 1), float(k)).double(), nothing[:, :1]), state)
    return slowly, at_once


@pytest.mark.parametrize("make", [lambda: cells.LSTM(2 * D, H), lambda: cells.GatedDeltaRule(2 * D, H)])
def test_a_gap_of_k_is_k_unobserved_steps(make):
    close(*gapped(line(wrap.Decayed(make()).double()), 7))


def test_a_gap_of_k_is_k_unobserved_steps_to_the_clocks_of_gru_d():
    slowly, at_once = gapped(line(cells.GRUD(D, H).double()), 7)
    close((slowly.last, slowly.since), (at_once.last, at_once.since))
    assert not torch.allclose(slowly.h, at_once.h)  # its state is updated at every step, whatever was observed


def test_decay_is_exponential_in_the_time_that_has_passed():
    cell = wrap.Decayed(cells.Elman(2 * D, H), (2.0, 50.0)).double()
    h, nothing = xs(B, H), torch.zeros(B, D).double()
    state, output = cell.step(h, Irregular(nothing, torch.full((B, 1), 3.5).double(), nothing))
    close(state, h * torch.exp(-3.5 / torch.logspace(0.30103, 1.69897, H, dtype=torch.float64)), 1e-6)
    assert output is state


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: cells.Clockwork(D, H, (2, 1)), SettingsError, r"rising, such as \(1, 2, 4, 8\); got \(2, 1\)"),
        (lambda: cells.Clockwork(D, H, (1, 2), sizes=(3, 3)), SettingsError, "4 units in all; got"),
        (lambda: cells.LMU(D, H, theta=0), SettingsError, "theta a number of steps above 0; got 4 and 0"),
        (lambda: cells.LRU(D, H, radius=(0.9, 0.5)), SettingsError, "within 0 and 1; got"),
        (lambda: cells.MLSTM(D, 5, heads=2), SettingsError, "got 5 units, 2 heads"),
        (lambda: cells.PhasedLSTM(D, H, (9, 2)), SettingsError, "in steps, above 0; got"),
        (lambda: cells.PhasedLSTM(D, H, open=0), SettingsError, "0 < open <= 1"),
        (lambda: cells.QRNN(D, H, width=0), SettingsError, "at least 1; got 0"),
        (lambda: cells.GRUD(D, H, mean=torch.zeros(2)), SettingsError, r"each of the 3 inputs; got \[2\]"),
        (lambda: cells.CfC(D, H, backbone=0), SettingsError, "at least 1; got 0"),
        (lambda: wrap.Delays(cells.GRU(D, H), D, inputs=(0, 1)), ShapeError, "are 6 numbers, .*; got one of inputs=3"),
        (lambda: wrap.Delays(cells.GRU(D, H), D, outputs=(0,)), SettingsError, "at least 1 steps; got"),
        (lambda: wrap.Every(cells.GRU(D, H), 0), SettingsError, "at least 1; got 0"),
        (lambda: wrap.Decayed(cells.GRU(D, H)), ShapeError, "a cell of 2 × inputs"),
        (lambda: wrap.Decayed(cells.GRU(2 * D, H), (0, 1)), SettingsError, "above 0; got"),
        (lambda: wrap.Leak(cells.GRU(D, H), 2.0), SettingsError, r"wrap.Leak: a leak lies in \(0, 1\]"),
        (lambda: Dilated(D, H), SettingsError, "either layers .* or delays"),
        (lambda: Pyramid(D, (4, 4), factors=(2, 2)), SettingsError, "one between each two of the 2 layers"),
    ],
)
def test_settings_that_cannot_be_are_refused(make, error, text):
    with pytest.raises(error, match=text):
        make()


# --- a clockwork group by group


@pytest.mark.parametrize("start", [0, 5, 8])
@pytest.mark.parametrize("resets", [None, RESETS])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("periods", [(1, 2, 3), (2, 3, 6), (2, 4, 8)])
def test_a_clockwork_group_by_group_is_the_loop(start, resets, reverse, periods):
    net = Clockwork(cells.Clockwork(D, 6, periods=periods, sizes=(3, 1, 2)), reverse=reverse, backend="reference").double()
    x, h = xs(B, T, D).requires_grad_(), xs(B, 6).requires_grad_()
    found = []
    for run in (line(net.cell, reverse=reverse), net):
        outputs, last = run(x, h, LENGTHS, resets, start=start)
        loss = outputs.sin().sum() + last.cos().sum()
        found.append((outputs, last, torch.autograd.grad(loss, [x, h, *net.parameters()])))
    close(*found)
    poisoned = torch.where((torch.arange(T) < LENGTHS[:, None])[..., None], x, torch.nan)
    close(net(poisoned, h, LENGTHS, resets, start), found[0][:2])
    assert [name for name, _ in net.named_parameters()] == [f"cell.{name}" for name, _ in net.cell.named_parameters()]


def test_a_clockwork_is_copied_with_its_groups():
    net = Clockwork(D, 6, (1, 2, 4)).double()
    twin = copy.deepcopy(net)
    with torch.no_grad():
        for p in twin.parameters():
            p.zero_()
    x = xs(B, T, D)
    close(net(x)[0], line(net.cell)(x)[0])
    assert not twin(x)[0].any()
