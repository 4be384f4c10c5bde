"""What cells are built of: blocks of weights with good starting values, and activations by name."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavefront.errors import SettingsError

Activation = Callable[[Tensor], Tensor]


def identity(a: Tensor) -> Tensor:
    return a


ACTIVATIONS: dict[str, Activation] = {
    "identity": identity,
    "relu": torch.relu,
    "sigmoid": torch.sigmoid,
    "softsign": F.softsign,
    "tanh": torch.tanh,
}


def function(f: str | Activation) -> Activation:
    """A function by its name, or any function or module that is elementwise."""
    if callable(f):
        return f
    if f not in ACTIVATIONS:
        raise SettingsError(f"activation is one of {', '.join(ACTIVATIONS)}, or a function of one tensor; got {f!r}.")
    return ACTIVATIONS[f]


def input_to_hidden(inputs: int, units: int, blocks: int = 1, bias: bool = True) -> nn.Linear:
    """U: `blocks` gates below each other, each with the start of Glorot & Bengio (2010) of its own size; biases 0."""
    U = nn.Linear(inputs, blocks * units, bias=bias)
    with torch.no_grad():
        for block in U.weight.chunk(blocks):
            nn.init.xavier_uniform_(block)
        if bias:
            U.bias.zero_()
    return U


def hidden_to_hidden(width: int, units: int, blocks: int = 1, bias: bool = False) -> nn.Linear:
    """W: `blocks` gates below each other, each an orthogonal matrix [units, width] (Saxe et al. 2014): it neither shrinks nor grows a state."""
    W = nn.Linear(width, blocks * units, bias=bias)
    with torch.no_grad():
        for block in W.weight.chunk(blocks):
            nn.init.orthogonal_(block)
        if bias:
            W.bias.zero_()
    return W


def chrono(units: int, tau_max: float) -> Tensor:
    """ln u, u uniform in [1, tau_max - 1]: biases that keep a memory for times spread up to tau_max  [Tallec & Ollivier 2018, arXiv:1804.11188]."""
    if not tau_max > 2:
        raise SettingsError(f"tau_max, the longest time to remember, is more than 2 steps; got {tau_max}.")
    return torch.empty(units).uniform_(1, tau_max - 1).log()
