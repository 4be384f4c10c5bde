"""Reservoirs: recurrent units whose weights are drawn once, with care, and then stay."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from wavefront.cell import Cell, Draw, Given
from wavefront.cells._parts import Activation, function
from wavefront.cells._topology import connected
from wavefront.errors import SettingsError

__all__ = ["Reservoir", "Reservoirs", "Tuning"]


class Reservoir(Cell[Tensor]):
    """The reservoir of an echo state network.  [Jaeger 2001, GMD 148; Jaeger et al. 2007; Goodfellow et al. 2016, section 10.8]

        h' = (1 - leak) ⊙ h + leak ⊙ φ(U x + W h + b + noise ν)          leak = 1 - α,  ν ~ N(0, 1)

    state h [N, units], x [N, inputs + feedback] -> output h' [N, units]. W is sparse and held by its nonzeros: unit i hears the units
    `sources[i]` with the weights `W[i]`, both [units, k]; `matrix()` is the whole of it.

    spectral_radius  the largest absolute eigenvalue of W, exactly. Below 1 the first state is usually forgotten (the echo state property),
                     near 1 slowly; 1.2 is the start of training by Sutskever (2012; the book, section 10.8)
    density          share of the units that a unit hears
    leak             one number for all units, or one for each, in (0, 1]
    input_scaling    U is uniform in ± this; one number, or one for each input
    input_density    share of the units that hear each input, chosen at random; few make for a longer memory
    bias             b is uniform in ± this
    feedback         how many fed-back outputs follow the inputs in x (`wrap.Feedback` puts them there)
    feedback_scaling as input_scaling, for these
    noise            deviation of ν's part, in training mode only
    topology         "random", "ring", "small_world", "block", "permutation", "delay_line" (where the radius is each connection's weight, for all
                     eigenvalues are 0), or a matrix [units, units]
    trainable        U, W and b are parameters, to be trained from here; by default they are fixed
    seed             of the weights; None: drawn by torch's generator, so that torch.manual_seed decides
    dtype            of the weights; they are drawn in float64, so a radius asked for in float64 is exact to its last places

    >>> import torch
    >>> cell = Reservoir(3, 50, spectral_radius=0.8, seed=1)
    >>> round(float(torch.linalg.eigvals(cell.matrix().double()).abs().max()), 6), list(cell.parameters())
    (0.8, [])
    >>> from wavefront import Recurrent
    >>> Recurrent(cell)(torch.randn(2, 7, 3))[0].shape
    torch.Size([2, 7, 50])
    """

    U: Tensor  # [units, inputs + feedback]
    W: Tensor  # [units, k]
    b: Tensor  # [units]
    sources: Tensor  # [units, k]
    leak: Tensor  # [] or [units]

    def __init__(
        self,
        inputs: int,
        units: int,
        *,
        spectral_radius: float = 0.9,
        density: float = 0.1,
        leak: float | Sequence[float] | Tensor = 1.0,
        input_scaling: float | Sequence[float] = 1.0,
        input_density: float = 1.0,
        bias: float = 0.0,
        feedback: int = 0,
        feedback_scaling: float | Sequence[float] = 1.0,
        noise: float = 0.0,
        topology: str | np.ndarray | Tensor = "random",
        activation: str | Activation = "tanh",
        trainable: bool = False,
        seed: int | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__(inputs + feedback, state=units)
        dtype = dtype or torch.get_default_dtype()
        _check(units, spectral_radius, density, input_density, noise)
        random = np.random.default_rng(int(torch.randint(2**62, ())) if seed is None else seed)
        sources, W = connected(topology if isinstance(topology, str) else np.asarray(topology), units, density, spectral_radius, random)
        scale = np.concatenate([_each("input_scaling", input_scaling, inputs), _each("feedback_scaling", feedback_scaling, feedback)])
        heard = np.ones((units, inputs + feedback))
        if input_density < 1:
            silent = units - max(1, round(input_density * units))
            for column in heard.T:
                column[random.permutation(units)[:silent]] = 0
        weights = {"U": heard * random.uniform(-1, 1, (units, inputs + feedback)) * scale, "W": W, "b": random.uniform(-1, 1, units) * bias}
        for name, weight in weights.items():
            tensor = torch.from_numpy(weight).to(dtype)
            if trainable:
                self.register_parameter(name, nn.Parameter(tensor))
            else:
                self.register_buffer(name, tensor)
        self.register_buffer("sources", torch.from_numpy(sources))
        self.register_buffer("leak", _leak(leak, units).to(dtype))
        self.feedback, self.noise, self.activation = feedback, noise, function(activation)

    def matrix(self) -> Tensor:
        """W [units, units], zeros and all."""
        W = self.W.detach()
        return W.new_zeros(len(W), len(W)).scatter_add(1, self.sources, W)

    def draws(self, rows: int) -> Draw | None:
        return Draw((rows, len(self.W)), "normal") if self.noise else None

    def step(self, state, x, draws=None):
        a = x @ self.U.T + (self.W * state[:, self.sources]).sum(-1) + self.b
        if draws is not None:
            a = a + self.noise * draws
        h = (1 - self.leak) * state + self.leak * self.activation(a)
        return h, h


class Tuning(NamedTuple):
    """The settings of one row of `Reservoirs`, [N, 1] each."""

    spectral_radius: Any
    leak: Any
    input_scaling: Any
    bias: Any


class Reservoirs(Cell[Tensor]):
    """One reservoir under many settings, a setting for each sequence of the batch: W is read once for all of them.

        h' = (1 - leak) h + leak φ(input_scaling U x + spectral_radius W h + bias b)

    state h [N, units], x a Given(x [N, inputs], context=Tuning of [N, 1]) -> output h' [N, units]. Each row is exactly what a `Reservoir` of the
    same seed with these settings gives.

    >>> import torch
    >>> from wavefront import Recurrent
    >>> x, radii = torch.randn(1, 7, 3).expand(2, -1, -1), torch.tensor([[0.5], [0.9]])
    >>> tuning = Tuning(radii, leak=torch.ones(2, 1), input_scaling=torch.ones(2, 1), bias=torch.zeros(2, 1))
    >>> both, _ = Recurrent(Reservoirs(3, 20, seed=1))(x, context=tuning)
    >>> one, _ = Recurrent(Reservoir(3, 20, spectral_radius=0.5, seed=1))(x[:1])
    >>> torch.allclose(both[:1], one, atol=1e-6)
    True
    """

    def __init__(
        self,
        inputs: int,
        units: int,
        *,
        density: float = 0.1,
        topology: str | np.ndarray | Tensor = "random",
        activation: str | Activation = "tanh",
        seed: int | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__(Given(inputs, Tuning(1, 1, 1, 1)), state=units)
        options: dict[str, Any] = {"topology": topology, "activation": activation, "seed": seed, "dtype": dtype}
        self.unit = Reservoir(inputs, units, spectral_radius=1.0, density=density, bias=1.0, **options)

    def step(self, state, x):
        (x, tuning), unit = x, self.unit
        recurrent = (unit.W * state[:, unit.sources]).sum(-1)
        a = tuning.input_scaling * (x @ unit.U.T) + tuning.spectral_radius * recurrent + tuning.bias * unit.b
        h = (1 - tuning.leak) * state + tuning.leak * unit.activation(a)
        return h, h


def _check(units: int, radius: float, density: float, input_density: float, noise: float) -> None:
    if units < 1:
        raise SettingsError(f"cells.Reservoir: a reservoir has at least one unit; got {units}.")
    if not 0 <= radius < np.inf:
        raise SettingsError(f"cells.Reservoir: spectral_radius is a number of at least 0, got {radius}.")
    if not 0 < density <= 1:
        raise SettingsError(f"cells.Reservoir: density is the share of units that a unit hears, in (0, 1]; got {density}.")
    if not 0 < input_density <= 1:
        raise SettingsError(f"cells.Reservoir: input_density is the share of units that hear an input, in (0, 1]; got {input_density}.")
    if not 0 <= noise < np.inf:
        raise SettingsError(f"cells.Reservoir: noise is a deviation, at least 0; got {noise}.")


def _each(name: str, scale: float | Sequence[float], size: int) -> np.ndarray:
    found = np.asarray(scale, np.float64)
    if found.shape not in ((), (size,)) or not np.isfinite(found).all():
        raise SettingsError(f"cells.Reservoir: {name} is one finite number, or one for each of {size}; got {scale}.")
    return np.broadcast_to(found, size)


def _leak(leak: float | Sequence[float] | Tensor, units: int) -> Tensor:
    found = torch.as_tensor(leak, dtype=torch.float64).detach()
    if found.shape not in ((), (units,)) or not bool(((found > 0) & (found <= 1)).all()):
        raise SettingsError(f"cells.Reservoir: leak is one number in (0, 1], or one for each of the {units} units; got {leak}.")
    return found.clone()
