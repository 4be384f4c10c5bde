"""A network as one operator of torch, `wavefront::unfold`: all that `torch.compile` and `torch.export` see of it, whatever its length.

The operator is handed tensors alone, and the name of the network that it is; so a program that was exported runs in the process that made it, for
as long as the network lives.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count, islice
from typing import Any, NamedTuple
from uuid import uuid4
from weakref import WeakValueDictionary

import torch
from torch import Tensor, nn
from torch._C import DispatchKey
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils import _pytree as pytree

from wavefront.cell import Cell, draws_wanted
from wavefront.errors import BackendError

__all__ = ["Opaque", "storable", "unfolded"]

_process = uuid4().hex[:12]
_number = count()
_networks: WeakValueDictionary[str, Opaque] = WeakValueDictionary()


class Opaque(nn.Module):
    """A network that can be taken for one operator: it says how its arguments are made of tensors, and what tensors it returns."""

    _name: str

    def __new__(cls, *args: Any, **kwargs: Any) -> Opaque:
        self = super().__new__(cls)
        self.__dict__["_name"] = name = f"{_process}-{next(_number)}"
        _networks[name] = self
        return self

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())  # a copy is a network of its own
        state.pop("_name")
        return state

    @abstractmethod
    def _arguments(
        self, x: list[Tensor], state: list[Tensor], context: list[Tensor], lengths: Tensor | None, resets: Tensor | None, start: int
    ) -> tuple[Any, ...]:
        """What `forward` is called with; no tensors for a state or context that was not given."""

    @abstractmethod
    def _results(self, x: list[Tensor]) -> list[Tensor]:
        """Empty tensors as `forward` would return them, leaf by leaf."""

    def _as_operator(
        self,
        x: list[Tensor],
        state: list[Tensor],
        context: list[Tensor] | None = None,
        lengths: Tensor | None = None,
        resets: Tensor | None = None,
        start: int = 0,
    ) -> list[Tensor]:
        """The leaves of what `forward` returns, as the operator gives them."""
        weights = [*self.parameters(), *self.buffers()]
        given = [*x, *state, *(context or [])]
        keep = torch.is_grad_enabled() and not torch.compiler.is_exporting() and any(t.requires_grad for t in [*given, *weights])
        low = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") is torch.bfloat16
        *results, _ = unfolded(self._name, x, state, context or [], weights, lengths, resets, start, low, keep)
        return results


def storable(state: Any) -> None:
    """Lets torch.export.save name the NamedTuples that a state is made of."""
    kind = type(state)
    if hasattr(kind, "_fields") and kind not in pytree.SUPPORTED_SERIALIZED_TYPES:
        pytree._register_namedtuple(kind, serialized_type_name=f"{kind.__module__}.{kind.__qualname__}")
    for part in state if isinstance(state, tuple) else ():
        storable(part)


def _network(name: str) -> Opaque:
    network = _networks.get(name)
    if network is None:
        raise BackendError(
            "This program was made of a Wavefront network that is not alive here: in another process, or it was deleted. Keep the network as long"
            " as the program; in another process load its state_dict into a network of the same form, and compile or export there."
        )
    return network


# Where gradients will be asked for, the forward pass is done once, under autograd, and kept until they are or its ticket is gone.
_kept: dict[int, tuple[StorageWeakRef, list[Tensor], list[Tensor]]] = {}  # by ticket: the results and what they depend on


GIVEN = (
    "str network, Tensor[] x, Tensor[] state, Tensor[] context, Tensor[] weights, Tensor? lengths, Tensor? resets, SymInt start, bool low"
)


class Given(NamedTuple):
    """What both operators are given; low: under autocast to bfloat16."""

    network: str
    x: list[Tensor]
    state: list[Tensor]
    context: list[Tensor]
    weights: list[Tensor]
    lengths: Tensor | None
    resets: Tensor | None
    start: int
    low: bool

    @property
    def tensors(self) -> list[Tensor]:
        """Those that have gradients."""
        return [*self.x, *self.state, *self.context, *self.weights]


def _run(given: Given, keep: bool) -> tuple[list[Tensor], list[Tensor]]:
    """-> results, and the tensors that were put in place of x, state, context and weights."""
    network = _network(given.network)
    own = [*network.parameters(), *network.buffers()]

    def leaf(t: Tensor) -> Tensor:
        return t.detach().requires_grad_(keep and t.is_floating_point())

    mine = all(a.data_ptr() == b.data_ptr() and a.shape == b.shape for a, b in zip(own, given.weights))
    held = own if mine else [leaf(t) for t in given.weights]
    x, state, context = parts = [[leaf(t) for t in part] for part in (given.x, given.state, given.context)]
    arguments = network._arguments(x, state, context, given.lengths, given.resets, given.start)
    with _autograd(keep), torch.autocast("cpu", torch.bfloat16, enabled=given.low):
        if mine:
            found = network(*arguments)
        else:
            names = [n for n, _ in (*network.named_parameters(), *network.named_buffers())]
            found = torch.func.functional_call(network, dict(zip(names, held)), arguments)
    return pytree.tree_leaves(found), [*(t for part in parts for t in part), *held]


@contextmanager
def _autograd(on: bool) -> Iterator[None]:
    """Recording on or off: inside an operator torch leaves out the keys that record."""
    around, left_out = torch._C._dispatch_tls_local_include_set(), torch._C._dispatch_tls_local_exclude_set()
    for key in (DispatchKey.AutogradFunctionality, DispatchKey.AutogradOther, DispatchKey.ADInplaceOrView) if on else ():
        left_out = left_out.remove(key)
    with torch._C._ForceDispatchKeyGuard(around, left_out), torch.set_grad_enabled(on):
        yield


@torch.library.custom_op(
    "wavefront::unfold", mutates_args=(), schema=f"({GIVEN}, bool keep) -> Tensor[]", tags=(torch.Tag.nondeterministic_seeded,)
)
def unfolded(*arguments: Any) -> list[Tensor]:
    """What the network returns, leaf by leaf, and the ticket of what its backward pass needs."""
    *most, keep = arguments
    given = Given(*most)
    results, leaves = _run(given, keep)
    for number in [number for number, (ticket, *_) in list(_kept.items()) if ticket.expired()]:
        _kept.pop(number, None)  # another thread may be first
    ticket = torch.tensor([next(_number)])
    if keep:
        _kept[int(ticket)] = (StorageWeakRef(ticket.untyped_storage()), results, leaves)
    theirs = {t.untyped_storage().data_ptr() for t in given.tensors}
    plain = [t.detach().contiguous() for t in results]
    return [*(t.clone() if t.untyped_storage().data_ptr() in theirs else t for t in plain), ticket]


@unfolded.register_fake
def _(network: str, x: list[Tensor], *_: Any) -> list[Tensor]:
    return [*_network(network)._results(x), torch.empty(1, dtype=torch.long)]


@torch.library.custom_op("wavefront::unfold_backward", mutates_args=(), schema=f"({GIVEN}, Tensor[] gradients, Tensor ticket) -> Tensor[]")
def _backward(*arguments: Any) -> list[Tensor]:
    """Gradients of x, state, context and weights."""
    *most, gradients, ticket = arguments
    given = Given(*most)
    kept = _kept.pop(int(ticket), None)
    if kept is not None:
        _, results, leaves = kept
    elif any(draws_wanted(m, 1) is not None for m in _network(given.network).modules() if isinstance(m, Cell)):
        raise BackendError(
            "The gradient of a compiled network that draws at random is asked for twice; keep it, or call the network again."
        )
    else:
        results, leaves = _run(given, keep=True)
    with _autograd(True):
        asked = [t for t in leaves if t.requires_grad]
        pairs = [(r, g) for r, g in zip(results, gradients) if r.requires_grad]
        found = torch.autograd.grad([r for r, _ in pairs], asked, [g.to(r.dtype) for r, g in pairs], allow_unused=True) if pairs else ()
    of = dict(zip(map(id, asked), found))
    gradient = [of.get(id(t)) for t in leaves]
    return [torch.zeros_like(t) if g is None else g.contiguous().clone() for g, t in zip(gradient, given.tensors)]


@_backward.register_fake
def _(*arguments: Any) -> list[Tensor]:
    *most, _, _ = arguments
    return [torch.empty_like(t, memory_format=torch.contiguous_format) for t in Given(*most).tensors]


def _remember(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
    network, *lists, lengths, resets, start, low, _ = inputs
    ctx.plain = (network, start, low)
    ctx.sizes = [len(part) for part in lists]
    ctx.marks = [t is not None for t in (lengths, resets)]
    ctx.save_for_backward(*(t for part in lists for t in part), *(t for t in (lengths, resets) if t is not None), *output)


def _differentiate(ctx: Any, gradients: list[Tensor | None]) -> tuple[Any, ...]:
    saved = iter(ctx.saved_tensors)
    lists = [list(islice(saved, size)) for size in ctx.sizes]
    lengths, resets = (next(saved) if there else None for there in ctx.marks)
    *results, ticket = saved
    filled = [torch.zeros_like(r) if g is None else g for r, g in zip(results, gradients)]
    network, start, low = ctx.plain
    found = iter(_backward(network, *lists, lengths, resets, start, low, filled, ticket))
    return None, *(list(islice(found, size)) for size in ctx.sizes), None, None, None, None, None


unfolded.register_autograd(_differentiate, setup_context=_remember)
