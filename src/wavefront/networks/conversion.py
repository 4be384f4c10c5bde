"""An existing PyTorch model, made faster by one line: its recurrent modules swapped for the drop-ins."""

from __future__ import annotations

import sys

from torch import nn

from wavefront.networks import dropin, dropin_cells

__all__ = ["convert"]

SWAPS: dict[type[nn.Module], type[nn.Module]] = {
    nn.LSTM: dropin.LSTM,
    nn.GRU: dropin.GRU,
    nn.RNN: dropin.RNN,
    nn.LSTMCell: dropin_cells.LSTMCell,
    nn.GRUCell: dropin_cells.GRUCell,
    nn.RNNCell: dropin_cells.RNNCell,
}


def convert(model: nn.Module, quiet: bool = False) -> nn.Module:
    """Swaps every `torch.nn` LSTM, GRU and RNN, and their cells, for Wavefront's, inside the model, and says on standard error what it swapped.

    The parameters stay the same objects: an optimiser that holds them goes on, `state_dict` keeps its names, shared modules stay
    shared, hooks stay where they are. What is not exactly one of those classes (a subclass with a forward of its own, a
    parametrised module, one of TorchScript) is left as it is, and that is said too. -> the model; another module only where the
    model itself was one of them.

    >>> import wavefront
    >>> model = nn.Sequential(nn.Embedding(10, 3), nn.LSTM(3, 5, batch_first=True))
    >>> wavefront.convert(model, quiet=True)
    Sequential(
      (0): Embedding(10, 3)
      (1): LSTM(3, 5, batch_first=True)
    )
    >>> isinstance(model[1], wavefront.LSTM)
    True
    """
    swapped: dict[nn.Module, nn.Module] = {}
    said = []
    for name, module in list(model.named_modules(remove_duplicate=False)):
        if module not in swapped and type(module) in SWAPS:
            swapped[module] = _swap(module, SWAPS[type(module)])
        if module in swapped:
            said.append(f"{name or 'the model'}: torch.nn.{module} is now Wavefront's")
            parent, _, child = name.rpartition(".")
            if name:
                model.get_submodule(parent).register_module(child, swapped[module])
        elif isinstance(module, tuple(SWAPS)) and not isinstance(module, tuple(SWAPS.values())):
            said.append(f"{name or 'the model'}: left alone, {type(module).__qualname__} is a class of its own")
    if not quiet:
        print("\n".join(said) if said else "wavefront.convert: no torch.nn.LSTM, GRU, RNN or cell of theirs in this model", file=sys.stderr)
    return swapped.get(model, model)


def _swap(module: nn.Module, kind: type[nn.Module]) -> nn.Module:
    """A module of the other class with all that this one has: its parameters, hooks, mode and options."""
    new = kind.__new__(kind)
    new.__dict__.update(module.__dict__)
    return new
