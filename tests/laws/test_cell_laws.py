"""The laws that every cell and wrapper keeps, over all rows of the table: in float64, from random states, to rounding."""

import copy
import io
import pickle

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils import _pytree as pytree

from laws.table import CELLS, build, context_of, inputs_of, state_of
from wavefront import Children, Recurrent
from wavefront.cell import advance, draws_wanted, map_draws

B, T = 3, 5
LENGTHS = torch.tensor([4, 0, 5])
RESETS = torch.tensor([[0, 0, 1, 0, 0], [0, 0, 0, 0, 0], [1, 0, 0, 1, 1]], dtype=torch.bool)

every_cell = pytest.mark.parametrize("row", CELLS, ids=lambda row: row.name)


def same(ours, theirs, tolerance=1e-12):
    """Equal norm-wise, leaf by leaf."""
    ours, theirs = pytree.tree_leaves(ours), pytree.tree_leaves(theirs)
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs):
        assert a.shape == b.shape
        error, scale = (a.double() - b.double()).norm().item(), max(1.0, b.double().norm().item())
        assert error <= tolerance * scale, f"{error:.3g} of {scale:.3g}"


def case(row, batch=B, steps=T, grad=False, **options):
    """The network, x, a random state and a context."""
    net = build(row, **options)
    return net, inputs_of(net, batch, steps, requires_grad=grad), state_of(net, batch, grad), context_of(row, net, batch, grad)


def over(values, f):
    """f of every tensor in a nest; what is None stays so."""
    return pytree.tree_map(lambda v: f(v) if isinstance(v, torch.Tensor) else v, values)


def tensors(values):
    return [v for v in pytree.tree_leaves(values) if isinstance(v, torch.Tensor)]


def rows(values, which):
    return over(values, lambda v: v[which])


def draws_of_rows(net, drawn, which):
    return map_draws(lambda d, v: v[which] if d.per_row else v, net.cell.draws(1), drawn)


def draws_of_steps(net, drawn, first, last):
    """What was drawn for steps first..last: per step [B, T, ...], or [T, ...] without rows."""

    def cut(draw, value):
        if draw.per != "step":
            return value
        return value[:, first:last] if draw.per_row else value[first:last]

    return map_draws(cut, net.cell.draws(1), drawn)


def gradients(net, results, *wanted):
    """The gradients of a fixed random projection of all results, by parameters and by what is wanted."""
    generator = torch.Generator().manual_seed(5)
    leaves = [r for r in tensors(results) if r.requires_grad]
    upstream = [torch.randn(r.shape, generator=generator, dtype=r.dtype) for r in leaves]
    sources = [*net.parameters(), *(v for v in tensors(wanted) if v.requires_grad)]
    found = torch.autograd.grad(leaves, sources, upstream, allow_unused=True)
    return [torch.zeros_like(s) if g is None else g for s, g in zip(sources, found)]


@every_cell
def test_gradients_are_those_of_finite_differences(row):
    net, x, state, context = case(row, batch=2, steps=3, grad=True)
    drawn, names = net.draws(x), [n for n, _ in net.named_parameters()]
    leaves, spec = pytree.tree_flatten((x, state, context))
    smooth = [v for v in leaves if isinstance(v, torch.Tensor) and v.requires_grad]

    def run(*values):
        given, weights = iter(values[: len(smooth)]), values[len(smooth) :]
        here = [next(given) if isinstance(v, torch.Tensor) and v.requires_grad else v for v in leaves]
        x, state, context = pytree.tree_unflatten(here, spec)
        kwargs = {"lengths": [3, 2], "resets": RESETS[:2, :3], "context": context, "draws": drawn}
        return tuple(pytree.tree_leaves(torch.func.functional_call(net, dict(zip(names, weights)), (x, state), kwargs)))

    arguments = (*smooth, *(p.detach().requires_grad_() for p in net.parameters()))
    torch.autograd.gradcheck(run, arguments, fast_mode=True)
    if row.smooth:
        torch.autograd.gradgradcheck(run, arguments, fast_mode=True)


