"""Cells that nobody wrote: equations drawn at random from the engine's operations, compiled and compared with the reference."""

from typing import NamedTuple

import torch
from hypothesis import given, settings, strategies as st
from torch import nn
from torch.utils import _pytree as pytree

from engine.test_compiled import close, results
from wavefront import Cell, Draw, Recurrent, Tree, unfold
from wavefront.engine import runs

UNARY = {
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "relu": torch.relu,
    "softplus": nn.functional.softplus,
    "sine of a softmax": lambda a: a.softmax(-1) - a.log_softmax(-1).exp() / 2,
    "normalised": lambda a: nn.functional.layer_norm(a, a.shape[-1:]),
    "unit": lambda a: a / (1 + a.norm(dim=-1, keepdim=True)),
    "centred": lambda a: a - a.mean(-1, keepdim=True),
    "halves": lambda a: torch.cat([a[:, a.shape[1] // 2 :], a[:, : a.shape[1] // 2]], -1),
    "clamped": lambda a: a.clamp(-1, 1),
    "masked": lambda a: torch.where(a > 0.1, a, a.exp() - 1.1),
    "squared": lambda a: a.square() / (1 + a.abs()),
    "least": lambda a: a.expm1().log1p().tanh(),
    "largest": lambda a: a - a.amax(-1, keepdim=True) / 2,
    "outer": lambda a: ((a[:, :, None] * a[:, None, :]) @ a[:, :, None]).squeeze(-1).tanh(),
    "rooted": lambda a: (1 + a.square()).sqrt() + (2 + a.square()).rsqrt() - (1.5 + a.square()).reciprocal(),
    "stepped": lambda a: a - a.floor() / 3 + a.sign() / 4 + a.remainder(0.7),
    "among": lambda a: torch.where((a > 0) & ~(a > 1) | (a < -1), a, -a.abs()),
    "shaped": lambda a: nn.functional.elu(a) + nn.functional.silu(a) + nn.functional.leaky_relu(a) + nn.functional.hardtanh(a),
    "constant": lambda a: a * 0.3 - torch.ones_like(a) / 7,
    "stopped": lambda a: a * a.detach().tanh(),
    "turned": lambda a: a.unflatten(1, (1, UNITS)).transpose(1, 2).flatten(1),
}
BINARY = {
    "sum": torch.add,
    "difference": torch.sub,
    "product": torch.mul,
    "quotient": lambda a, b: a / (1 + b.square()),
    "gate": lambda a, b: torch.lerp(a, b, b.sigmoid()),
    "larger": torch.maximum,
    "smaller": torch.minimum,
    "chosen": lambda a, b: torch.where(a >= b, a.sigmoid(), b.tanh()),
    "matrix times vector": lambda a, b: torch.einsum("ni,nj,nj->ni", a, b, a.tanh()) / UNITS,
    "logsumexp": lambda a, b: torch.stack([a, b], -1).logsumexp(-1),
}
UNITS = 5


class Two(NamedTuple):
    h: torch.Tensor
    k: torch.Tensor


class Three(NamedTuple):
    h: torch.Tensor
    k: torch.Tensor
    M: torch.Tensor


class Noise(NamedTuple):
    kept: torch.Tensor  # for each step and row
    shift: torch.Tensor  # for each row, the same at all steps
    weights: torch.Tensor  # for all rows and steps


class Drawn(Cell):
    """Values h, k, x; then each instruction makes one more of those before, counted from the last; all of them make the next state. A matrix is
    carried beside the vectors, written by outer products and read by vectors; noise is given."""

    def __init__(self, program):
        super().__init__(3, state=Three(UNITS, UNITS, (UNITS, UNITS)), outputs=UNITS)
        self.U, self.program = nn.Linear(3, UNITS), program
        self.W = nn.ModuleList(nn.Linear(UNITS, UNITS) for kind, *_ in program if kind in ("linear", "thinned"))
        self.p = nn.ParameterList(nn.Parameter(torch.randn(UNITS)) for kind, *_ in program if kind == "scale")

    def draws(self, rows):
        return Noise(
            Draw((rows, UNITS), "keep", 0.3),
            Draw((rows, UNITS), "normal", per="unfolding"),
            Draw((UNITS, UNITS), "keep", 0.2, per="unfolding", per_row=False),
        )

    def step(self, state, x, draws=None):
        values, M = [state.h, state.k, self.U(x)], state.M
        noise = draws or Noise(torch.tensor(1.0), torch.tensor(0.0), torch.tensor(1.0))
        linear, scale = iter(self.W), iter(self.p)
        for kind, a, b in self.program:
            left, right = values[-1 - a % len(values)], values[-1 - b % len(values)]
            if kind == "linear":
                values.append(next(linear)(left))
            elif kind == "scale":
                values.append(next(scale) * left)
            elif kind == "thinned":
                layer = next(linear)
                values.append(left @ (layer.weight * noise.weights).T + layer.bias)
            elif kind == "dropped":
                values.append(left * noise.kept)
            elif kind == "shifted":
                values.append(left + right * noise.shift.tanh())
            elif kind == "remember":
                M = 0.7 * M + left.tanh()[:, :, None] * right.softmax(-1)[:, None, :]
                values.append(M.sum(-1))
            elif kind == "recall":
                values.append((M @ left.tanh()[:, :, None]).squeeze(-1))
            else:
                values.append(UNARY[kind](left) if kind in UNARY else BINARY[kind](left, right))
        h, k = (sum(values) / len(values)).tanh(), (values[-1] - values[-2] + values[1]).tanh()
        return Three(h, k, M / (1 + M.abs())), values[-1] - k


NOISY = ["thinned", "dropped", "shifted"]
MATRIX = ["remember", "recall"]
instructions = st.tuples(
    st.sampled_from(["linear", "scale", *UNARY, *BINARY] + 3 * (NOISY + MATRIX)), st.integers(0, 20), st.integers(0, 20)
)


@settings(max_examples=40, deadline=None)
@given(st.lists(instructions, min_size=2, max_size=9).map(tuple), st.booleans())
def test_any_equation_is_compiled_and_right(program, training):
    """Three parts of a state, one a matrix; at least two products, one on the other; values used more than once; noise given in training."""
    torch.manual_seed(len(program))
    net = Recurrent(Drawn((*program, ("linear", 0, 0), ("linear", 0, 0)))).double().train(training)
    x = torch.randn(3, 5, 3, dtype=torch.float64, requires_grad=True)
    draws, before = net.draws(x), runs["compiled"]
    ours = results(net, "compiled", x, draws=draws, lengths=[5, 2, 4])
    assert runs["compiled"] == before + 1
    close(ours, results(net, "reference", x, draws=draws, lengths=[5, 2, 4]))


STEADY = sorted(
    {"linear", "scale", *UNARY, *BINARY, *NOISY, *MATRIX} - {"stepped", "masked", "among", "chosen", "larger", "smaller", "largest"}
)


@settings(max_examples=10, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(STEADY), st.integers(0, 20), st.integers(0, 20)), min_size=2, max_size=6).map(tuple))
def test_any_equation_in_float32_is_as_near_to_the_truth_as_torch(program):
    """Of what does not jump, where the least rounding may go either way."""
    torch.manual_seed(len(program))
    net = Recurrent(Drawn((*program, ("linear", 0, 0), ("linear", 0, 0))))
    x = torch.randn(3, 5, 3)
    draws = net.draws(x)
    ours, theirs = (results(net, backend, x, draws=draws) for backend in ("compiled", "reference"))
    truth = results(net.double(), "reference", x.double(), draws=pytree.tree_map(torch.Tensor.double, draws))
    for mine, torchs, true in zip(ours, theirs, truth):
        scale = 1 + true.abs().max()
        assert (mine - true).abs().max() <= 4 * (torchs - true).abs().max() + 2e-6 * scale


SMOOTH = sorted(
    {*UNARY, *BINARY, *MATRIX}
    - {"relu", "clamped", "masked", "larger", "largest", "stepped", "among", "shaped", "smaller", "chosen", "stopped"}
)


@settings(max_examples=3, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["linear", "scale", *SMOOTH]), st.integers(0, 20), st.integers(0, 20)), min_size=2, max_size=4).map(
        tuple
    )
)
def test_the_gradient_of_any_equation_is_that_of_differences(program):
    torch.manual_seed(len(program))
    net = Recurrent(Drawn((*program, ("linear", 0, 0))), backend="compiled").double().eval()
    x = torch.randn(1, 4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: net(x)[0], (x,))


