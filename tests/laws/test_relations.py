"""How cells relate to each other, and the values that they start from."""

import pytest
import torch
from torch import nn

from wavefront import Recurrent, cells
from wavefront.errors import SettingsError

D, H, B, T = 3, 5, 2, 6


def close(a, b, tolerance=1e-12):
    torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


def line(cell):
    return Recurrent(cell.double())


def test_the_books_gru_is_the_usual_one_a_step_later():
    book, usual = line(cells.GRUBook(D, H)), line(cells.GRUBefore(D, H, activation="sigmoid"))
    usual.load_state_dict(book.state_dict())
    x, h = torch.randn(B, T, D, dtype=torch.float64), torch.randn(B, H, dtype=torch.float64)
    before = torch.randn(B, D, dtype=torch.float64)
    late, (last, seen) = book(x, book.cell.sizes._replace(h=h, x=before))
    soon, _ = usual(torch.cat([before[:, None], x], 1), h)
    close(late, soon[:, :-1])
    close(last, soon[:, -2])
    close(seen, x[:, -1])


def test_both_grus_agree_where_the_reset_gate_is_open():
    after, before = cells.GRU(D, H).double(), cells.GRUBefore(D, H).double()
    with torch.no_grad():
        after.U.bias[:H] = 1e3  # r = 1
        before.U.load_state_dict(after.U.state_dict())
        before.W.weight.copy_(after.W.weight[: 2 * H])
        before.W_n.weight.copy_(after.W.weight[2 * H :])
    x = torch.randn(B, T, D, dtype=torch.float64)
    close(Recurrent(after)(x), Recurrent(before)(x))


def test_leaky_units_that_leak_all_are_simple_ones():
    leaky, simple = line(cells.Leaky(D, H, leak=1)), line(cells.Elman(D, H))
    simple.load_state_dict({k: v for k, v in leaky.state_dict().items() if k != "cell.leaks.fixed"})
    x = torch.randn(B, T, D, dtype=torch.float64)
    close(leaky(x), simple(x))


def test_a_small_leak_remembers_for_about_its_time_constant():
    cell = cells.Leaky(D, H, time_constants=(10, 1000), activation="identity", bias=False).double()
    nn.init.zeros_(cell.W.weight)
    _, state = Recurrent(cell)(torch.zeros(1, 1000, D, dtype=torch.float64), torch.ones(1, H, dtype=torch.float64))
    tau = torch.logspace(1, 3, H, dtype=torch.float64)
    close(state[0], (1 - 1 / tau) ** 1000, 1e-4)  # the leaks are held in float32 until .double()


def test_an_lstm_with_closed_input_and_open_forget_gate_keeps_its_memory():
    net = line(cells.LSTM(D, H))
    with torch.no_grad():
        net.cell.U.bias.copy_(torch.tensor([-1e3, 1e3, 0, 0], dtype=torch.float64).repeat_interleave(H))
    c = torch.randn(B, H, dtype=torch.float64)
    _, state = net(torch.randn(B, 100, D, dtype=torch.float64), net.cell.sizes._replace(h=torch.zeros(B, H, dtype=torch.float64), c=c))
    close(state.c, c)


def test_an_lstm_without_a_gate_is_one_whose_gate_is_open():
    full = cells.LSTM(D, H, peepholes=True).double()
    x = torch.randn(B, T, D, dtype=torch.float64)
    for letter, block, name in (("i", 0, "input_gate"), ("f", 1, "forget_gate"), ("o", 3, "output_gate")):
        kept = [b for b in range(4) if b != block]
        cut = cells.LSTM(D, H, peepholes=True, without=[name]).double()
        with torch.no_grad():
            for ours, theirs in ((cut.U.weight, full.U.weight), (cut.U.bias, full.U.bias), (cut.W.weight, full.W.weight)):
                ours.copy_(theirs.unflatten(0, (4, H))[kept].flatten(0, 1))
            for other in "ifo".replace(letter, ""):
                getattr(cut, other).p.copy_(getattr(full, other).p)
            bias = full.U.bias.clone()
            full.U.bias[block * H : (block + 1) * H] = 1e3
            close(Recurrent(cut)(x), Recurrent(full)(x))
            full.U.bias.copy_(bias)


def test_the_variants_are_as_large_as_they_should_be():
    def size(cell):
        return sum(p.numel() for p in cell.parameters())

    gate = D * H + H * H + H
    assert size(cells.LSTM(D, H)) == 4 * gate
    assert size(cells.LSTM(D, H, coupled=True)) == 3 * gate
    assert size(cells.LSTM(D, H, peepholes=True)) == 4 * gate + 3 * H
    assert size(cells.LSTM(D, H, peepholes=True, without={"output_gate"})) == 3 * gate + 2 * H
    assert size(cells.LSTM(D, H, bias=False)) == 4 * (gate - H)
    assert size(cells.LSTM(D, H, layer_norm=True, bias=False)) == 4 * (gate - H) + 4 * H + 4 * H + H
    assert size(cells.FullGateLSTM(D, H)) == 4 * gate + 9 * H * H + 3 * H
    assert size(cells.GRU(D, H)) == 3 * (gate + H)
    assert size(cells.GRUBefore(D, H)) == 3 * gate
    assert size(cells.MGU(D, H)) == 2 * gate


BLOCKS = {"Elman": 1, "Leaky": 1, "IndRNN": 1, "GRU": 3, "GRUBefore": 3, "LSTM": 4, "MGU": 2, "MUT3": 3}


