"""Inside somebody's torch.compile or torch.export a network is one operator: same values, same gradients, any length."""

import copy
import gc
import pickle
import subprocess
import sys

import pytest
import torch
from torch.utils import _pytree as pytree

import wavefront
from wavefront import Bidirectional, Recurrent, cells, wrap
from wavefront.engine import operator
from wavefront.errors import BackendError

NETWORKS = {
    "LSTM": lambda: Recurrent(cells.LSTM(3, 5)),
    "a stack, from the end": lambda: Recurrent(wrap.Stack(cells.GRU(3, 5), cells.LSTM(5, 4)), reverse=True),
    "skips": lambda: Recurrent(cells.Elman(3, 5), skips=(3,)),
    "both ways": lambda: Bidirectional(cells.GRU(3, 5), cells.LSTM(3, 4)),
    "nn.LSTM's face": lambda: wavefront.LSTM(3, 5, num_layers=2, bidirectional=True, batch_first=True),
    "nn.GRU's face": lambda: wavefront.GRU(3, 5, batch_first=True),
    "converted": lambda: wavefront.convert(torch.nn.RNN(3, 5, batch_first=True), quiet=True),
}


@pytest.fixture(params=NETWORKS)
def network(request):
    torch.manual_seed(0)
    torch._dynamo.reset()
    with torch._dynamo.config.patch(allow_rnn=True):  # subclasses of torch.nn's are seen through only where this is said
        yield NETWORKS[request.param]().double()


def leaves(net, x, *arguments):
    return pytree.tree_leaves(net(x, *arguments))


def gradients(found, over):
    weights = [torch.linspace(0.5, 1.5, t.numel(), dtype=t.dtype).view(t.shape) for t in found]
    return torch.autograd.grad(sum((t * w).sum() for t, w in zip(found, weights)), over)


def same(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def operators(program):
    return [node for node in program.graph.nodes if "wavefront.unfold" in str(node.target)]


@pytest.mark.parametrize("compiler", ["eager", "aot_eager"])
def test_one_graph_of_values_and_gradients(network, compiler):
    compiled = torch.compile(network, fullgraph=True, backend=compiler)
    for steps in (7, 4):
        x = torch.randn(2, steps, 3, dtype=torch.double, requires_grad=True)
        over = [x, *network.parameters()]
        found, expected = pytree.tree_leaves(compiled(x)), leaves(network, x)
        same(found, expected)
        same(gradients(found, over), gradients(expected, over))
    assert not operator._kept


def test_the_weights_of_now(network):
    compiled, x = torch.compile(network, fullgraph=True, backend="aot_eager"), torch.randn(2, 6, 3, dtype=torch.double)
    compiled(x)
    with torch.no_grad():
        for p in network.parameters():
            p.mul_(0.5)
        same(pytree.tree_leaves(compiled(x)), leaves(network, x))


def test_export(network):
    x = torch.randn(2, 6, 3, dtype=torch.double)
    program = torch.export.export(network, (x,))
    assert len(operators(program)) == (2 if isinstance(network, Bidirectional) else 1)
    other = torch.randn(2, 6, 3, dtype=torch.double)
    same(pytree.tree_leaves(program.module()(other)), leaves(network, other))


def test_an_exported_program_has_its_own_weights(network, tmp_path):
    x = torch.randn(2, 6, 3, dtype=torch.double)
    torch.export.save(torch.export.export(network, (x,)), tmp_path / "net.pt2")
    loaded = torch.export.load(tmp_path / "net.pt2").module()
    expected = leaves(network, x)
    with torch.no_grad():
        for p in network.parameters():
            p.mul_(0.5)
    same(pytree.tree_leaves(loaded(x)), expected)


@pytest.mark.parametrize("strict", [False, True])
def test_any_batch_and_length(strict):
    net = Recurrent(cells.LSTM(3, 5)).double()
    sizes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("steps")}
    program = torch.export.export(net, (torch.randn(2, 6, 3, dtype=torch.double),), dynamic_shapes={"x": sizes}, strict=strict)
    for shape in ((5, 9, 3), (3, 40, 3)):
        x = torch.randn(shape, dtype=torch.double)
        same(pytree.tree_leaves(program.module()(x)), leaves(net, x))


