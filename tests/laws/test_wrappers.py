"""What each wrapper means, against its equation spelled out by hand."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from laws import sample_cells as samples
from wavefront import Recurrent, ShapeError, cells, wrap
from wavefront.cell import draws_wanted
from wavefront.errors import SettingsError
from wavefront.wrap import Forced

D, H, B, T = 3, 5, 4, 6


def close(a, b):
    torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def xs(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def line(cell):
    return Recurrent(cell.double())


# --- Stack


def test_a_stack_is_its_layers_one_after_the_other():
    low, high = cells.LSTM(D, 7), cells.GRU(7, H)
    x = xs(B, T, D)
    middle, first = line(low)(x)
    outputs, second = line(high)(middle)
    whole, state = line(wrap.Stack(low, high))(x)
    close(whole, outputs)
    close(tuple(state[0]), tuple(first))
    close(state[1], second)


def test_a_stack_of_slots_hands_each_layer_its_own_states():
    low, high = samples.SkippingTwoParts(D, 7).double(), samples.Skipping(7, H).double()
    x, skips = xs(B, T, D), (1, 3)
    middle, first = Recurrent(low, skips)(x)
    outputs, second = Recurrent(high, skips)(middle)
    whole, history = Recurrent(wrap.Stack(low, high), skips)(x)
    close(whole, outputs)
    for state, a, b in zip(history, first, second, strict=True):
        close(tuple(state[0]), tuple(a))
        close(state[1], b)


def test_a_stack_of_one_layer_is_that_layer_with_its_state_in_a_tuple():
    cell, x = cells.Elman(D, H).double(), xs(B, D)
    state, output = wrap.Stack(cell)(None, x)
    assert isinstance(state, tuple)
    close(output, cell(None, x)[1])
    close(state[0], output)


def test_clocks_of_a_stack_keep_their_own_time():
    two = samples.Clocked(D, D)
    two.phases = 2
    stack = wrap.Stack(two, samples.Clocked(D, H)).double()
    assert stack.phases == 6
    x = xs(B, 7, D)
    close(Recurrent(stack)(x)[0], Recurrent(stack.cells[1])(Recurrent(two)(x)[0])[0])


# --- Residual, Highway


def test_residual_adds_the_inputs():
    cell, x = cells.GRU(H, H), xs(B, T, H)
    close(line(wrap.Residual(cell))(x)[0], x + line(cell)(x)[0])


def test_highway_mixes_inputs_and_outputs_by_a_gate_of_the_inputs():
    cell, x = cells.GRU(H, H), xs(B, T, H)
    highway = wrap.Highway(cell, bias=-2.0).double()
    assert (highway.U.bias == -2).all()
    g = torch.sigmoid(x @ highway.U.weight.T + highway.U.bias)
    close(line(highway)(x)[0], g * line(cell)(x)[0] + (1 - g) * x)


# --- Dropout, Zoneout, WeightDropped


def test_dropout_multiplies_inputs_outputs_and_the_hidden_state():
    cell = cells.LSTM(D, H).double()
    net = Recurrent(wrap.Dropout(cell, inputs=0.3, outputs=0.5, states=0.4).double())
    x, state = xs(B, T, D), cell.sizes._replace(h=xs(B, H), c=xs(B, H))
    drawn = net.draws(x)
    assert drawn.inputs.shape == (B, T, D)
    assert {round(v, 6) for v in drawn.states.flatten().tolist()} == {0.0, round(1 / 0.6, 6)}
    outputs, last = net(x, state, draws=drawn)
    for t in range(T):
        state, output = cell.step(state._replace(h=state.h * drawn.states[:, t]), x[:, t] * drawn.inputs[:, t])
        close(outputs[:, t], output * drawn.outputs[:, t])
    close(tuple(last), tuple(state))


def test_variational_dropout_drops_the_same_units_at_every_step():
    net = line(wrap.Dropout(cells.LSTM(D, H), inputs=0.5, states=0.5, variational=True))
    x = xs(B, T, D)
    drawn = net.draws(x)
    assert drawn.inputs.shape == (B, D)
    assert drawn.states.shape == (B, H)
    steps = Recurrent(wrap.Dropout(net.cell.cell, inputs=0.5, states=0.5))
    every = type(drawn)(inputs=drawn.inputs[:, None].expand(B, T, D), states=drawn.states[:, None].expand(B, T, H))
    close(net(x, draws=drawn)[0], steps(x, draws=every)[0])


def test_dropout_keeps_the_mean_and_the_share():
    cell = wrap.Dropout(cells.GRU(D, 1000), outputs=0.25)
    mask = Recurrent(cell).draws(torch.randn(10, 20, D)).outputs
    assert abs((mask == 0).float().mean() - 0.25) < 0.005  # standard error 0.001
    assert abs(mask.mean() - 1) < 0.005


def test_dropout_in_eval_and_without_probabilities_is_the_cell():
    cell, x = cells.LSTM(D, H), xs(B, T, D)
    assert draws_wanted(wrap.Dropout(cell), 2) is None
    close(line(wrap.Dropout(cell))(x)[0], line(cell)(x)[0])
    close(line(wrap.Dropout(cell, 0.5, 0.5, 0.5)).eval()(x)[0], line(cell)(x)[0])


def test_an_inner_cell_in_eval_mode_draws_nothing():
    outer = wrap.Dropout(wrap.Dropout(cells.GRU(D, H), inputs=0.5), outputs=0.5)
    outer.cell.eval()
    wanted = draws_wanted(outer, 2)
    assert wanted.cell is None
    assert wanted.outputs is not None


def test_zoneout_keeps_old_values_where_drawn_and_mixes_in_eval():
    cell = cells.LSTM(D, H).double()
    p = cell.sizes._replace(h=0.3, c=0.6)
    net = Recurrent(wrap.Zoneout(cell, p))
    x, state = xs(B, T, D), cell.sizes._replace(h=xs(B, H), c=xs(B, H))
    drawn = net.draws(x)
    outputs, last = net(x, state, draws=drawn)
    mixed, end = net.eval()(x, state)
    one = two = state
    for t in range(T):
        new, _ = cell.step(one, x[:, t])
        one = type(state)(*(torch.where(m[:, t] == 1, old, fresh) for m, old, fresh in zip(drawn.old, one, new)))
        close(outputs[:, t], one.h)
        new, _ = cell.step(two, x[:, t])
        two = type(state)(*(q * old + (1 - q) * fresh for q, old, fresh in zip(p, two, new)))
        close(mixed[:, t], two.h)
    close(tuple(last), tuple(one))
    close(tuple(end), tuple(two))


def test_zoneout_draws_each_part_at_its_own_rate():
    net = Recurrent(wrap.Zoneout(cells.LSTM(D, 500), p=cells.LSTM(D, 1).sizes._replace(h=0.1, c=0.5)))
    h, c = net.draws(torch.randn(10, 20, D)).old
    assert abs(h.mean() - 0.1) < 0.005
    assert abs(c.mean() - 0.5) < 0.01


def test_zoneout_over_skips_keeps_the_latest_state():
    cell, skips = samples.Skipping(D, H).double(), (1, 3)
    net = Recurrent(wrap.Zoneout(cell, 0.3), skips).eval()
    x, past = xs(B, T, D), [xs(B, H) for _ in range(3)]
    outputs, _ = net(x, tuple(past))
    for t in range(T):
        new, _ = cell.step((past[0], past[2]), x[:, t])
        past = [0.3 * past[0] + 0.7 * new, *past[:-1]]
        close(outputs[:, t], past[0])


def test_dropped_weights_are_the_same_for_all_steps_and_rows():
    cell = cells.LSTM(D, H).double()
    net = Recurrent(wrap.WeightDropped(cell, 0.5))
    assert net.cell.weights == ("W.weight",)
    x = xs(B, T, D)
    drawn = net.draws(x)
    mask = drawn.weights["W.weight"]
    assert {0.0, 2.0} == set(mask.flatten().tolist())
    outputs, _ = net(x, draws=drawn)
    other = cells.LSTM(D, H).double()
    other.load_state_dict(cell.state_dict())
    with torch.no_grad():
        other.W.weight.mul_(mask)
    close(outputs, Recurrent(other)(x)[0])
    close(net.eval()(x)[0], Recurrent(cell)(x)[0])


def test_dropped_weights_get_no_gradient():
    net = line(wrap.WeightDropped(cells.GRU(D, H), 0.5))
    x = xs(B, T, D)
    drawn = net.draws(x)
    net(x, draws=drawn)[0].sum().backward()
    assert torch.equal(net.cell.cell.W.weight.grad == 0, drawn.weights["W.weight"] == 0)


def test_the_names_of_dropped_weights_can_be_given():
    stack = wrap.Stack(cells.GRUBefore(D, H), cells.FullGateLSTM(H, H), wrap.Deepened(cells.MUT3(H, H), transition=()))
    assert wrap.WeightDropped(stack).weights == (
        "cells.0.W.weight",
        "cells.0.W_n.weight",
        "cells.1.W.weight",
        "cells.2.cell.W_z.weight",
        "cells.2.cell.W_r.weight",
        "cells.2.cell.W_n.weight",
    )
    assert set(wrap.WeightDropped(cells.IndRNN(D, H), weights=["w"]).draws(2).weights) == {"w"}


# --- Normed, LearnedStart, Deepened


def test_normed_normalises_what_it_is_asked_to():
    cell = cells.LSTM(D, H).double()
    normed = wrap.Normed(cell, inputs=True, outputs=True, state=True).double()
    for norm in (normed.norm_x, normed.norm_o, normed.norm_h):
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    x, state = xs(B, T, D), cell.sizes._replace(h=xs(B, H), c=xs(B, H))
    outputs, last = Recurrent(normed)(x, state)

    def norm(layer, a):
        return (a - a.mean(-1, keepdim=True)) / (a.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt() * layer.weight + layer.bias

    for t in range(T):
        state, output = cell.step(state._replace(h=norm(normed.norm_h, state.h)), norm(normed.norm_x, x[:, t]))
        close(outputs[:, t], norm(normed.norm_o, output))
    close(tuple(last), tuple(state))
    assert len(list(wrap.Normed(cell).parameters())) == len(list(cell.parameters()))


def test_a_learned_start_stands_wherever_there_is_no_state():
    net = line(wrap.LearnedStart(cells.LSTM(D, H)))
    with torch.no_grad():
        for part in net.cell.start:
            part.normal_()
    x = xs(B, T, D)
    start = net.cell.cell.sizes._replace(h=net.cell.start[0].expand(B, H), c=net.cell.start[1].expand(B, H))
    close(net(x)[0], Recurrent(net.cell.cell)(x, start)[0])
    resets = (torch.arange(T) == 3).expand(B, T)
    outputs, _ = net(x, resets=resets)
    close(outputs[:, 3:], net(x[:, 3:])[0])
    outputs.sum().backward()
    assert all(part.grad.abs().min() > 0 for part in net.cell.start)


def test_a_learned_start_begins_as_the_cells_own():
    close(tuple(wrap.LearnedStart(cells.LSTM(D, H)).initial_state(2)), tuple(cells.LSTM(D, H).initial_state(2)))
    feedback = wrap.Feedback(cells.GRU(D + H, H), start=torch.arange(5.0))
    close(wrap.LearnedStart(feedback).initial_state(2).output, torch.arange(5.0).expand(2, 5))


@pytest.mark.parametrize("shortcut", [False, True])
def test_deepened_paths_are_layers(shortcut):
    cell = cells.Elman(7, H)
    deep = wrap.Deepened(cell, before=(D, 6, 7), transition=(8,), after=(9, 2), shortcut=shortcut).double()
    x, h = xs(B, T, D), xs(B, H)
    outputs, last = Recurrent(deep)(x, h)
    assert (deep.inputs, deep.outputs) == (D, 2)

    def path(layers, a, readout=False):
        for at, layer in enumerate(layers):
            a = F.linear(a, layer.U.weight, layer.U.bias)
            a = a if readout and at == len(layers) - 1 else a.tanh()
        return a

    for t in range(T):
        through = path(deep.transition, h) + (h if shortcut else 0)
        h, _ = cell.step(through, path(deep.before, x[:, t]))
        close(outputs[:, t], path(deep.after, h, readout=True))
    close(last, h)
    assert [len(deep.before), len(deep.transition), len(deep.after)] == [2, 2, 2]


def test_deepened_by_nothing_is_the_cell():
    cell, x = cells.LSTM(D, H), xs(B, T, D)
    close(line(wrap.Deepened(cell))(x)[0], line(cell)(x)[0])
    line(wrap.Deepened(wrap.Stack(cells.GRU(D, H)), after=(2,)))(x)


# --- Feedback


def loop(cell, state, x, target, coin, last, cut=False):
    """The book's output-to-hidden recurrence, by hand."""
    outputs = []
    for t in range(x.shape[1]):
        last = last.detach() if cut else last
        last = torch.stack([target[b, t] if coin[b, t, 0] else last[b] for b in range(len(x))])
        state, last = cell.step(state, torch.cat([x[:, t], last], -1))
        outputs.append(last)
    return torch.stack(outputs, 1), state


