"""The same cell elsewhere: torch.nn, a Python loop, and of what is installed torchrecurrent, Flax and Keras."""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Callable, Collection
from typing import Any

import torch
from torch import Tensor, nn

from wavefront.app.bench.case import Case
from wavefront.cell import Cell
from wavefront.networks.recurrent import Recurrent

__all__ = ["RIVALS", "Rival", "contenders", "torch_net"]

TORCH = {"lstm": "LSTM", "gru": "GRU", "elman": "RNN"}
FLAX = {"lstm": "OptimizedLSTMCell", "gru": "GRUCell", "elman": "SimpleCell"}
KERAS = {"lstm": "LSTM", "gru": "GRU", "elman": "SimpleRNN"}

RIVALS = ("torch.nn", "loop", "torchrecurrent", "flax", "keras")
Rival = dict[str, Callable[[], Any]]  # what ("train", "infer", "step") -> run it once, to the end


def contenders(case: Case, beside: Collection[str] | None = None) -> dict[str, Rival]:
    """Name -> what it can run of this case, Wavefront first. What has no such cell, or is not installed, is not among them."""
    torch.manual_seed(0)
    size, name = case.size, case.cell.lower()
    x = torch.randn(size.B, size.T, size.D)
    cell = case.make()
    makers: dict[str, Callable[[], Rival]] = {"wavefront": lambda: _ours(cell, x, case.precision), "loop": lambda: _loop(cell, x)}
    if name in TORCH:
        makers["torch.nn"] = lambda: _torch(case, x)
    kind = _torchrecurrent(name)
    if kind is not None:
        makers["torchrecurrent"] = lambda: _module(kind(size.D, size.H), x.transpose(0, 1).contiguous())
    if name in FLAX and importlib.util.find_spec("flax"):
        makers["flax"] = lambda: _flax(case, x)
    if name in KERAS and importlib.util.find_spec("keras"):
        makers["keras"] = lambda: _keras(case, x)
    return {one: make() for one, make in makers.items() if beside is None or one == "wavefront" or one in beside}


def torch_net(case: Case) -> nn.Module:
    return getattr(nn, TORCH[case.cell.lower()])(case.size.D, case.size.H, batch_first=True)


def _module(net: nn.Module, x: Tensor) -> Rival:
    parameters = list(net.parameters())

    def train() -> Any:
        return torch.autograd.grad(net(x)[0].sum(), parameters)

    def infer() -> Any:
        with torch.inference_mode():
            return net(x)

    return {"train": train, "infer": infer}


def _stepping(step: Callable[[Any, Tensor], Any], state: Any, x: Tensor) -> Callable[[], Any]:
    def one() -> Any:
        with torch.inference_mode():
            return step(state, x)

    return one


def _ours(cell: Cell, x: Tensor, precision: str) -> Rival:
    net = Recurrent(cell, precision=None if precision == "float32" else precision)
    return _module(net, x) | {"step": _stepping(net.step, cell.initial_state(len(x)), x[:, 0].contiguous())}


def _loop(cell: Cell, x: Tensor) -> Rival:
    net = Recurrent(cell, backend="reference")
    return _module(net, x) | {"step": _stepping(cell.step, cell.initial_state(len(x)), x[:, 0].contiguous())}


def _torch(case: Case, x: Tensor) -> Rival:
    one = getattr(nn, TORCH[case.cell.lower()] + "Cell")(case.size.D, case.size.H)
    h = x.new_zeros(len(x), case.size.H)
    state = (h, h) if case.cell.lower() == "lstm" else h
    return _module(torch_net(case), x) | {"step": _stepping(lambda s, x: one(x, s), state, x[:, 0].contiguous())}


def _torchrecurrent(name: str) -> Any:
    """Its layer of the same name as the cell."""
    if importlib.util.find_spec("torchrecurrent") is None:
        return None
    theirs = importlib.import_module("torchrecurrent")
    return {layer.lower(): getattr(theirs, layer) for layer in dir(theirs) if isinstance(getattr(theirs, layer), type)}.get(name.lower())


def _flax(case: Case, x: Tensor) -> Rival:
    jax, nnx = importlib.import_module("jax"), importlib.import_module("flax.nnx")
    B, _, D, H = case.size
    cell = getattr(nnx, FLAX[case.cell.lower()])(D, H, rngs=nnx.Rngs(0))
    net = nnx.RNN(cell)
    values = jax.numpy.asarray(x.numpy())
    graph, weights, rest = nnx.split(net, nnx.Param, ...)
    step_graph, *step_parts = nnx.split(cell, nnx.Param, ...)
    carry = cell.initialize_carry((B, D), nnx.Rngs(0))
    infer = jax.jit(lambda w, x: nnx.merge(graph, w, rest)(x, initial_carry=carry))
    train = jax.jit(jax.grad(lambda w, x: nnx.merge(graph, w, rest)(x, initial_carry=carry).sum()))
    step = jax.jit(lambda parts, carry, x: nnx.merge(step_graph, *parts)(carry, x))
    return {
        "train": lambda: jax.block_until_ready(train(weights, values)),
        "infer": lambda: jax.block_until_ready(infer(weights, values)),
        "step": lambda: jax.block_until_ready(step(step_parts, carry, values[:, 0])),
    }


def _keras(case: Case, x: Tensor) -> Rival:
    """Keras on the backend that is configured for it (its TensorFlow and JAX backends compile, its torch backend loops)."""
    if importlib.util.find_spec("tensorflow") is None:  # Keras's default, without which it does not even import
        os.environ.setdefault("KERAS_BACKEND", "jax" if importlib.util.find_spec("jax") else "torch")
    keras = importlib.import_module("keras")
    layer = getattr(keras.layers, KERAS[case.cell.lower()])(case.size.H, return_sequences=True)
    values = keras.ops.convert_to_tensor(x.numpy())
    layer.build(values.shape)
    if keras.backend.backend() == "torch":
        return _module(_First(layer), x)
    if keras.backend.backend() != "jax":
        return {"infer": lambda: keras.ops.convert_to_numpy(layer(values))}
    jax = importlib.import_module("jax")
    weights = [v.value for v in layer.trainable_variables]
    fixed = [v.value for v in layer.non_trainable_variables]
    infer = jax.jit(lambda w, x: layer.stateless_call(w, fixed, x)[0])
    train = jax.jit(jax.grad(lambda w, x: layer.stateless_call(w, fixed, x)[0].sum()))
    return {
        "train": lambda: jax.block_until_ready(train(weights, values)),
        "infer": lambda: jax.block_until_ready(infer(weights, values)),
    }


class _First(nn.Module):
    """A layer that gives its outputs alone, as one that gives outputs and a state."""

    def __init__(self, layer: nn.Module):
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> tuple[Tensor]:
        return (self.layer(x),)
