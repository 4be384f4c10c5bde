"""`wavefront.LSTM`, `GRU` and `RNN` against `torch.nn`'s: numbers, gradients, names, checks and words."""

import copy
import io
import threading

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pack_sequence, pad_packed_sequence

from wavefront.networks.dropin import GRU, LSTM, RNN, _template

KINDS = {"LSTM": (LSTM, nn.LSTM), "GRU": (GRU, nn.GRU), "RNN": (RNN, nn.RNN)}
pytestmark = pytest.mark.filterwarnings("ignore:dropout option adds dropout", "ignore:LSTM with projections")


@pytest.fixture(params=sorted(KINDS))
def pair(request):
    return KINDS[request.param]


def flat(output):
    """The tensors of whatever an RNN returns, in order."""
    if isinstance(output, PackedSequence):
        return [output.data]
    return [output] if isinstance(output, torch.Tensor) else [leaf for part in output for leaf in flat(part)]


@st.composite
def configurations(draw):
    kind = draw(st.sampled_from(sorted(KINDS)))
    hidden = draw(st.integers(1, 6))
    options = {
        "input_size": draw(st.integers(1, 4)),
        "hidden_size": hidden,
        "num_layers": draw(st.integers(1, 3)),
        "bias": draw(st.booleans()),
        "batch_first": draw(st.booleans()),
        "dropout": draw(st.sampled_from([0.0, 0.0, 0.4, 1.0])),
        "bidirectional": draw(st.booleans()),
    }
    if kind == "LSTM":
        options["proj_size"] = draw(st.integers(0, hidden - 1))
    if kind == "RNN":
        options["nonlinearity"] = draw(st.sampled_from(["tanh", "relu"]))
    form = draw(st.sampled_from(["padded", "alone", "packed", "packed, unsorted"]))
    rows, steps = (1 if form == "alone" else draw(st.integers(1, 4))), draw(st.integers(1, 6))
    lengths = draw(st.lists(st.integers(1, steps), min_size=rows, max_size=rows))
    return kind, options, form, rows, steps, lengths, draw(st.booleans()), draw(st.booleans()), draw(st.integers(0, 2**31))


@settings(max_examples=200, deadline=None, derandomize=True)
@given(configurations())
def test_outputs_states_and_all_gradients_are_torchs(configuration):
    kind, options, form, rows, steps, lengths, with_state, training, seed = configuration
    ours, theirs = KINDS[kind]
    found = []
    for module in (theirs, ours):
        torch.manual_seed(seed)
        net = module(**options, dtype=torch.float64).train(training)
        rng = torch.Generator().manual_seed(seed)

        def leaf(*shape, rng=rng):
            return torch.randn(*shape, generator=rng, dtype=torch.float64).requires_grad_()

        layers = options["num_layers"] * (1 + options["bidirectional"])
        h = leaf(layers, rows, options.get("proj_size") or options["hidden_size"])
        state = (h, leaf(layers, rows, options["hidden_size"])) if kind == "LSTM" else h
        x = leaf(rows, steps, options["input_size"]) if options["batch_first"] else leaf(steps, rows, options["input_size"])
        leaves = [x, *flat(state)]
        given_state, given_x = state, x
        if form == "alone":
            given_x = x.squeeze(0 if options["batch_first"] else 1)
            given_state = tuple(part.squeeze(1) for part in state) if kind == "LSTM" else state.squeeze(1)
        elif form.startswith("packed"):
            n = lengths if form.endswith("unsorted") else sorted(lengths, reverse=True)
            given_x = pack_padded_sequence(x, n, batch_first=options["batch_first"], enforce_sorted=not form.endswith("unsorted"))
        outputs = flat(net(given_x, given_state) if with_state else net(given_x))
        loss = sum((out * torch.randn(out.shape, generator=rng, dtype=torch.float64)).sum() for out in outputs)
        gradients = torch.autograd.grad(loss, [*leaves, *net.parameters()], allow_unused=True)
        found.append((outputs, [torch.zeros(()) if g is None else g for g in gradients]))
    (outputs, gradients), (our_outputs, our_gradients) = found
    for want, got in zip(outputs, our_outputs, strict=True):
        assert got.shape == want.shape
        torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)
    scale = max(1.0, *(g.abs().max().item() for g in gradients if g.numel()))
    for want, got in zip(gradients, our_gradients, strict=True):
        torch.testing.assert_close(got / scale, want / scale, rtol=1e-12, atol=1e-12)