@pytest.mark.parametrize("cut", [False, True])
def test_feedback_is_the_loop_by_hand(cut):
    cell = wrap.Deepened(cells.LSTM(D + 2, H), after=(2,)).double()
    net = Recurrent(wrap.Feedback(cell, start=torch.tensor([0.3, -0.2]), cut=cut).double())
    x, target = xs(B, T, D).requires_grad_(), xs(B, T, 2).requires_grad_()
    coin = (torch.rand(B, T, 1) < 0.5).double()
    outputs, state = net(Forced(x, target, coin))
    start = torch.tensor([0.3, -0.2]).double().expand(B, 2)
    expected, inner = loop(cell, cell.initial_state(B), x, target, coin, start, cut)
    close(outputs, expected)
    close(tuple(state.inner), tuple(inner))
    close(state.output, expected[:, -1])
    sources = [x, target, *cell.parameters()]
    up = torch.randn_like(outputs)
    close(torch.autograd.grad(outputs, sources, up), torch.autograd.grad(expected, sources, up))


def test_teacher_forcing_is_the_cell_over_the_targets():
    cell = cells.GRU(D + H, H)
    x, target = xs(B, T, D), xs(B, T, H)
    close(line(wrap.Feedback(cell))(Forced.teacher(x, target))[0], line(cell)(torch.cat([x, target], -1))[0])


