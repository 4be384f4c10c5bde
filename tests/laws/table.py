"""One row enrols a cell or a wrapper in every law, and in the laws of every backend.

from laws.table import CELLS, build, inputs_of
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from laws import sample_cells as samples
from wavefront import Cell, Given, Recurrent, cells, wrap
from wavefront.cell import is_size
from wavefront.wrap import Forced

INPUTS, UNITS = 3, 4


class Row(NamedTuple):
    name: str
    make: Callable[[], Cell]
    smooth: bool = True  # has a second derivative everywhere
    skips: tuple[int, ...] = (1,)
    context: int = 0  # size of a context that is given apart


D, H = INPUTS, UNITS

CELLS = [
    Row("Elman", partial(cells.Elman, D, H)),
    Row("Elman relu", partial(cells.Elman, D, H, "relu"), smooth=False),
    Row("Elman without bias", partial(cells.Elman, D, H, bias=False)),
    Row("FullGateLSTM", partial(cells.FullGateLSTM, D, H)),
    Row("GRU", partial(cells.GRU, D, H)),
    Row("GRU chrono", partial(cells.GRU, D, H, tau_max=20)),
    Row("GRUBefore", partial(cells.GRUBefore, D, H)),
    Row("GRUBook", partial(cells.GRUBook, D, H)),
    Row("IndRNN", partial(cells.IndRNN, D, H, longest=10), smooth=False),
    Row("IndRNN tanh", partial(cells.IndRNN, D, H, activation="tanh")),
    Row("LSTM", partial(cells.LSTM, D, H)),
    Row("LSTM chrono", partial(cells.LSTM, D, H, tau_max=20)),
    Row("LSTM coupled", partial(cells.LSTM, D, H, coupled=True)),
    Row("LSTM layer norm", partial(cells.LSTM, D, H, layer_norm=True)),
    Row("LSTM peepholes", partial(cells.LSTM, D, H, peepholes=True)),
    Row("LSTM projection", partial(cells.LSTM, D, H, projection=2)),
    Row("LSTM recurrent dropout", partial(cells.LSTM, D, H, recurrent_dropout=0.4)),
    Row(
        "LSTM with everything",
        partial(cells.LSTM, D, H, peepholes=True, coupled=True, projection=2, layer_norm=True, recurrent_dropout=0.2),
    ),
    Row("LSTM without forget gate", partial(cells.LSTM, D, H, without={"forget_gate"})),
    Row("LSTM without input gate", partial(cells.LSTM, D, H, peepholes=True, without={"input_gate"})),
    Row("LSTM without output gate", partial(cells.LSTM, D, H, without={"output_gate", "output_activation"})),
    Row("Leaky", partial(cells.Leaky, D, H, 0.3)),
    Row("Leaky learned", partial(cells.Leaky, D, H, time_constants=(1, 20), learned=True)),
    Row("MGU", partial(cells.MGU, D, H)),
    Row("MUT1", partial(cells.MUT1, D, H)),
    Row("MUT2", partial(cells.MUT2, D, H)),
    Row("MUT2 square", partial(cells.MUT2, D, D)),
    Row("MUT3", partial(cells.MUT3, D, H)),
    Row("Reservoir", partial(cells.Reservoir, D, H, density=0.5, bias=0.5, leak=0.7, trainable=True, seed=1)),
    Row("Reservoir small world", partial(cells.Reservoir, D, 9, density=0.4, noise=0.1, topology="small_world", trainable=True, seed=1)),
    Row("Reservoirs", partial(samples.Tuned, D, 6), context=4),
    Row("Reservoir fixed, below", lambda: wrap.Stack(cells.Reservoir(D, 6, density=0.5, seed=1), cells.Elman(6, H))),
    Row("CfC", partial(cells.CfC, D, H, 3)),
    Row("Clockwork", partial(cells.Clockwork, D, H, (1, 2, 3), activation="identity")),
    Row("DeltaRule", partial(cells.DeltaRule, D, H)),
    Row("GRUD", partial(cells.GRUD, D, H), smooth=False),
    Row("GatedDeltaRule", partial(cells.GatedDeltaRule, D, H, heads=2)),
    Row("LMU", partial(cells.LMU, D, H, order=3, theta=5)),
    Row("LRU", partial(cells.LRU, D, H, outputs=2)),
    Row("MLSTM", partial(cells.MLSTM, D, H, heads=2), smooth=False),
    Row("MinGRU", partial(cells.MinGRU, D, H)),
    Row("MinLSTM", partial(cells.MinLSTM, D, H)),
    Row("PhasedLSTM", partial(cells.PhasedLSTM, D, H, (2, 6), open=0.6), smooth=False),
    Row("PhasedLSTM with gaps", partial(cells.PhasedLSTM, D, H, (2, 6), open=0.6, gaps=True), smooth=False),
    Row("QRNN", partial(cells.QRNN, D, H, width=3)),
    Row("RGLRU", partial(cells.RGLRU, D, H)),
    Row("SLSTM", partial(cells.SLSTM, D, H), smooth=False),
    Row("SRU", partial(cells.SRU, D, H)),
    Row("ChildSumTreeLSTM", partial(cells.ChildSumTreeLSTM, D, H), skips=(1, 2)),
    Row("MDGRU", partial(cells.MDGRU, D, H), skips=(1, 3)),
    Row("MDLSTM", partial(cells.MDLSTM, D, H, directions=3, peepholes=True), skips=(1, 2, 3)),
    Row("MDRNN", partial(cells.MDRNN, D, H), skips=(1, 3)),
    Row("MVRNN", partial(cells.MVRNN, D, H), skips=(1, 2)),
    Row("RNTN", partial(cells.RNTN, D, H), skips=(1, 2)),
    Row("RecursiveAutoencoder", partial(cells.RecursiveAutoencoder, D, H), skips=(1, 2)),
    Row("StableMDLSTM", partial(cells.StableMDLSTM, D, H), skips=(1, 3)),
    Row("TreeGRU", partial(cells.TreeGRU, D, H), skips=(1, 2)),
    Row("TreeLSTM", partial(cells.TreeLSTM, D, H), skips=(1, 2)),
    Row("TreeRNN", partial(cells.TreeRNN, D, H, slots=3), skips=(1, 2, 4)),
    Row("Decayed", lambda: wrap.Decayed(cells.LSTM(2 * D, H)), smooth=False),
    Row("ClippedGradient", lambda: wrap.ClippedGradient(cells.LSTM(D, H), 1e6)),  # beyond all that flows: the laws are of true gradients
    Row("Deepened", lambda: wrap.Deepened(cells.LSTM(5, H), before=(D, 6, 5), transition=(3,), after=(5, 2))),
    Row("Deepened with shortcut", lambda: wrap.Deepened(cells.Elman(D, H), transition=(3,), shortcut=True)),
    Row("Delays", lambda: wrap.Delays(cells.Elman(2 * D + 2 * H, H), D, inputs=(0, 3), outputs=(1, 2))),
    Row("Dropout", lambda: wrap.Dropout(cells.LSTM(D, H), inputs=0.2, outputs=0.3, states=0.4)),
    Row("Dropout variational", lambda: wrap.Dropout(cells.LSTM(D, H), inputs=0.2, states=0.4, variational=True)),
    Row("Dropout of any slots", lambda: wrap.Dropout(samples.Gathering(D, H), states=0.4), skips=(1, 2)),
    Row("Dropout of a NamedTuple", lambda: wrap.Dropout(samples.Decaying(D, H), inputs=0.4)),
    Row("Every", lambda: wrap.Every(cells.GRU(D, H), 2)),
    Row("Every clock", lambda: wrap.Every(samples.Clocked(D, H), 2)),
    Row("Feedback", lambda: wrap.Feedback(cells.GRU(D + H, H))),
    Row("Feedback with context", lambda: wrap.Feedback(cells.LSTM(D + H + 2, H), start=torch.ones(H), context=2), context=2),
    Row("Feedback of outputs only", lambda: wrap.Feedback(wrap.Deepened(cells.Elman(D + 2, H), after=(2,)))),
    Row("Feedback over skips", lambda: wrap.Feedback(samples.Skipping(D + H, H)), skips=(1, 3)),
    Row("Highway", lambda: wrap.Highway(cells.GRU(D, D))),
    Row("Leak", lambda: wrap.Leak(cells.LSTM(D, H), time_constants=(2, 20), learned=True)),
    Row("LearnedStart", lambda: wrap.LearnedStart(cells.LSTM(D, H))),
    Row("LearnedStart over skips", lambda: wrap.LearnedStart(samples.SkippingTwoParts(D, H)), skips=(2, 3)),
    Row("Normed", lambda: wrap.Normed(cells.LSTM(D, H), inputs=True, outputs=True, state=True)),
    Row("Normed slots", lambda: wrap.Normed(samples.Skipping(D, H), state=True), skips=(1, 2)),
    Row("Parallel", lambda: wrap.Parallel(cells.Leaky(D, 2, 0.3), wrap.Zoneout(cells.LSTM(D, 3), 0.2))),
    Row("Residual", lambda: wrap.Residual(cells.LSTM(D, D))),
    Row("Stack", lambda: wrap.Stack(cells.LSTM(D, H), wrap.Residual(cells.GRU(H, H)), cells.Elman(H, 2))),
    Row("Stack of one", lambda: wrap.Stack(cells.GRU(D, H))),
    Row("Stack of clocks", lambda: wrap.Stack(samples.Clocked(D, H), cells.GRU(H, H), samples.Clocked(H, 2))),
    Row("Stack of slots", lambda: wrap.Stack(samples.Skipping(D, H), samples.SkippingTwoParts(H, H)), skips=(1, 3)),
    Row("Stack of any slots", lambda: wrap.Stack(samples.Gathering(D, H), samples.Gathering(H, 2)), skips=(1, 2)),
    Row("Stack that draws", lambda: wrap.Stack(cells.GRU(D, H), wrap.Dropout(samples.Noisy(H, H), outputs=0.3))),
    Row("WeightDropped", lambda: wrap.WeightDropped(cells.LSTM(D, H), 0.5)),
    Row("WeightDropped Stack", lambda: wrap.WeightDropped(wrap.Stack(cells.GRUBefore(D, H), cells.MGU(H, H)), 0.3)),
    Row("Zoneout", lambda: wrap.Zoneout(cells.LSTM(D, H), p=cells.LSTM(D, H).sizes._replace(h=0.2, c=0.5))),
    Row("Zoneout slots", lambda: wrap.Zoneout(samples.Skipping(D, H), 0.3), skips=(1, 2)),
    Row("Zoneout with dropout", lambda: wrap.Zoneout(wrap.Dropout(cells.GRU(D, H), states=0.2), 0.3)),
    Row("yours: slots", partial(samples.Skipping, D, H, 3), skips=(1, 2, 4)),
    Row("yours: more slots than skips", partial(samples.Skipping, D, H, 2)),
    Row("yours: slots of two parts", partial(samples.SkippingTwoParts, D, H), skips=(1, 3)),
    Row("yours: any slots", partial(samples.Gathering, D, H), skips=(1, 3)),
    Row("yours: phases", partial(samples.Clocked, D, H)),
    Row("yours: inputs of two parts", partial(samples.Decaying, D, H)),
    Row("yours: a matrix", partial(samples.Matrix, D, H)),
    Row("yours: a context", partial(samples.Conditioned, D, H), context=2),
    Row("yours: draws", partial(samples.Noisy, D, H)),
    Row("yours: a draw for all rows", partial(samples.NoisyWhole, D, H)),
]


def build(row: Row, dtype: torch.dtype = torch.float64, **options: Any) -> Recurrent:
    """The row's cell over sequences, its parameters all away from zero; in training mode. Options are `Recurrent`'s."""
    torch.manual_seed(1)
    net = Recurrent(row.make(), skips=row.skips, **options).to(torch.float64)
    with torch.no_grad():
        for p in net.parameters():
            p.add_(torch.randn(p.shape, dtype=p.dtype) * 0.3)
    return net.to(dtype)


def inputs_of(net: Recurrent, batch: int, steps: int, seed: int = 2, requires_grad: bool = False) -> Any:
    """Random x [B, T, ...] for the cell, a context left out; coins are thrown."""
    generator = torch.Generator().manual_seed(seed)
    dtype = next(net.parameters()).dtype

    def fill(sizes: Any) -> Any:
        if isinstance(sizes, Forced):
            coin = torch.rand(batch, steps, 1, generator=generator, dtype=torch.float64) < 0.5
            return Forced(fill(sizes.x), fill(sizes.target), coin.to(dtype))
        if is_size(sizes):
            shape = (sizes,) if isinstance(sizes, int) else sizes
            x = torch.randn(batch, steps, *shape, generator=generator, dtype=torch.float64).to(dtype)
            return x.requires_grad_(requires_grad)
        return type(sizes)(*map(fill, sizes))

    return fill(net.cell.inputs.x if isinstance(net.cell.inputs, Given) else net.cell.inputs)


def context_of(row: Row, net: Recurrent, batch: int, requires_grad: bool = False) -> Tensor | None:
    if not row.context:
        return None
    generator = torch.Generator().manual_seed(3)
    context = torch.randn(batch, row.context, generator=generator, dtype=torch.float64).to(next(net.parameters()).dtype)
    return context.requires_grad_(requires_grad)


def state_of(net: Recurrent, batch: int, requires_grad: bool = False) -> Any:
    """A random state such as the network carries: with skips a tuple of states."""
    generator = torch.Generator().manual_seed(4)
    dtype = next(net.parameters()).dtype

    def one() -> Any:
        leaves, spec = pytree.tree_flatten(net.cell.initial_state(batch))
        random = [torch.randn(leaf.shape, generator=generator, dtype=torch.float64).to(dtype) for leaf in leaves]
        return pytree.tree_unflatten([leaf.requires_grad_(requires_grad) for leaf in random], spec)

    return one() if max(net.skips) == 1 else tuple(one() for _ in range(max(net.skips)))
