"""Wavefront: recurrent and recursive networks. A network with memory is one step, unfolded over a structure.

h(t) = f(h(t-1), x(t); θ)
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

# Every public name and its home; imported at first use, so that `import wavefront` costs nothing and the command line answers at once.
_HOMES = {
    "Bidirectional": "wavefront.networks",
    "Cell": "wavefront.cell",
    "Children": "wavefront.cell",
    "Deep": "wavefront.networks",
    "Draw": "wavefront.cell",
    "EchoStateClassifier": "wavefront.estimators",
    "EchoStateRegressor": "wavefront.estimators",
    "FourCorners": "wavefront.networks",
    "FourSweeps": "wavefront.networks",
    "GRU": "wavefront.networks",
    "GRUCell": "wavefront.networks",
    "Given": "wavefront.cell",
    "Graph": "wavefront.structure",
    "Grid": "wavefront.structure",
    "LSTM": "wavefront.networks",
    "LSTMCell": "wavefront.networks",
    "RNN": "wavefront.networks",
    "RNNCell": "wavefront.networks",
    "Recurrent": "wavefront.networks",
    "Recursive": "wavefront.networks",
    "Run": "wavefront.app.run",
    "Sequence": "wavefront.structure",
    "ShapeError": "wavefront.errors",
    "Tree": "wavefront.structure",
    "WavefrontError": "wavefront.errors",
    "clip_gradient": "wavefront.clipping",
    "convert": "wavefront.networks",
    "draw": "wavefront.inspect",
    "fit": "wavefront.app.fitting",
    "load": "wavefront.app.run",
    "unfold": "wavefront.unfolding",
}
_PACKAGES = ("cells", "generative", "networks", "structure", "wrap")

__all__ = sorted([*_HOMES, *_PACKAGES])


def __getattr__(name: str) -> Any:
    if name in _PACKAGES:
        return import_module(f"wavefront.{name}")
    if name in _HOMES:
        found = globals()[name] = getattr(import_module(_HOMES[name]), name)
        return found
    raise AttributeError(f"module 'wavefront' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