def test_a_closed_loop_never_looks_at_its_targets():
    net = line(wrap.Feedback(cells.GRU(D + H, H)))
    x = xs(B, T, D).requires_grad_()
    closed = net(Forced.closed(x, H))[0]
    poisoned = net(Forced(x, torch.full((B, T, H), torch.nan, dtype=torch.float64), torch.zeros(B, T, 1, dtype=torch.float64)))[0]
    close(closed, poisoned)
    close(torch.autograd.grad(poisoned.sum(), x), torch.autograd.grad(closed.sum(), x))


def test_forcing_with_its_own_outputs_is_the_closed_loop():
    net = line(wrap.Feedback(cells.LSTM(D + H, H)))
    x = xs(B, T, D)
    closed, state = net(Forced.closed(x, H))
    forced, end = net(Forced.teacher(x, torch.cat([torch.zeros(B, 1, H), closed[:, :-1]], 1)))
    close(forced, closed)
    close(end.output, state.output)


def test_cut_feedback_stops_the_gradient_at_the_output_alone():
    net = line(wrap.Feedback(cells.Elman(D + H, H), cut=True))
    with torch.no_grad():
        net.cell.cell.W.weight.zero_()  # the output is then the only way through time
    x = xs(B, T, D).requires_grad_()
    net(Forced.closed(x, H))[0][:, -1].sum().backward()
    assert (x.grad[:, :-1] == 0).all()
    assert (x.grad[:, -1] != 0).any()
    net.cell.cut = False
    x.grad = None
    net(Forced.closed(x, H))[0][:, -1].sum().backward()
    assert (x.grad[:, :-1] != 0).any()