@every_cell
@pytest.mark.parametrize("cut", range(T + 1))
def test_cut_anywhere_is_the_whole(row, cut):
    net, x, state, context = case(row, grad=True)
    drawn = net.draws(x)
    whole = net(x, state, LENGTHS, RESETS, context, drawn)
    early = over(x, lambda v: v[:, :cut]), state, LENGTHS.clamp(max=cut), RESETS[:, :cut], context, draws_of_steps(net, drawn, 0, cut)
    first, middle = net(*early)
    late = over(x, lambda v: v[:, cut:]), middle, (LENGTHS - cut).clamp(min=0), RESETS[:, cut:], context, draws_of_steps(net, drawn, cut, T)
    second, last = net(*late, start=cut)
    parts = torch.cat([first, second], 1), last
    same(parts, whole)
    same(gradients(net, parts, x, state, context), gradients(net, whole, x, state, context))


@every_cell
@pytest.mark.parametrize("reverse", [False, True])
def test_batch_mates_their_order_and_padding_do_not_matter(row, reverse):
    net, x, state, context = case(row, reverse=reverse)
    drawn = net.draws(x)
    whole = net(x, state, LENGTHS, RESETS, context, drawn)
    poisoned = over(x, lambda v: torch.where((torch.arange(T) < LENGTHS[:, None]).view(B, T, *[1] * (v.dim() - 2)), v, torch.nan))
    same(net(poisoned, state, LENGTHS, RESETS, context, drawn), whole)
    for order in ([2, 0, 1], [1], [2, 2, 0]):
        some = net(
            rows(x, order), rows(state, order), LENGTHS[order], RESETS[order], rows(context, order), draws_of_rows(net, drawn, order)
        )
        same(some, rows(whole, order))


@every_cell
def test_gradients_stay_finite_and_zero_in_the_padding(row):
    net, x, state, context = case(row)
    x = over(x, lambda v: torch.where((torch.arange(T) < LENGTHS[:, None]).view(B, T, *[1] * (v.dim() - 2)), v, torch.nan).requires_grad_())
    results = net(x, state, LENGTHS, None, context)
    sources = pytree.tree_leaves(x)
    found = torch.autograd.grad(
        [r.sum() for r in pytree.tree_leaves(results) if r.requires_grad], [*net.parameters(), *sources], allow_unused=True
    )
    for gradient in found:
        assert gradient is None or gradient.isfinite().all()
    for gradient in found[-len(sources) :]:
        if gradient is not None:
            assert all((gradient[b, n:] == 0).all() for b, n in enumerate(LENGTHS))


@every_cell
def test_ragged_lengths_are_one_sequence_at_a_time(row):
    net, x, state, context = case(row)
    drawn = net.draws(x)
    outputs, last = net(x, state, LENGTHS, RESETS, context, drawn)
    for b, n in enumerate(LENGTHS.tolist()):
        one = slice(b, b + 1)
        mine = draws_of_steps(net, draws_of_rows(net, drawn, one), 0, n)
        alone, end = net(over(rows(x, one), lambda v, n=n: v[:, :n]), rows(state, one), None, RESETS[one, :n], rows(context, one), mine)
        same((outputs[one, :n], rows(last, one)), (alone, end))
        assert (outputs[b, n:] == 0).all()


@every_cell
def test_a_reset_is_a_restart(row):
    net, x, state, context = case(row, batch=1)
    drawn, at = net.draws(x), 2
    whole = net(x, state, None, (torch.arange(T) == at)[None], context, drawn)
    first, _ = net(over(x, lambda v: v[:, :at]), state, None, None, context, draws_of_steps(net, drawn, 0, at))
    # a restart's history is initial states all the way back, and None says just that
    second, last = net(over(x, lambda v: v[:, at:]), None, None, None, context, draws_of_steps(net, drawn, at, T), start=at)
    same(whole[0], torch.cat([first, second], 1))
    if max(net.skips) == 1:
        same(whole[1], last)
    else:  # the states before the restart are not carried on either
        reach = T - at
        same(whole[1][:reach], last[:reach])


