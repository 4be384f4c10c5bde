"""Networks that write: sequences as distributions, to be scored, sampled, searched and filled in."""

from wavefront.generative.autoregressive import Autoregressive, Sample, Writing
from wavefront.generative.beam import Hypothesis, beam_search
from wavefront.generative.binary import NADE, BernoulliVector
from wavefront.generative.continuous import Gaussian, GaussianMixture, StudentT
from wavefront.generative.copying import Copying
from wavefront.generative.counts import NegativeBinomial
from wavefront.generative.ctc import CTC
from wavefront.generative.decoding import Limits, greedy, sample, truncated
from wavefront.generative.ending import Ending, EndSymbol, GivenLength, Halting, Length
from wavefront.generative.ensemble import Ensemble
from wavefront.generative.filling import Fillings, fill_by_sampling, fill_exactly
from wavefront.generative.forcing import SCHEDULES, coins, every
from wavefront.generative.kneser_ney import KneserNey
from wavefront.generative.markov import Markov
from wavefront.generative.output import Output
from wavefront.generative.output_to_hidden import OutputToHidden
from wavefront.generative.smoothing import smoothed_loss
from wavefront.generative.streaming import stream
from wavefront.generative.symbols import AdaptiveCategorical, Categorical
from wavefront.generative.together import CTCs, Transducers
from wavefront.generative.transcriber import Read, Transcriber, Transcribers
from wavefront.generative.transducer import Transducer

__all__ = [
    "CTC",
    "NADE",
    "SCHEDULES",
    "AdaptiveCategorical",
    "Autoregressive",
    "BernoulliVector",
    "CTCs",
    "Categorical",
    "Copying",
    "EndSymbol",
    "Ending",
    "Ensemble",
    "Fillings",
    "Gaussian",
    "GaussianMixture",
    "GivenLength",
    "Halting",
    "Hypothesis",
    "KneserNey",
    "Length",
    "Limits",
    "Markov",
    "NegativeBinomial",
    "Output",
    "OutputToHidden",
    "Read",
    "Sample",
    "StudentT",
    "Transcriber",
    "Transcribers",
    "Transducer",
    "Transducers",
    "Writing",
    "beam_search",
    "coins",
    "every",
    "fill_by_sampling",
    "fill_exactly",
    "greedy",
    "sample",
    "smoothed_loss",
    "stream",
    "truncated",
]