class DrawnFree(Cell):
    """Any number of predecessors: values of each edge; what is summed over them; values of the node, which go back to the edges; and so on."""

    def __init__(self, program):
        super().__init__(3, state=Two(UNITS, UNITS))
        self.slots = "any"
        self.U, self.program = nn.Linear(3, UNITS), program
        self.W = nn.ModuleList(nn.Linear(UNITS, UNITS) for kind, *_ in program if kind == "linear")

    def step(self, children, x):
        edges = [*children.states, children.expand(self.U(x))]
        nodes = [self.U(x), children.sum(children.states.h)]
        linear = iter(self.W)
        for kind, a, b in self.program:
            values = nodes if kind == "spread" else edges
            left, right = values[a % len(values)], edges[b % len(edges)]
            if kind == "linear":
                edges.append(next(linear)(left))
            elif kind == "spread":
                edges.append(children.expand(left))
            elif kind == "attention":
                score = right.tanh().sum(-1, keepdim=True).exp()
                nodes.append(children.sum(score * left) / (children.sum(score) + 1))
            elif kind == "collect":
                nodes.append(children.sum(left).tanh())
            else:
                edges.append(UNARY[kind](left) if kind in UNARY else BINARY[kind](left, right))
        h, k = (nodes[-1] + children.sum(edges[-1])).tanh(), (nodes[-2] - children.sum(edges[-2] / 2)).tanh()
        return Two(h, k), nodes[-1] - k


among_edges = st.tuples(
    st.sampled_from(["linear", "spread", "collect", "attention", *UNARY, *BINARY] + 3 * ["linear", "spread", "collect", "attention"]),
    st.integers(0, 20),
    st.integers(0, 20),
)


@settings(max_examples=6, deadline=None)
@given(st.lists(among_edges, min_size=2, max_size=7).map(tuple))
def test_any_equation_over_any_number_of_children_is_compiled_and_right(program):
    torch.manual_seed(len(program))
    cell = DrawnFree((*program, ("linear", -1, 0))).double()
    tree = Tree([3, 3, 3, 7, 6, 6, 7, -1, 9, -1, -1])
    x = torch.randn(tree.nodes, 3, dtype=torch.float64, requires_grad=True)
    found = []
    before = runs["compiled"]
    for backend in ("compiled", "reference"):
        outputs, ends = unfold(cell, tree, x, backend=backend)
        gradients = torch.autograd.grad(outputs.sum() + ends.h.square().sum() + ends.k.sum(), [x, *cell.parameters()], allow_unused=True)
        found.append([outputs, *ends, *(torch.zeros(0) if g is None else g for g in gradients)])
    assert runs["compiled"] == before + 1
    close(*found)
