"""Modules that people build with."""

from wavefront.lazy import lazily

# Every public name and its home; imported at first use, so that a process that trains one network holds no others.
_HOMES = {
    "CRF": "crf",
    "GRU": "dropin",
    "LMS": "online",
    "LSTM": "dropin",
    "RLS": "online",
    "RNN": "dropin",
    "Additive": "attention",
    "Attending": "attending",
    "Attention": "attention",
    "AttentionPooled": "readout",
    "Bidirectional": "recurrent",
    "Bridge": "bridge",
    "Clockwork": "clockwork",
    "Committee": "classifier",
    "Deep": "deep",
    "Dilated": "dilated",
    "Dot": "attention",
    "EchoState": "echo_state",
    "EchoSummary": "echo_summary",
    "Encoded": "encoder_decoder",
    "Encoder": "encoder",
    "EncoderDecoder": "encoder_decoder",
    "EncoderDecoders": "encoder_decoder",
    "EveryStep": "readout",
    "FourCorners": "grid",
    "FourSweeps": "grid",
    "GRUCell": "dropin_cells",
    "General": "attention",
    "GivenTrees": "tree_reader",
    "LSTMCell": "dropin_cells",
    "LastStep": "readout",
    "Layers": "layers",
    "LearnedTree": "learned_tree",
    "LearnedTrees": "tree_reader",
    "Memory": "attention",
    "Monotonic": "attention",
    "MultiScale": "convolution",
    "Pooled": "readout",
    "Pyramid": "pyramid",
    "RNNCell": "dropin_cells",
    "Reading": "echo_state",
    "Recurrent": "recurrent",
    "Recursive": "recursive",
    "Ridge": "ridge",
    "Scan": "scan",
    "SequenceReadout": "classifier",
    "Series": "convolution",
    "Symbols": "embedding",
    "Tagger": "tagger",
    "TreePairs": "tree_reader",
    "TreeReader": "tree_reader",
    "TreeReadout": "recursive",
    "TreeScores": "tree_reader",
    "Words": "embedding",
    "convert": "conversion",
    "coverage_loss": "attention",
    "force": "online",
}

__all__ = sorted(_HOMES)

__getattr__ = lazily(__name__, _HOMES)


def __dir__() -> list[str]:
    return __all__