def test_feedback_over_skips_is_given_the_latest_output():
    cell, skips = samples.Skipping(D + H, H).double(), (1, 3)
    x = xs(B, T, D)
    outputs, _ = Recurrent(wrap.Feedback(cell), skips)(Forced.closed(x, H))
    past = [torch.zeros(B, H, dtype=torch.float64)] * 3
    for t in range(T):
        new, output = cell.step((past[0], past[2]), torch.cat([x[:, t], past[0]], -1))
        past = [new, *past[:-1]]
        close(outputs[:, t], output)


def test_feedback_joins_a_context_last():
    cell = cells.Elman(D + H + 2, H)
    net = line(wrap.Feedback(cell, context=2))
    x, target, context = xs(B, T, D), xs(B, T, H), xs(B, 2)
    joined = torch.cat([x, target, context[:, None].expand(B, T, 2)], -1)
    close(net(Forced.teacher(x, target), context=context)[0], line(cell)(joined)[0])


def test_feedback_without_inputs_of_its_own_generates():
    net = line(wrap.Feedback(cells.LSTM(H, H), start=torch.ones(H)))
    outputs, _ = net(Forced.closed(xs(B, T, 0), H))
    assert outputs.shape == (B, T, H)
    assert (outputs.std(1) > 0).all()


