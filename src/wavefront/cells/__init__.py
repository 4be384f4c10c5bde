"""Cells, one family per file: each is one equation, `step(state, x) -> (state, output)`."""

from wavefront.cells.elman import Elman
from wavefront.cells.grid import MDGRU, MDLSTM, MDRNN, StableMDLSTM
from wavefront.cells.gru import GRU, GRUBefore, GRUBook
from wavefront.cells.indrnn import IndRNN
from wavefront.cells.leaky import Leaky
from wavefront.cells.lstm import LSTM, FullGateLSTM
from wavefront.cells.minimal import MGU, MUT1, MUT2, MUT3
from wavefront.cells.tree import MVRNN, RNTN, ChildSumTreeLSTM, RecursiveAutoencoder, TreeGRU, TreeLSTM, TreeRNN

__all__ = [
    "GRU",
    "LSTM",
    "MDGRU",
    "MDLSTM",
    "MDRNN",
    "MGU",
    "MUT1",
    "MUT2",
    "MUT3",
    "MVRNN",
    "RNTN",
    "ChildSumTreeLSTM",
    "Elman",
    "FullGateLSTM",
    "GRUBefore",
    "GRUBook",
    "IndRNN",
    "Leaky",
    "RecursiveAutoencoder",
    "StableMDLSTM",
    "TreeGRU",
    "TreeLSTM",
    "TreeRNN",
]