def test_dropout_drops_what_torch_drops(pair):
    """The same seed, the same random numbers; and they do matter."""
    found = []
    for module in pair:
        torch.manual_seed(3)
        net = module(3, 8, num_layers=3, dropout=0.5, bidirectional=True, batch_first=True, dtype=torch.float64)
        found.append(net(torch.ones(4, 9, 3, dtype=torch.float64))[0])
    torch.testing.assert_close(*found, rtol=1e-12, atol=1e-12)
    assert not torch.allclose(found[0], net(torch.ones(4, 9, 3, dtype=torch.float64))[0])


def test_the_same_seed_starts_the_same_and_state_dict_goes_both_ways(pair):
    ours, theirs = pair
    options = dict(num_layers=2, bidirectional=True, **({"proj_size": 2} if ours is LSTM else {}))
    torch.manual_seed(1)
    net = ours(3, 4, **options)
    torch.manual_seed(1)
    other = theirs(3, 4, **options)
    assert list(net.state_dict()) == list(other.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), other.parameters()))
    assert "weight_hh_l1_reverse" in net.state_dict()
    fresh, fresh_other = ours(3, 4, **options), theirs(3, 4, **options)
    fresh.load_state_dict(other.state_dict())
    fresh_other.load_state_dict(net.state_dict())
    x = torch.randn(5, 2, 3)
    torch.testing.assert_close(fresh(x), fresh_other(x))


def test_it_is_torchs_class_with_torchs_repr(pair):
    ours, theirs = pair
    options = {"num_layers": 2, "bias": False, "batch_first": True, "dropout": 0.5, "bidirectional": True}
    net = ours(3, 4, **options)
    assert isinstance(net, theirs)
    assert repr(net) == repr(theirs(3, 4, **options))
    assert repr(ours(3, 4, backend="reference")).endswith("(3, 4, backend='reference')")
    assert not list(net.children())
    assert [list(map(id, layer)) for layer in net.all_weights] == [[id(getattr(net, name)) for name in names] for names in net._all_weights]
    net.flatten_parameters()


def test_pickled_copied_moved_and_shared_it_stays_what_it_is(pair):
    net = pair[0](3, 4, num_layers=2, backend="reference")
    x = torch.randn(5, 2, 3)
    want = net(x)
    file = io.BytesIO()
    torch.save(net, file)
    file.seek(0)
    for same in (torch.load(file, weights_only=False), copy.deepcopy(net), copy.copy(net)):
        assert same.backend == "reference"
        torch.testing.assert_close(same(x), want, rtol=0, atol=0)
    same = copy.deepcopy(net)
    with torch.no_grad():
        same.weight_hh_l0.zero_()
    torch.testing.assert_close(net(x), want, rtol=0, atol=0)
    assert not torch.allclose(same(x)[0], want[0])
    double = net.double()(x.double())
    assert double[0].dtype == torch.float64
    torch.testing.assert_close(double[0].float(), want[0])


def test_replaced_and_parametrised_weights_are_seen(pair):
    ours, theirs = pair
    net, other = ours(3, 4), theirs(3, 4)
    other.load_state_dict(net.state_dict())
    x = torch.randn(5, 2, 3)
    net.weight_hh_l0 = other.weight_hh_l0 = nn.Parameter(torch.randn_like(net.weight_hh_l0))
    torch.testing.assert_close(net(x), other(x))
    weights = {name: torch.randn_like(p) for name, p in net.named_parameters()}
    torch.testing.assert_close(torch.func.functional_call(net, weights, x), torch.func.functional_call(other, weights, x))
    nn.utils.parametrizations.weight_norm(net, "weight_hh_l0")
    nn.utils.parametrizations.weight_norm(other, "weight_hh_l0")
    torch.testing.assert_close(net(x), other(x))
    net(x)[0].sum().backward()
    assert net.parametrizations.weight_hh_l0.original0.grad.abs().sum() > 0


