"""Modules that people build with."""

from wavefront.networks.attending import Attending
from wavefront.networks.attention import Additive, Attention, Dot, General, Memory, Monotonic, coverage_loss
from wavefront.networks.bridge import Bridge
from wavefront.networks.classifier import Committee, SequenceReadout
from wavefront.networks.clockwork import Clockwork
from wavefront.networks.conversion import convert
from wavefront.networks.convolution import MultiScale, Series
from wavefront.networks.crf import CRF
from wavefront.networks.deep import Deep
from wavefront.networks.dilated import Dilated
from wavefront.networks.dropin import GRU, LSTM, RNN
from wavefront.networks.dropin_cells import GRUCell, LSTMCell, RNNCell
from wavefront.networks.echo_state import EchoState, Reading
from wavefront.networks.echo_summary import EchoSummary
from wavefront.networks.embedding import Symbols, Words
from wavefront.networks.encoder import Encoder
from wavefront.networks.encoder_decoder import Encoded, EncoderDecoder, EncoderDecoders
from wavefront.networks.grid import FourCorners, FourSweeps
from wavefront.networks.layers import Layers
from wavefront.networks.learned_tree import LearnedTree
from wavefront.networks.online import LMS, RLS, force
from wavefront.networks.pyramid import Pyramid
from wavefront.networks.readout import AttentionPooled, EveryStep, LastStep, Pooled
from wavefront.networks.recurrent import Bidirectional, Recurrent
from wavefront.networks.recursive import Recursive, TreeReadout
from wavefront.networks.ridge import Ridge
from wavefront.networks.scan import Scan
from wavefront.networks.tagger import Tagger
from wavefront.networks.tree_reader import GivenTrees, LearnedTrees, TreePairs, TreeReader, TreeScores

__all__ = [
    "CRF",
    "GRU",
    "LMS",
    "LSTM",
    "RLS",
    "RNN",
    "Additive",
    "Attending",
    "Attention",
    "AttentionPooled",
    "Bidirectional",
    "Bridge",
    "Clockwork",
    "Committee",
    "Deep",
    "Dilated",
    "Dot",
    "EchoState",
    "EchoSummary",
    "Encoded",
    "Encoder",
    "EncoderDecoder",
    "EncoderDecoders",
    "EveryStep",
    "FourCorners",
    "FourSweeps",
    "GRUCell",
    "General",
    "GivenTrees",
    "LSTMCell",
    "LastStep",
    "Layers",
    "LearnedTree",
    "LearnedTrees",
    "Memory",
    "Monotonic",
    "MultiScale",
    "Pooled",
    "Pyramid",
    "RNNCell",
    "Reading",
    "Recurrent",
    "Recursive",
    "Ridge",
    "Scan",
    "SequenceReadout",
    "Series",
    "Symbols",
    "Tagger",
    "TreePairs",
    "TreeReader",
    "TreeReadout",
    "TreeScores",
    "Words",
    "convert",
    "coverage_loss",
    "force",
]
