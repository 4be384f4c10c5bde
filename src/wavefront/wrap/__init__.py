"""Cells made from cells: each of these takes a cell, and is one."""

from wavefront.wrap.deepened import Deepened
from wavefront.wrap.dropout import Dropout
from wavefront.wrap.feedback import Feedback, Forced
from wavefront.wrap.learned_start import LearnedStart
from wavefront.wrap.normed import Normed
from wavefront.wrap.residual import Highway, Residual
from wavefront.wrap.stack import Stack
from wavefront.wrap.weight_dropped import WeightDropped
from wavefront.wrap.zoneout import Zoneout

__all__ = [
    "Deepened",
    "Dropout",
    "Feedback",
    "Forced",
    "Highway",
    "LearnedStart",
    "Normed",
    "Residual",
    "Stack",
    "WeightDropped",
    "Zoneout",
]
