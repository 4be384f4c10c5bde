"""Wavefront: recurrent and recursive networks. A network with memory is one step, unfolded over a structure.

h(t) = f(h(t-1), x(t); θ)
"""

from wavefront.lazy import lazily

__version__ = "0.1.0"

# Every public name and its home; imported at first use, so that `import wavefront` costs nothing and the command line answers at once.
_HOMES = {
    "Bidirectional": "networks.recurrent",
    "Cell": "cell",
    "Children": "cell",
    "Deep": "networks.deep",
    "Draw": "cell",
    "EchoStateClassifier": "estimators",
    "EchoStateRegressor": "estimators",
    "FourCorners": "networks.grid",
    "FourSweeps": "networks.grid",
    "GRU": "networks.dropin",
    "GRUCell": "networks.dropin_cells",
    "Given": "cell",
    "Graph": "structure",
    "Grid": "structure",
    "LSTM": "networks.dropin",
    "LSTMCell": "networks.dropin_cells",
    "RNN": "networks.dropin",
    "RNNCell": "networks.dropin_cells",
    "Recurrent": "networks.recurrent",
    "Recursive": "networks.recursive",
    "Run": "app.run",
    "Sequence": "structure",
    "ShapeError": "errors",
    "Tree": "structure",
    "WavefrontError": "errors",
    "cells": "cells",
    "clip_gradient": "clipping",
    "convert": "networks.conversion",
    "draw": "inspect",
    "fit": "app.fitting",
    "generative": "generative",
    "load": "app.run",
    "networks": "networks",
    "structure": "structure",
    "unfold": "unfolding",
    "wrap": "wrap",
}

__all__ = sorted(_HOMES)

__getattr__ = lazily(__name__, _HOMES)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