@every_cell
def test_reversed_is_flipped(row):
    net, x, state, context = case(row)
    back = Recurrent(net.cell, net.skips, reverse=True)
    drawn = net.draws(x)
    place = (LENGTHS[:, None] - 1 - torch.arange(T)) % T  # t -> L-1-t within the length; the rest is padding
    flip = lambda v: torch.stack([v[b, place[b]] for b in range(B)])  # noqa: E731
    # the boundary between t-1 and t comes to lie between L-1-t and L-t
    boundary = torch.zeros_like(RESETS)
    for b, n in enumerate(LENGTHS.tolist()):
        for t in range(1, n):
            boundary[b, n - t] = RESETS[b, t]
    flipped = map_draws(lambda d, v: flip(v) if d.per == "step" and d.per_row else v, net.cell.draws(1), drawn)
    outputs, last = back(x, state, LENGTHS, RESETS, context, drawn)
    expected, end = net(over(x, flip), state, LENGTHS, boundary, context, flipped)
    same((outputs, last), (flip(expected) * (torch.arange(T) < LENGTHS[:, None])[..., None], end))


@every_cell
def test_without_steps_the_given_state_comes_back(row):
    net, x, state, context = case(row)
    outputs, last = net(x, state, [0] * B, None, context)
    assert outputs.shape == (B, T, net.cell.outputs)
    assert (outputs == 0).all()
    same(last, state, 0)
    outputs, last = net(over(x, lambda v: v[:, :0]), state, None, None, context)
    assert outputs.shape == (B, 0, net.cell.outputs)
    same(last, state, 0)
    first = net.cell.initial_state(B)
    same(net(over(x, lambda v: v[:, :0]), None, None, None, context)[1], first if max(net.skips) == 1 else (first,) * max(net.skips), 0)


@every_cell
def test_an_empty_batch_gives_an_empty_batch(row):
    net, x, state, context = case(row, batch=0)
    outputs, last = net(x, state, None, None, context)
    assert outputs.shape == (0, T, net.cell.outputs)
    assert all(leaf.shape[0] == 0 for leaf in pytree.tree_leaves(last))


@every_cell
def test_no_state_is_the_initial_state_and_a_given_one_is_used(row):
    net, x, state, context = case(row)
    drawn, first = net.draws(x), net.cell.initial_state(B)
    absent = net(x, None, None, None, context, drawn)
    same(absent, net(x, first if max(net.skips) == 1 else (first,) * max(net.skips), None, None, context, drawn), 0)
    assert not torch.allclose(absent[0], net(x, state, None, None, context, drawn)[0])


@every_cell
def test_saved_is_loaded_copied_and_pickled(row):
    net, x, state, context = case(row)
    drawn = net.draws(x)
    expected = net(x, state, LENGTHS, None, context, drawn)
    file = io.BytesIO()
    torch.save(net.state_dict(), file)
    file.seek(0)
    torch.manual_seed(99)
    fresh = Recurrent(row.make(), skips=row.skips).double()
    assert not torch.allclose(fresh(x, state, LENGTHS, None, context, drawn)[0], expected[0])
    fresh.load_state_dict(torch.load(file, weights_only=True))
    copied = copy.deepcopy(net)
    for twin in (fresh, copied, pickle.loads(pickle.dumps(net))):
        same(twin(x, state, LENGTHS, None, context, drawn), expected, 0)
    with torch.no_grad():
        for p in copied.parameters():
            p.zero_()
    same(net(x, state, LENGTHS, None, context, drawn), expected, 0)


