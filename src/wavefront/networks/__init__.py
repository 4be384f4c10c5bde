"""Modules that people build with."""

from wavefront.networks.deep import Deep
from wavefront.networks.dropin import GRU, LSTM, RNN
from wavefront.networks.readout import AttentionPooled, EveryStep, LastStep, Pooled
from wavefront.networks.recurrent import Bidirectional, Recurrent

__all__ = ["GRU", "LSTM", "RNN", "AttentionPooled", "Bidirectional", "Deep", "EveryStep", "LastStep", "Pooled", "Recurrent"]
