"""`wavefront.LSTMCell`, `GRUCell` and `RNNCell` against `torch.nn`'s."""

import copy
import pickle

import pytest
import torch
from torch import nn

import wavefront
from wavefront import GRUCell, LSTMCell, RNNCell
from wavefront.engine.choose import runs

KINDS = {"LSTMCell": LSTMCell, "GRUCell": GRUCell, "RNNCell": RNNCell}


def pair(kind, **options):
    torch.manual_seed(0)
    theirs = getattr(nn, kind)(3, 5, **options)
    ours = KINDS[kind](3, 5, **options)
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def state_of(kind, rows=2, dtype=torch.float32):
    h, c = torch.randn(2, rows, 5, dtype=dtype)
    return (h, c) if kind == "LSTMCell" else h


def close(ours, theirs, **tolerance):
    assert type(ours) is type(theirs)
    torch.testing.assert_close(ours, theirs, **tolerance)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("options", [{}, {"bias": False}, {"dtype": torch.float64}], ids=str)
def test_steps_are_torchs_in_one_native_call(kind, options):
    ours, theirs = pair(kind, **options)
    dtype = options.get("dtype", torch.float32)
    x, state = torch.randn(2, 3, dtype=dtype), state_of(kind, dtype=dtype)
    before = runs["single"]
    with torch.no_grad():
        close(ours(x, state), theirs(x, state))
        assert runs["single"] == before + 1
        close(ours(x), theirs(x))
        close(ours(x[0]), theirs(x[0]))
        theirs.weight_hh.data.mul_(2)
        ours.weight_hh.data.mul_(2)
        close(ours(x, state), theirs(x, state))
        ours.weight_ih = theirs.weight_ih = nn.Parameter(torch.randn_like(theirs.weight_ih))
        close(ours(x, state), theirs(x, state))
    ours(x, state)[0].sum().backward()
    theirs(x, state)[0].sum().backward()
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)


def test_relu():
    ours, theirs = pair("RNNCell", nonlinearity="relu")
    x, h = torch.randn(4, 3), state_of("RNNCell", 4)
    with torch.inference_mode():
        close(ours(x, h), theirs(x, h))


@pytest.mark.parametrize("kind", KINDS)
def test_copies_pickles_and_state_dict(kind):
    ours, theirs = pair(kind)
    x, state = torch.randn(2, 3), state_of(kind)
    with torch.no_grad():
        want = ours(x, state)
        other = copy.deepcopy(ours)
        close(pickle.loads(pickle.dumps(ours))(x, state), want)
        other.weight_hh.zero_()
        close(ours(x, state), want)
        assert not torch.allclose(other(x, state)[0], want[0])
        close(ours.double()(x.double(), pytree_double(state)), theirs.double()(x.double(), pytree_double(state)))
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert not list(ours.children())
    assert repr(ours) == repr(theirs)


def pytree_double(state):
    return torch.utils._pytree.tree_map(lambda part: part.double(), state)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rows", [(2, 4), (3, 5)], ids=["width", "rows"])
def test_what_does_not_fit_is_refused_with_torchs_words(kind, rows):
    said = []
    for module in pair(kind):
        h = torch.zeros(*rows)
        with torch.no_grad(), pytest.raises(RuntimeError) as error:
            module(torch.zeros(2, 3), (h, h) if kind == "LSTMCell" else h)
        said.append(str(error.value))
    assert said[0] == said[1]


def test_convert_swaps_cells_too():
    model = nn.ModuleDict({"decoder": nn.LSTMCell(3, 5)})
    wavefront.convert(model, quiet=True)
    assert isinstance(model["decoder"], LSTMCell)
    with torch.no_grad():
        h, _ = model["decoder"](torch.randn(2, 3), state_of("LSTMCell"))
    assert h.shape == (2, 5)
