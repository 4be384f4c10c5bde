"""Symbols as outputs: softmax over all of them, and in two stages where there are very many."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from wavefront.cell import Draw
from wavefront.errors import SettingsError, ShapeError
from wavefront.generative.output import Output

__all__ = ["AdaptiveCategorical", "Categorical", "SymbolOutput", "draw_symbols"]


def draw_symbols(log_p: Tensor, uniform: Tensor) -> Tensor:
    """Symbols by inversion: log-probabilities [..., K], which need not sum to one, and u in [0, 1) [..., 1] -> [...]. Never one of -inf."""
    cumulated = (log_p - log_p.amax(-1, keepdim=True)).double().exp().cumsum(-1)
    at = uniform.double() * cumulated[..., -1:]  # double: u * total stays below total
    return torch.searchsorted(cumulated, at, right=True).squeeze(-1)


def log_softmax(logits: Tensor) -> Tensor:
    """Over the last dimension; in float32 at least, for under autocast a layer's logits come in bfloat16."""
    return logits.log_softmax(-1, dtype=torch.promote_types(logits.dtype, torch.float32))


class SymbolOutput(Output):
    """An output whose y is one of `symbols` symbols, numbered from 0."""

    def __init__(self, features: int, symbols: int):
        super().__init__(features, ())
        if symbols < 1:
            raise SettingsError(f"{type(self).__name__} wants at least one symbol, got {symbols}.")
        self.symbols, self.values = symbols, f"Symbols are 0..{symbols - 1}"

    def impossible(self, y: Tensor) -> Tensor:
        return (y < 0) | (y >= self.symbols)

    @abstractmethod
    def log_probs(self, o: Tensor) -> Tensor:
        """log p of every symbol, [..., symbols]."""

    def log_prob(self, o: Tensor, y: Tensor) -> Tensor:
        return self.log_probs(o).gather(-1, y[..., None]).squeeze(-1)

    def noise(self, rows: int) -> Draw:
        return Draw((rows, 1), "uniform")

    def draw(self, o: Tensor, noise: Tensor) -> Tensor:
        return draw_symbols(self.log_probs(o), noise)

    def mode(self, o: Tensor) -> Tensor:
        return self.log_probs(o).argmax(-1)

    def expected(self, o: Tensor) -> Tensor:
        return self.log_probs(o).exp()

    @property
    def read_size(self) -> int:
        raise SettingsError(
            f"{type(self).__name__}: symbols are read through a table of vectors. Give the network one: reader=nn.Embedding(...)."
        )


class Categorical(SymbolOutput):
    """p(y | o) = softmax(V o + c).  [Goodfellow et al. 2016, eq. 10.10-10.11]

    tied  a table of vectors [symbols, features] to take for V, the one that the network reads symbols with  [Press & Wolf 2017]

    >>> output = Categorical(5, symbols=3)
    >>> o = torch.randn(2, 7, 5)
    >>> output.log_prob(o, output.sample(o)).shape, output.log_probs(o).exp().sum(-1).allclose(torch.ones(2, 7))
    (torch.Size([2, 7]), True)
    """

    def __init__(self, features: int, symbols: int, tied: nn.Embedding | None = None):
        super().__init__(features, symbols)
        self.V = nn.Linear(features, symbols)
        with torch.no_grad():
            self.V.bias.zero_()
        if tied is not None:
            if tied.weight.shape != self.V.weight.shape:
                raise ShapeError(
                    f"Categorical: tied is a table of [{symbols}, {features}] (symbols, features), got {list(tied.weight.shape)}."
                )
            self.V.weight = tied.weight

    def log_probs(self, o: Tensor) -> Tensor:
        return log_softmax(self.V(o))


class AdaptiveCategorical(SymbolOutput):
    """Softmax in two stages: frequent symbols and clusters of rare ones first, then within a cluster.  [Grave et al. 2017, arXiv:1609.04309]

    cutoffs    where the clusters begin; symbols are numbered by falling frequency
    shrink     each further cluster reads o through so many times fewer numbers

    `log_prob` costs about what the frequent symbols cost.

    >>> output = AdaptiveCategorical(8, symbols=1000, cutoffs=[50, 200])
    >>> o = torch.randn(4, 8)
    >>> output.log_probs(o).exp().sum(-1).allclose(torch.ones(4))
    True
    """

    def __init__(self, features: int, symbols: int, cutoffs: Sequence[int], shrink: float = 4.0):
        super().__init__(features, symbols)
        self.V = nn.AdaptiveLogSoftmaxWithLoss(features, symbols, cutoffs, div_value=shrink, head_bias=True)

    def log_prob(self, o: Tensor, y: Tensor) -> Tensor:
        flat, symbols = o.reshape(-1, self.features), y.reshape(-1)
        starts = self.V.cutoffs[:-1]  # of the clusters
        cluster = torch.bucketize(symbols, torch.tensor(starts, device=symbols.device), right=True)  # 0: a frequent symbol
        first = torch.where(cluster == 0, symbols, starts[0] + cluster - 1)
        log_p = log_softmax(self.V.head(flat)).gather(1, first[:, None]).squeeze(1)
        for number, (start, tail) in enumerate(zip(starts, self.V.tail), 1):
            rows = (cluster == number).nonzero().squeeze(1)
            within = log_softmax(tail(flat[rows])).gather(1, (symbols[rows] - start)[:, None]).squeeze(1)
            log_p = log_p.index_add(0, rows, within)
        return log_p.view(y.shape)

    def log_probs(self, o: Tensor) -> Tensor:
        first, frequent = log_softmax(self.V.head(o)), self.V.cutoffs[0]
        within = [first[..., frequent + k, None] + log_softmax(tail(o)) for k, tail in enumerate(self.V.tail)]
        return torch.cat([first[..., :frequent], *within], -1)