# --- errors


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: wrap.Stack(), TypeError, "takes cells, one or more"),
        (lambda: wrap.Stack([cells.GRU(D, H)]), TypeError, "takes cells, one or more"),
        (
            lambda: wrap.Stack(cells.GRU(D, H), cells.GRU(D, H)),
            ShapeError,
            r"layer 1, cells.GRU\(inputs=3\), gets the 5 outputs of cells.GRU",
        ),
        (lambda: wrap.Stack(cells.GRU(D, H), samples.Skipping(H, H)), ShapeError, "layer 1 takes 2, below it 1"),
        (lambda: wrap.Stack(*[cells.GRU(D, D)] * 2), ValueError, "copy.deepcopy"),
        (lambda: wrap.Residual(cells.GRU(D, H)), ShapeError, r"of one size; cells.GRU\(inputs=3\) has outputs=5"),
        (lambda: wrap.Highway(cells.GRU(D, H)), ShapeError, "of one size"),
        (lambda: wrap.Residual(samples.Decaying(D, H)), ShapeError, "wants a cell whose input is one vector"),
        (lambda: wrap.Dropout(cells.GRU(D, H), inputs=1.0), SettingsError, "inputs is a probability, at least 0 and below 1; got 1.0"),
        (lambda: wrap.Dropout(cells.GRU(D, H), states=-0.1), SettingsError, "states is a probability"),
        (lambda: wrap.Dropout(wrap.Stack(cells.GRU(D, H), cells.GRU(H, H)), states=0.1), SettingsError, "made of 2. Wrap each layer"),
        (lambda: wrap.Normed(wrap.Stack(cells.GRU(D, H), cells.GRU(H, H)), state=True), SettingsError, "made of 2. Wrap each layer"),
        (lambda: wrap.Normed(samples.Decaying(D, H), inputs=True), ShapeError, "wants a cell whose input is one vector"),
        (lambda: wrap.Zoneout(cells.LSTM(D, H), p=(0.1, 0.2, 0.3)), SettingsError, "one for each of the 2 parts"),
        (lambda: wrap.Zoneout(cells.LSTM(D, H), p=1.5), SettingsError, "p is a probability"),
        (lambda: wrap.Zoneout(samples.Gathering(D, H)), ShapeError, "takes any number of states"),
        (lambda: wrap.WeightDropped(cells.IndRNN(D, H)), SettingsError, r"weights names parameters of .*: w, U.weight, U.bias"),
        (lambda: wrap.WeightDropped(cells.GRU(D, H), weights=["W"]), SettingsError, "weights names parameters of"),
        (
            lambda: wrap.Feedback(cells.GRU(D, H)),
            ShapeError,
            r"takes x, its own 5 outputs and a context of 0, joined.*cells.GRU\(inputs=3\)",
        ),
        (lambda: wrap.Feedback(samples.Gathering(D + H, H)), ShapeError, "a fixed number of predecessors"),
        (lambda: wrap.Feedback(cells.GRU(D + H, H), start=torch.zeros(2)), ShapeError, r"start is an output, \[5\]; got \[2\]"),
        (lambda: wrap.Deepened(cells.GRU(D, H), before=(D, 4)), ShapeError, r"\(inputs, ..., 3\); got \(3, 4\)"),
        (lambda: wrap.Deepened(cells.GRU(D, H), shortcut=True), ShapeError, "a shortcut skips the transition"),
        (lambda: wrap.Residual(5), TypeError, r"wrap.Residual is made from a wavefront.Cell.*got int"),
        (lambda: wrap.Zoneout(torch.nn.Linear(3, 3)), TypeError, r"wrap.Zoneout is made from a wavefront.Cell.*got Linear"),
    ],
)
def test_what_cannot_be_wrapped_is_refused(make, error, text):
    with pytest.raises(error, match=text):
        make()
