"""Cells made from cells: each of these takes a cell, and is one."""

from wavefront.wrap.clipped_gradient import ClippedGradient
from wavefront.wrap.decayed import Decayed
from wavefront.wrap.deepened import Deepened
from wavefront.wrap.delays import Delays
from wavefront.wrap.dropout import Dropout
from wavefront.wrap.every import Every
from wavefront.wrap.feedback import Feedback, Forced
from wavefront.wrap.leak import Leak
from wavefront.wrap.learned_start import LearnedStart
from wavefront.wrap.normed import Normed
from wavefront.wrap.parallel import Parallel
from wavefront.wrap.residual import Highway, Residual
from wavefront.wrap.stack import Stack
from wavefront.wrap.weight_dropped import WeightDropped
from wavefront.wrap.zoneout import Zoneout

__all__ = [
    "ClippedGradient",
    "Decayed",
    "Deepened",
    "Delays",
    "Dropout",
    "Every",
    "Feedback",
    "Forced",
    "Highway",
    "Leak",
    "LearnedStart",
    "Normed",
    "Parallel",
    "Residual",
    "Stack",
    "WeightDropped",
    "Zoneout",
]
