"""Cells, one family per file: each is one equation, `step(state, x) -> (state, output)`."""

from wavefront.cells.clockwork import Clockwork
from wavefront.cells.elman import Elman
from wavefront.cells.grid import MDGRU, MDLSTM, MDRNN, StableMDLSTM
from wavefront.cells.gru import GRU, GRUBefore, GRUBook
from wavefront.cells.indrnn import IndRNN
from wavefront.cells.irregular import GRUD, CfC, Irregular
from wavefront.cells.leaky import Leaky
from wavefront.cells.legendre import LMU
from wavefront.cells.linear import QRNN, SRU, Affine, LinearRecurrence, MinGRU, MinLSTM
from wavefront.cells.lru import LRU, RGLRU
from wavefront.cells.lstm import LSTM, FullGateLSTM
from wavefront.cells.matrix import MLSTM, SLSTM, DeltaRule, GatedDeltaRule
from wavefront.cells.minimal import MGU, MUT1, MUT2, MUT3
from wavefront.cells.phased import PhasedLSTM
from wavefront.cells.reservoir import Reservoir, Reservoirs, Tuning
from wavefront.cells.tree import MVRNN, RNTN, ChildSumTreeLSTM, RecursiveAutoencoder, TreeGRU, TreeLSTM, TreeRNN

__all__ = [
    "GRU",
    "GRUD",
    "LMU",
    "LRU",
    "LSTM",
    "MDGRU",
    "MDLSTM",
    "MDRNN",
    "MGU",
    "MLSTM",
    "MUT1",
    "MUT2",
    "MUT3",
    "MVRNN",
    "QRNN",
    "RGLRU",
    "RNTN",
    "SLSTM",
    "SRU",
    "Affine",
    "CfC",
    "ChildSumTreeLSTM",
    "Clockwork",
    "DeltaRule",
    "Elman",
    "FullGateLSTM",
    "GRUBefore",
    "GRUBook",
    "GatedDeltaRule",
    "IndRNN",
    "Irregular",
    "Leaky",
    "LinearRecurrence",
    "MinGRU",
    "MinLSTM",
    "PhasedLSTM",
    "RecursiveAutoencoder",
    "Reservoir",
    "Reservoirs",
    "StableMDLSTM",
    "TreeGRU",
    "TreeLSTM",
    "TreeRNN",
    "Tuning",
]