@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True}])
def test_gradcheck_twice(pair, options):
    torch.manual_seed(0)
    net = pair[0](2, 2, **options, dtype=torch.float64)
    x = torch.randn(3, 1, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, *p: net(x)[0], (x, *net.parameters()))
    assert torch.autograd.gradgradcheck(lambda x: net(x)[0], (x,))


def test_torch_func_and_vmap(pair):
    _template.cache_clear()  # nothing is left from a call outside
    ours, theirs = pair
    net, other = ours(3, 4), theirs(3, 4)
    other.load_state_dict(net.state_dict())
    x = torch.randn(6, 5, 2, 3)
    many = torch.func.vmap(lambda x: net(x)[0])(x)
    torch.testing.assert_close(many, torch.stack([other(one)[0] for one in x]))
    parameters = dict(net.named_parameters())
    per_sample = torch.func.vmap(torch.func.grad(lambda p, x: torch.func.functional_call(net, p, x)[0].sum()), in_dims=(None, 0))(
        parameters, x
    )
    assert per_sample["weight_hh_l0"].shape == (6, *net.weight_hh_l0.shape)
    other(x[3])[0].sum().backward()
    torch.testing.assert_close(per_sample["weight_hh_l0"][3], other.weight_hh_l0.grad)


def test_autocast(pair):
    net = pair[0](3, 4, num_layers=2, bidirectional=True)
    x = torch.randn(5, 2, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output, _ = net(x)
    torch.testing.assert_close(output.float(), net(x)[0], rtol=0.05, atol=0.05)
    output.float().sum().backward()
    assert all(p.grad is not None for p in net.parameters())


def test_inside_torch_compile(pair):
    net = pair[0](3, 4, bidirectional=True)
    compiled = torch.compile(lambda x: net(2 * x)[0].sum() * 3, backend="eager")
    for steps in (4, 7):
        x = torch.randn(steps, 2, 3)
        torch.testing.assert_close(compiled(x), net(2 * x)[0].sum() * 3)
    packed = pack_sequence([torch.randn(n, 3) for n in (4, 2, 1)])
    torch.testing.assert_close(torch.compile(net, backend="eager")(packed)[0].data, net(packed)[0].data)


def test_no_rows(pair):
    """As torch: shapes of nothing, and gradients of zero."""
    ours, theirs = pair
    for module in (ours, theirs):
        net = module(3, 4, num_layers=2, bidirectional=True)
        output, state = net(torch.zeros(5, 0, 3))
        assert output.shape == (5, 0, 8)
        assert {tuple(part.shape) for part in flat(state)} == {(4, 0, 4)}
        output.sum().backward()
        assert all((p.grad == 0).all() for p in net.parameters())


def test_calls_in_several_threads_never_meet():
    """Networks of one shape, whose cells are made from one template."""
    nets, x = [LSTM(3, 16, num_layers=2) for _ in range(8)], torch.randn(30, 2, 3)
    want = [net(x)[0] for net in nets]
    wrong = []

    def run(net, expected):
        for _ in range(5):
            wrong.append(not torch.equal(net(x)[0], expected))

    threads = [threading.Thread(target=run, args=pair) for pair in zip(nets, want)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == [False] * 40


def message(call):
    with pytest.raises((ValueError, RuntimeError, TypeError)) as caught:
        call()
    return caught.type, str(caught.value)


def faults(kind):
    """Calls that torch refuses: (name, module -> None)."""
    pair_of = (lambda h, c: (h, c)) if kind == "LSTM" else (lambda h, c: h)
    z = torch.zeros

    def run(x, state=None, **options):
        return lambda module: module(3, 4, **options)(x, state)

    yield "dropout", lambda module: module(3, 4, dropout=2)
    yield "hidden_size", lambda module: module(3, 0)
    yield "bias", lambda module: module(3, 4, bias=1)
    yield "input 4-D", run(z(1, 2, 2, 3))
    yield "input size", run(z(5, 2, 2))
    yield "dtype", run(z(5, 2, 3, dtype=torch.float64))
    yield "no steps", run(z(0, 2, 3))
    yield "no steps, batch first", run(z(2, 0, 3), batch_first=True)
    yield "state rows", run(z(5, 2, 3), pair_of(z(1, 3, 4), z(1, 3, 4)))
    yield "state layers", run(z(5, 2, 3), pair_of(z(1, 2, 4), z(1, 2, 4)), num_layers=2)
    yield "state 2-D", run(z(5, 2, 3), pair_of(z(1, 4), z(1, 4)))
    yield "state 3-D, input unbatched", run(z(5, 3), pair_of(z(1, 1, 4), z(1, 1, 4)))
    yield "device", run(z(5, 2, 3, device="meta"))
    yield "state device", run(z(5, 2, 3), pair_of(z(1, 2, 4, device="meta"), z(1, 2, 4, device="meta")))
    if kind == "LSTM":
        yield "cell rows", run(z(5, 2, 3), (z(1, 2, 4), z(1, 1, 4)))
        yield "cell with projection", run(z(5, 2, 3), (z(1, 2, 4), z(1, 2, 4)), proj_size=2)
        yield "three states", run(z(5, 2, 3), (z(1, 2, 4),) * 3)
    else:
        yield "proj_size", lambda module: module(3, 4, proj_size=2)
        yield "packed, input size", run(pack_sequence([z(5, 2)]))
    if kind == "RNN":
        yield "nonlinearity", lambda module: module(3, 4, nonlinearity="garbage")


@pytest.mark.parametrize(("kind", "call"), [pytest.param(k, call, id=f"{k}, {name}") for k in sorted(KINDS) for name, call in faults(k)])
def test_refused_with_torchs_words(kind, call):
    ours, theirs = KINDS[kind]
    assert message(lambda: call(ours)) == message(lambda: call(theirs))


def test_a_packed_sequence_of_another_width_is_refused_by_lstm_too():
    """torch.nn.LSTM lets it pass."""
    with pytest.raises(RuntimeError, match=r"input\.size\(-1\) must be equal to input_size\. Expected 3, got 2"):
        LSTM(3, 4)(pack_sequence([torch.zeros(5, 2)]))


def test_a_state_of_another_dtype_is_refused(pair):
    net = pair[0](3, 4)
    h = torch.zeros(1, 2, 4, dtype=torch.float64)
    with pytest.raises(RuntimeError, match="Input and hidden tensors are not the same dtype"):
        net(torch.zeros(5, 2, 3), (h, h) if pair[0] is LSTM else h)


def test_a_packed_sequence_keeps_its_order(pair):
    ours, theirs = pair
    net, other = ours(3, 4, bidirectional=True), theirs(3, 4, bidirectional=True)
    other.load_state_dict(net.state_dict())
    sequences = [torch.randn(n, 3) for n in (2, 7, 1, 7, 4)]
    output, state = net(pack_sequence(sequences, enforce_sorted=False))
    padded, lengths = pad_packed_sequence(output, batch_first=True)
    assert lengths.tolist() == [2, 7, 1, 7, 4]
    for row, sequence in enumerate(sequences):
        alone, last = other(sequence)
        torch.testing.assert_close(padded[row, : len(sequence)], alone)
        for part, want in zip(flat(state), flat(last)):
            torch.testing.assert_close(part[:, row], want)


def test_backend_by_name_reaches_unfold():
    with pytest.raises(RuntimeError, match="backend"):
        LSTM(3, 4, backend="nonsense")(torch.zeros(5, 2, 3))


def test_where_torch_has_a_kernel_for_the_whole_cell_it_is_used(pair, monkeypatch):
    """As for CUDA tensors, on this device: the call is torch's own, unless a backend is asked for by name."""
    ours, theirs = pair
    calls = []
    monkeypatch.setattr("wavefront.networks.dropin.TORCHS_OWN", {"cpu"})
    monkeypatch.setattr(theirs, "forward", lambda self, input, hx=None: calls.append(input) or "torch's")
    x = torch.randn(5, 2, 3)
    assert ours(3, 4)(x) == "torch's"
    assert ours(3, 4)(pack_sequence([x[:, 0]])) == "torch's"
    assert ours(3, 4, backend="reference")(x)[0].shape == (5, 2, 4)
    assert len(calls) == 2
