"""A plan run by torch: for what no native code can be made, for other devices, and for second derivatives."""

import warnings

import pytest
import torch
from torch import nn

from engine.test_compiled import LENGTHS, RESETS, B, T, close, given_state, results
from laws.table import CELLS, build, context_of, inputs_of
from laws.test_structures import EVERY, problem
from wavefront import Cell, Given, Recurrent, cells, unfold
from wavefront.engine import explain, fallbacks, runs
from wavefront.errors import BackendError


@pytest.mark.parametrize(
    "row", [row for n, row in enumerate(CELLS) if n % 6 == 0 or row.name.startswith("yours")], ids=lambda row: row.name
)
def test_the_plan_in_torch_equals_the_reference(row):
    net = build(row, reverse=True)
    x, context = inputs_of(net, B, T, requires_grad=True), context_of(row, net, B, requires_grad=True)
    state, draws = given_state(net, B), net.draws(x)
    before = runs["torch"]
    ours = results(net, "torch", x, state, context, draws, lengths=LENGTHS, resets=RESETS)
    assert runs["torch"] == before + 1
    close(ours, results(net, "reference", x, state, context, draws, lengths=LENGTHS, resets=RESETS))


class Attentive(Cell):
    """Asks a memory at each step, by several heads, through operations that the engine has no word for."""

    def __init__(self, inputs=3, units=4, places=5, heads=2):
        super().__init__(inputs=Given(x=inputs, context=(places, units)), state=units, outputs=2)
        self.U, self.W, self.V = nn.Linear(inputs, units), nn.Linear(2 * units, units), nn.Linear(units, 2)
        self.K, self.heads = nn.Linear(units, units), heads

    def step(self, state, given):
        n, (places, units) = state.shape[0], given.context.shape[1:]
        keys = self.K(given.context).view(n, places, self.heads, -1).transpose(1, 2).reshape(n * self.heads, places, -1)
        scores = torch.bmm(keys, state.view(n * self.heads, -1, 1)).squeeze(-1)
        weights = scores.sort(-1).values.softmax(-1)
        values = given.context.view(n, places, self.heads, -1).transpose(1, 2).reshape(n * self.heads, places, -1)
        read = torch.bmm(weights[:, None], values).reshape(n, units)
        h = (self.U(torch.erf(given.x)) + self.W(torch.cat([state, read], -1))).tanh()
        return h, self.V(torch.special.erfc(h))


def attentive():
    torch.manual_seed(0)
    net = Recurrent(Attentive()).double()
    x, memory = torch.randn(B, T, 3).double().requires_grad_(), torch.randn(B, 5, 4).double().requires_grad_()
    return net, x, memory


def test_what_has_no_word_is_run_by_torch_with_the_reason():
    net, x, memory = attentive()
    with pytest.warns(UserWarning, match=r"planned, but run by torch, slowly: aten\.\w+"):
        ours = results(net, "auto", x, context=memory, lengths=LENGTHS)
    assert sum(n for reason, n in fallbacks.items() if reason.startswith("aten."))
    close(ours, results(net, "reference", x, context=memory, lengths=LENGTHS))
    with pytest.raises(BackendError, match=r"cannot run compiled: aten\.\w+"):
        results(net, "compiled", x, context=memory)
    text = explain(net)
    assert "torch operations: aten." in text
    hoisted, deferred = (next(line for line in text.splitlines() if line.strip().startswith(word)) for word in ("hoisted", "deferred"))
    assert "erf" in hoisted  # what does not need the state is not in the loop
    assert "erfc" in deferred


def test_the_second_derivative_of_a_plan_in_torch():
    net, x, memory = attentive()
    net.backend = "torch"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        small = (x[:1, :3].detach().requires_grad_(), memory[:1].detach().requires_grad_())
        assert torch.autograd.gradgradcheck(lambda x, m: net(x, context=m)[0], small, fast_mode=True)


def test_rows_that_see_each_other_are_not_planned():
    class Mixing(Cell):
        def __init__(self):
            super().__init__(3, state=3)

        def step(self, state, x):
            h = (state + x.cumsum(0)).tanh()
            return h, h

    net = Recurrent(Mixing(), backend="torch")
    with pytest.warns(UserWarning, match="reference loop"), pytest.raises(BackendError, match="rows of its operations are not independent"):
        net(torch.randn(2, 5, 3))


@pytest.mark.parametrize(("row", "make"), EVERY[::15])
def test_any_structure(row, make):
    cell, structure, x, state = problem(row, make)
    found = []
    for backend in ("torch", "reference"):
        outputs, _ = unfold(cell, structure, x, state, backend=backend)
        found.append([outputs, *torch.autograd.grad(outputs.square().sum(), [x, *cell.parameters()], allow_unused=True)])
    close(*([torch.zeros(0) if t is None else t for t in some] for some in found))


@pytest.mark.parametrize("derivative", [1, 2])
def test_work_grows_with_the_steps(derivative):
    """Not with their square: a front's states are gathered from where they are, and no front makes a tensor of the size of all."""
    net = Recurrent(cells.GRU(3, 4), backend="torch" if derivative == 1 else "compiled")

    def made(steps):
        """Numbers in all tensors that autograd has a function for."""
        x = torch.randn(2, steps, 3, requires_grad=True)
        result = net(x)[0].square().sum()
        if derivative == 2:
            (gradient,) = torch.autograd.grad(result, x, create_graph=True)
            result = gradient.square().sum()
        todo, seen, numbers = [result.grad_fn], {result.grad_fn}, 0
        while todo:
            function = todo.pop()
            numbers += sum(torch.Size(made.shape).numel() for made in function._input_metadata)
            new = {f for f, _ in function.next_functions if f is not None} - seen
            seen |= new
            todo += new
        return numbers

    assert made(80) < 2.2 * made(40)