@every_cell
def test_float32_is_close_to_float64(row):
    net, x, state, context = case(row)
    drawn = net.draws(x)
    single = [over(v, lambda leaf: leaf.float()) for v in (x, state, context, drawn)]
    small = build(row, torch.float32)
    ours = small(single[0], single[1], LENGTHS, RESETS, single[2], single[3])
    assert {leaf.dtype for leaf in pytree.tree_leaves(ours)} == {torch.float32}
    same(ours, net(x, state, LENGTHS, RESETS, context, drawn), 1e-5)
    assert {leaf.dtype for leaf in pytree.tree_leaves(small.cell.initial_state(2))} == {torch.float32}


@every_cell
def test_step_by_step_is_at_once(row):
    net, x, state, context = case(row)
    net.eval()
    outputs, last = net(x, state, None, None, context)
    for t in range(T):
        state, output = net.step(state, over(x, lambda v, t=t: v[:, t]), context, start=t)
        same(output, outputs[:, t])
    same(state, last)


@every_cell
def test_draws_repeat_and_eval_draws_nothing(row):
    net, x, state, context = case(row)
    drawn = net.draws(x)
    run = lambda draws=None: net(x, state, LENGTHS, RESETS, context, draws)  # noqa: E731
    same(run(drawn), run(drawn), 0)
    if drawn is None:
        same(run(), run(), 0)
    else:
        assert not torch.equal(run()[0], run()[0])
        torch.manual_seed(7)
        one = run()
        torch.manual_seed(7)
        same(run(), one, 0)
    net.eval()
    assert net.draws(x) is None
    assert draws_wanted(net.cell, 2) is None
    before = torch.get_rng_state()
    same(run(), run(), 0)
    assert torch.equal(before, torch.get_rng_state())


@every_cell
def test_a_step_is_traced_and_holds_nothing(row):
    net, _, _, context = case(row, batch=7)
    cell = net.cell
    x = over(inputs_of(net, 7, 1), lambda v: v[:, 0])
    x = x if context is None else type(cell.inputs)(x, context)
    before = pytree.tree_leaves(state_of(Recurrent(cell, skips=row.skips), 7))
    spec = pytree.tree_structure(cell.initial_state(7))
    drawn = map_draws(lambda d: d.sample(d.shape, before[0]), draws_wanted(cell, 7))

    def states(leaves):
        """The last states as the cell takes them; slots beyond the skips get copies of their own."""
        size = spec.num_leaves
        found = [pytree.tree_unflatten(leaves[at : at + size], spec) for at in range(0, len(leaves), size)]
        if cell.slots == 1:
            return found[0]
        if cell.slots == "any":
            return Children(found[0], torch.arange(7), 7)
        return tuple((found * cell.slots)[: cell.slots])

    def step(params, leaves, x, draws):
        with torch.nn.utils.stateless._reparametrize_module(cell, params):
            return advance(cell, states(leaves), x, draws, phase=1)

    def attributes():
        return [(name, id(value)) for module in cell.modules() for name, value in vars(module).items()]

    params = {n: p.detach() for n, p in [*cell.named_parameters(), *cell.named_buffers()]}
    held = attributes()
    versions = [(v, v._version) for v in tensors((params, before, x, drawn))]
    graph = make_fx(step, tracing_mode="fake")(params, before, x, drawn)
    again = over((params, before, x, drawn), lambda v: v + 0.5 * v.abs() if v.is_floating_point() else v.clone())
    same(graph(*again), step(*again), 0)
    assert attributes() == held
    assert all(v._version == version for v, version in versions)
    assert not [
        n for n in graph.graph.nodes if n.op == "call_function" and getattr(n.target, "_schema", None) and n.target._schema.is_mutable
    ]


@every_cell
def test_the_cell_says_what_it_is(row):
    net = build(row)
    cell = net.cell
    x, context = over(inputs_of(net, 2, 1), lambda v: v[:, 0]), context_of(row, net, 2)
    state, output = cell(None, x if context is None else type(cell.inputs)(x, context))
    assert output.shape == (2, cell.outputs)
    assert pytree.tree_structure(state) == pytree.tree_structure(cell.initial_state(2))
    assert type(cell).__name__ in repr(cell)
