"""The networks that forecast, each called with windows and saying something of every step of the horizon."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils import _pytree as pytree

from wavefront.cell import Cell
from wavefront.generative import Autoregressive
from wavefront.networks.recurrent import Recurrent
from wavefront.tasks.forecast.outputs import MIDDLE, QUANTILES, ScaledCounts, make_output, quantiles_of, same_draws
from wavefront.wrap import Stack

__all__ = ["Forecaster", "Horizon", "Members", "Paths", "Shape", "Windows"]

MakeCell = Callable[[int, int], Cell]


class Shape(NamedTuple):
    """The sizes of windows: steps of the past and of the future, how many covariates there are of each kind, and how many series."""

    window: int
    horizon: int
    past: int = 0
    future: int = 0
    static: int = 0
    series: int = 1


class Windows(NamedTuple):
    """Windows of B series, every value brought to level 0 and scale 1.

    z [B, L] the past, 0 where `there` [B, L] is 0; target [B, H] what came, NaN where unknown; start [B, H] the forecast that is corrected;
    past [B, L, P], future [B, H, F], static [B, S] covariates; series [B] numbers of series, 0: unknown; log_scale [B]
    """

    z: Tensor
    there: Tensor
    start: Tensor
    past: Tensor
    future: Tensor
    static: Tensor
    series: Tensor
    log_scale: Tensor
    target: Tensor


class Forecaster(nn.Module, ABC):
    """Features and a centre for each step: the output is a distribution of target - centre (of counts, of the target itself).

    identity  the size of a vector for each series that training saw
    """

    def __init__(self, shape: Shape, output: str, features: int, identity: int = 0):
        super().__init__()
        self.shape, self.features = shape, features
        self.output = make_output(output, features)
        self.counts = isinstance(self.output, ScaledCounts)
        self.names = nn.Embedding(shape.series + 1, identity, padding_idx=0) if identity else None
        self.who_size = shape.static + identity

    @abstractmethod
    def forward(self, w: Windows) -> tuple[Tensor, Tensor]:
        """-> o [B, T, features] and the centre [B, T] of the steps that are learned from: the last T of window and horizon."""

    def nll(self, w: Windows) -> tuple[Tensor, Tensor]:
        """Minus the log-probability (or the score) of every step, [B, T], and which of them are there."""
        o, centre = self(w)
        y = torch.cat([torch.where(w.there > 0, w.z, torch.nan), w.target], 1)[:, -o.shape[1] :]
        there = ~y.isnan()
        y = torch.where(there, y, 0)
        if self.counts:
            y = (y * w.log_scale.exp()[:, None]).round()
        else:
            y = torch.where(there, y - centre, 0)
        return -self.output.log_prob(self.told(o, w.log_scale), y[..., None]) * there, there

    def quantiles(self, w: Windows) -> Tensor:
        """The `QUANTILES` of each step of the horizon, [B, H, Q]."""
        o, centre = self(w)
        found = quantiles_of(self.output, self.told(o, w.log_scale))
        return found / w.log_scale.exp()[:, None, None] if self.counts else found + centre[..., None]

    def told(self, o: Tensor, log_scale: Tensor) -> Tensor:
        """Features as the output takes them: that of counts is told their scale."""
        if not self.counts:
            return o
        return torch.cat([o, log_scale.view(-1, *[1] * (o.dim() - 1)).expand(*o.shape[:-1], 1)], -1)

    def who(self, w: Windows) -> Tensor:
        """What is said of a series as a whole, [B, who_size]; in training it is sometimes unknown which it is."""
        if self.names is None:
            return w.static
        series = w.series
        if self.training:
            series = series.masked_fill(torch.rand(series.shape, device=series.device) < 0.1, 0)
        return torch.cat([w.static, self.names(series)], -1)


class Horizon(Forecaster):
    """Reads the past in segments, and says all steps of the horizon.  [Wen et al. 2017, arXiv:1711.11053; Lin et al. 2023, arXiv:2308.11200
    (segments, and one step of the cell for each segment to come); Lai et al. 2018, arXiv:1703.07015, 3.6 (the linear part)]

        h(i) = f(h(i-1), relu(U s(i) + b))              s(i) the i-th segment of the past: values, whether they are there, covariates
        g(k) = f(h(n), p(k) + D who)                    p(k) the place of the k-th segment of the future; with a decoder instead
        g(k) = f'(g(k-1), p(k) + D who), g(0) = h(n)
        o(t) = (V g(k))(t) + A future(t)                centre(t) = start(t) + (W z)(t)

    The last layers begin at zero: the first forecast is `start`.
    """

    def __init__(
        self,
        shape: Shape,
        cell: MakeCell,
        units: int,
        layers: int,
        segment: int,
        output: str,
        identity: int = 0,
        dropout: float = 0.0,
        linear: bool = True,
        decoder: bool = False,
    ):
        super().__init__(shape, output, FEATURES, identity)
        self.segment, self.lead, self.count = segment, -shape.window % segment, -(-shape.horizon // segment)
        self.dropout = dropout
        self.U = nn.Linear(segment * (2 + shape.past), units)
        self.encoder = Recurrent(stacked(cell, units, units, layers))
        self.decoder = Recurrent(stacked(cell, units, units, layers)) if decoder else None
        self.p = nn.Parameter(torch.randn(self.count, units) / 2)
        self.D = nn.Linear(self.who_size, units) if self.who_size else None
        self.V = nn.Linear(units, segment * FEATURES)
        self.A = nn.Sequential(nn.Linear(shape.future, units), nn.ReLU(), nn.Linear(units, FEATURES)) if shape.future else None
        self.W = nn.Linear(shape.window, shape.horizon, bias=False) if linear and not self.counts else None
        if self.W is not None:
            nn.init.zeros_(self.W.weight)
        if not self.counts:
            nn.init.zeros_(self.output.V.weight)  # type: ignore[union-attr, arg-type]

    def forward(self, w: Windows) -> tuple[Tensor, Tensor]:
        rows, segments = len(w.z), (-1, self.segment * (2 + self.shape.past))
        x = torch.cat([w.z[..., None], w.there[..., None], w.past], -1)
        x = F.pad(x, (0, 0, self.lead, 0)).reshape(rows, *segments)
        _, state = self.encoder(self.U(x).relu())
        place = self.p if self.D is None else self.p + self.D(self.who(w))[:, None]
        place = place.expand(rows, -1, -1)
        if self.decoder is not None:
            g, _ = self.decoder(place, state)
        else:
            g, _ = self.encoder(place.reshape(rows * self.count, 1, -1), repeated(state, self.count))
        g = F.dropout(g, self.dropout, self.training)
        o = self.V(g).reshape(rows, -1, FEATURES)[:, : self.shape.horizon]
        if self.A is not None:
            o = o + self.A(w.future)
        return o, w.start if self.W is None else w.start + self.W(w.z)


FEATURES = 32  # of each step of a horizon, from which its distribution is read


class Paths(Forecaster):
    """Any cell as a probabilistic autoregression; forecasts are sampled paths.  [Salinas et al. 2020, arXiv:1704.04110]

        o(t) = f(h(t-1), [z(t-1), whether it is there, z(t-season), covariates(t), who])        z(t) - z(t-season) ~ output(o(t))

    (of counts: z(t) itself). Learned from every value of window and horizon. All series are sampled with the same random numbers, so that no
    forecast depends on another.
    """

    def __init__(
        self,
        shape: Shape,
        cell: MakeCell,
        units: int,
        layers: int,
        output: str,
        identity: int = 0,
        dropout: float = 0.0,
        season: int = 1,
        samples: int = 200,
    ):
        super().__init__(shape, output, units, identity)
        self.season, self.samples, self.dropout = season, samples, dropout
        beside = 2 + shape.future + self.who_size
        network = Recurrent(stacked(cell, 1 + beside, units, layers))
        self.model = Autoregressive(network, self.output, ending="given", inputs=beside)

    def forward(self, w: Windows) -> tuple[Tensor, Tensor]:
        known = ~w.target.isnan()
        z = torch.cat([w.z, torch.where(known, w.target, 0)], 1)
        there = torch.cat([w.there, known.to(w.there)], 1)
        covariates = torch.cat([w.past[..., w.past.shape[2] - self.shape.future :], w.future], 1)
        o, _ = self.model.run(z[..., None], x=self._beside(z, there, covariates, self.who(w)))
        return F.dropout(o, self.dropout, self.training), F.pad(z, (self.season, 0))[:, : z.shape[1]]

    def _beside(self, z: Tensor, there: Tensor, covariates: Tensor, who: Tensor) -> Tensor:
        """What every step is given beside z(t-1): z and there [B, T] -> [B, T, beside]."""
        steps = z.shape[1]
        lag, was = F.pad(z, (self.season, 0))[:, :steps], F.pad(there, (1, 0))[:, :steps]
        return torch.cat([lag[..., None], was[..., None], covariates, who[:, None].expand(-1, steps, -1)], -1)

    @torch.no_grad()
    def paths(self, w: Windows, steps: int | None = None) -> Tensor:
        """Whole futures, [B, samples, steps]."""
        n, who = self.samples, self.who(w)
        seen = w.past[..., w.past.shape[2] - self.shape.future :]
        _, state = self.model.run(w.z[..., None], x=self._beside(w.z, w.there, seen, who))
        state, z, log_scale = repeated(state, n), repeated(w.z, n), repeated(w.log_scale, n)
        was, who = repeated(w.there[:, -1:], n), repeated(who, n)
        for t in range(self.shape.horizon if steps is None else steps):
            lag = F.pad(z, (self.season, 0))[:, z.shape[1], None]
            state, o = self.model.step(state, torch.cat([lag, was, repeated(w.future[:, t], n), who], -1))
            y = same_draws(self.output, self.told(o, log_scale).unflatten(0, (-1, n)), seed=t).flatten(0, 1)
            y = y / log_scale.exp()[:, None] if self.counts else lag + y
            state, z, was = self.model.write(state, y), torch.cat([z, y], 1), torch.ones_like(was)
        return z[:, w.z.shape[1] :].unflatten(0, (-1, n))

    def quantiles(self, w: Windows) -> Tensor:
        return self.paths(w).quantile(w.z.new_tensor(QUANTILES), 1).permute(1, 2, 0)


class Members(nn.Module):
    """Networks that are trained side by side, each by its own loss, and whose quantiles are averaged.

    share   [] of what they correct in the simple forecast is taken: what `shrinkage` found (of counts, which have none, all)
    margins [H, Q] are added to the quantiles, in the scale of the window: what `conformal` found
    """

    share: Tensor
    margins: Tensor

    def __init__(self, networks: Sequence[Forecaster]):
        super().__init__()
        self.networks: Any = nn.ModuleList(networks)
        self.register_buffer("share", torch.ones(()))
        self.register_buffer("margins", torch.zeros(networks[0].shape.horizon, len(QUANTILES)))

    def forward(self, **inputs: Tensor) -> tuple[Tensor, Tensor]:
        """The loss of the steps, summed, and how many there are; averaged over the members."""
        found = [network.nll(Windows(**inputs)) for network in self.networks]
        return torch.stack([nll.sum() for nll, _ in found]).mean(), found[0][1].sum()

    def quantiles(self, calibrated: bool = True, **inputs: Tensor) -> Tensor:
        """[B, H, Q], ascending; as the networks say them, or with what was found on held-out data."""
        w = Windows(**inputs)
        found = sum(network.quantiles(w) for network in self.networks) / len(self.networks)
        return (self.shrunk(found, w.start) + self.margins).sort(-1).values if calibrated else found

    def shrunk(self, found: Tensor, start: Tensor) -> Tensor:
        """`share` of the correction to start [B, H]: all quantiles [B, H, Q] are shifted alike."""
        return found - (1 - self.share) * (found[..., MIDDLE] - start)[..., None]


def stacked(cell: MakeCell, inputs: int, units: int, layers: int) -> Cell:
    """The cell, or so many of them one above the other."""
    first = cell(inputs, units)
    return first if layers == 1 else Stack(first, *(cell(units, units) for _ in range(layers - 1)))


def repeated(state: Any, n: int) -> Any:
    """Every row n times, one after the other."""
    return pytree.tree_map(lambda part: part.repeat_interleave(n, 0), state)