def test_state_lengths_resets_and_context():
    torch._dynamo.reset()
    net = Recurrent(cells.GRU(5, 4)).double()
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
    x, context = torch.randn(3, 6, 3, dtype=torch.double), torch.randn(3, 2, dtype=torch.double, requires_grad=True)
    state = torch.randn(3, 4, dtype=torch.double, requires_grad=True)
    resets = torch.rand(3, 6) < 0.3
    for lengths in (torch.tensor([6, 2, 4]), [1, 6, 3]):
        arguments = (x, state, lengths, resets, context)
        found, expected = pytree.tree_leaves(compiled(*arguments)), leaves(net, *arguments)
        same(found, expected)
        same(gradients(found, [state, context]), gradients(expected, [state, context]))


class Counting(cells.Elman):
    steps = 0

    def step(self, state, x):
        Counting.steps += 1
        return super().step(state, x)


def test_the_forward_pass_is_done_once():
    torch._dynamo.reset()
    Counting.steps, net = 0, Recurrent(Counting(3, 5), backend="reference")
    torch.compile(net, fullgraph=True, backend="aot_eager")(torch.randn(2, 6, 3))[0].sum().backward()
    assert Counting.steps == 6


def test_what_is_kept_for_gradients_goes_with_the_results():
    torch._dynamo.reset()
    net = Recurrent(cells.LSTM(3, 5))
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
    for _ in range(3):
        found = compiled(torch.randn(2, 6, 3))
        assert len(operator._kept) == 1
        del found  # and with it, at the next call, what was kept
    with torch.no_grad():
        compiled(torch.randn(2, 6, 3))
    gc.collect()
    compiled(torch.randn(2, 6, 3))[0].sum().backward()
    assert not operator._kept


def test_gradients_asked_for_twice_are_found_again():
    torch._dynamo.reset()
    net, x = Recurrent(cells.LSTM(3, 5)).double(), torch.randn(2, 6, 3, dtype=torch.double)
    y = torch.compile(net, fullgraph=True, backend="eager")(x)[0].sum()
    first = torch.autograd.grad(y, list(net.parameters()), retain_graph=True)
    same(torch.autograd.grad(y, list(net.parameters())), first)


def test_copies_are_networks_of_their_own():
    net = Recurrent(cells.LSTM(3, 5))
    others = [copy.deepcopy(net), copy.copy(net), pickle.loads(pickle.dumps(net)), Recurrent(cells.LSTM(3, 5))]
    assert len({n._name for n in [net, *others]}) == 5
    assert all(operator._networks[n._name] is n for n in others)


def test_a_program_from_another_process_says_what_it_lacks(tmp_path):
    net, x = Recurrent(cells.LSTM(3, 5)), torch.randn(2, 6, 3)
    torch.export.save(torch.export.export(net, (x,)), tmp_path / "net.pt2")
    code = (
        "import torch, sys, wavefront; wavefront.Recurrent(wavefront.cells.LSTM(3, 5))\n"
        "from wavefront.engine import operator\n"
        "operator.storable(wavefront.cells.LSTM(3, 5).initial_state(1))\n"
        "torch.export.load(sys.argv[1]).module()(torch.randn(2, 6, 3))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "net.pt2")], capture_output=True, text=True)
    assert done.returncode
    assert "not alive here" in done.stderr
    name = net._name
    del net
    gc.collect()
    with pytest.raises(BackendError, match="not alive here"):
        operator._network(name)


def test_torch_finds_nothing_to_object_to():
    """torch's own checks of an operator: its schema, the fake's shapes, the registration of its gradient, tracing with dynamic sizes."""
    net = Recurrent(cells.GRU(3, 5)).double()
    x = torch.randn(2, 6, 3, dtype=torch.double, requires_grad=True)
    arguments = (net._name, [x], [], [], list(net.parameters()), None, None, 0, False, True)
    tests = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(operator.unfolded, arguments, test_utils=tests)


def test_draws():
    """What is drawn differs from call to call, and the gradient is that of what was drawn."""
    torch._dynamo.reset()
    net = Recurrent(wrap.Dropout(cells.Elman(3, 50), 0.5)).double().train()
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
    x = torch.randn(2, 6, 3, dtype=torch.double, requires_grad=True)
    torch.manual_seed(3)
    one, _ = compiled(x)
    two, _ = compiled(x)
    assert not torch.equal(one, two)
    (mine,) = torch.autograd.grad(one.sum(), x, retain_graph=True)
    torch.manual_seed(3)
    again, _ = net(x)
    same([one], [again])
    same([mine], torch.autograd.grad(again.sum(), x))
    with pytest.raises(BackendError, match="asked for twice"):
        torch.autograd.grad(one.sum(), x)
