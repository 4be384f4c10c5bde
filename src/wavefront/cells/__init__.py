"""Cells, one family per file: each is one equation, `step(state, x) -> (state, output)`."""

from wavefront.cells.elman import Elman
from wavefront.cells.gru import GRU, GRUBefore, GRUBook
from wavefront.cells.indrnn import IndRNN
from wavefront.cells.leaky import Leaky
from wavefront.cells.lstm import LSTM, FullGateLSTM
from wavefront.cells.minimal import MGU, MUT1, MUT2, MUT3

__all__ = ["GRU", "LSTM", "MGU", "MUT1", "MUT2", "MUT3", "Elman", "FullGateLSTM", "GRUBefore", "GRUBook", "IndRNN", "Leaky"]