@pytest.mark.parametrize("name", BLOCKS)
def test_every_gate_starts_orthogonal_to_itself_and_with_glorots_spread(name):
    units, inputs = 64, 100
    options = {"leak": 0.5} if name == "Leaky" else {}
    cell = getattr(cells, name)(inputs, units, **options)
    for block in cell.U.weight.chunk(BLOCKS[name]):
        bound = (6 / (inputs + units)) ** 0.5
        assert bound * 0.99 < block.abs().max() <= bound
    recurrent = [(n, p) for n, p in cell.named_parameters() if n.split(".")[0].split("_")[0] == "W" and n.endswith("weight")]
    assert recurrent or name == "IndRNN"
    for _, W in recurrent:
        for block in W.split(units):
            torch.testing.assert_close(block @ block.T, torch.eye(units), rtol=0, atol=1e-5)


@pytest.mark.parametrize("options", [{}, {"peepholes": True}, {"layer_norm": True}, {"projection": 3}, {"without": {"input_gate"}}])
def test_the_forget_gate_starts_open_and_other_biases_at_zero(options):
    for forget_bias in (1.0, 2.5):
        cell = cells.LSTM(D, H, forget_bias=forget_bias, **options)
        bias = cell.norm_x.bias if "layer_norm" in options else cell.U.bias
        of = dict(zip(cell.blocks, bias.chunk(len(cell.blocks))))
        assert (of.pop("f") == forget_bias).all()
        assert all((b == 0).all() for b in of.values())


def test_coupled_gates_start_by_keeping():
    bias = cells.LSTM(D, H, coupled=True).U.bias.chunk(3)
    assert (bias[0] == -1).all()  # i = σ(-1), f = 1 - i = σ(1)
    assert (bias[1] == 0).all()


def test_chrono_biases_are_spread_up_to_the_longest_time():
    bias = dict(zip("ifgo", cells.LSTM(D, 2000, tau_max=100).U.bias.detach().chunk(4)))
    u = bias["f"].exp()
    assert u.min() >= 1
    assert u.max() <= 99.001
    assert abs(u.mean() - 50) < 2.5  # uniform: mean 50, its standard error over 2000 is 0.63
    assert torch.equal(bias["i"], -bias["f"])
    assert (bias["g"] == 0).all()
    assert (bias["o"] == 0).all()
    coupled = cells.LSTM(D, 2000, tau_max=100, coupled=True).U.bias.detach().chunk(3)[0]
    assert abs((-coupled).exp().mean() - 50) < 2.5
    z = cells.GRU(D, 2000, tau_max=100).U.bias.detach().chunk(3)
    assert abs(z[1].exp().mean() - 50) < 2.5
    assert (z[0] == 0).all()


def test_sampled_time_constants_are_uniform_in_their_logarithm():
    tau = 1 / cells.Leaky(D, 2000, time_constants=(2, 200), sampled=True).leak
    assert tau.min() >= 2 * 0.999
    assert tau.max() <= 200 * 1.001
    assert abs(tau.log10().mean() - 1.301) < 0.04  # standard error 0.013
    assert not torch.equal(tau, tau.sort().values)


def test_a_learned_leak_is_a_parameter_and_a_fixed_one_is_saved():
    assert cells.Leaky(D, H, leak=0.2, learned=True).leaks.a.requires_grad
    fixed = cells.Leaky(D, H, time_constants=(1, 10), sampled=True)
    assert "leaks.fixed" in fixed.state_dict()
    assert "leaks.fixed" not in dict(fixed.named_parameters())


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: cells.Elman(D, H, activation="tan"), "activation is one of identity, relu, .*; got 'tan'"),
        (lambda: cells.LSTM(D, H, without={"inputgate"}), "without is a collection of input_gate, .*inputgate"),
        (lambda: cells.LSTM(D, H, without="input_gate"), "without is a collection of"),
        (lambda: cells.LSTM(D, H, coupled=True, without={"input_gate"}), "choose coupled or without"),
        (lambda: cells.LSTM(D, H, recurrent_dropout=1.0), "a probability below 1, got 1.0"),
        (lambda: cells.LSTM(D, H, tau_max=50, bias=False), "with bias=False there are none"),
        (lambda: cells.LSTM(D, H, tau_max=1), "more than 2 steps; got 1"),
        (lambda: cells.GRU(D, H, tau_max=50, bias=False), "with bias=False there is none"),
        (lambda: cells.IndRNN(D, H, longest=0), "at least 1; got 0"),
        (lambda: cells.Leaky(D, H, 0.5, time_constants=(1, 2)), "wants either leak"),
        (lambda: cells.Leaky(D, H, 0.5, sampled=True), "give time_constants"),
        (lambda: cells.Leaky(D, H, 0.0), r"lies in \(0, 1\], got 0.0"),
        (lambda: cells.Leaky(D, H, 1.5), r"lies in \(0, 1\], got 1.5"),
        (lambda: cells.Leaky(D, H, [0.5, 0.5]), "one number, or one for each of the 5 units"),
        (lambda: cells.Leaky(D, H, float("nan")), r"lies in \(0, 1\], got nan"),
        (lambda: cells.Leaky(D, H, time_constants=(10, 2)), "in steps, at least 1; got"),
    ],
)
def test_settings_that_cannot_be_are_refused(make, text):
    with pytest.raises(SettingsError, match=text):
        make()
