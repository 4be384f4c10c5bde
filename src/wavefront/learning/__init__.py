"""Learning: the trainer, and what it is made of."""

from wavefront.learning.checkpoint import Checkpoint, Checkpoints
from wavefront.learning.clip import clip_gradient, random_gradient
from wavefront.learning.events import Log, read_log
from wavefront.learning.files import write_whole
from wavefront.learning.memory import memory_guarded
from wavefront.learning.optimizer import Average, optimizer_for
from wavefront.learning.schedule import rate
from wavefront.learning.settings import Settings
from wavefront.learning.signals import Interrupted, Interrupts
from wavefront.learning.trainer import Outcome, Position, Trainer
from wavefront.learning.weights import load_weights, save_weights

__all__ = [
    "Average",
    "Checkpoint",
    "Checkpoints",
    "Interrupted",
    "Interrupts",
    "Log",
    "Outcome",
    "Position",
    "Settings",
    "Trainer",
    "clip_gradient",
    "load_weights",
    "memory_guarded",
    "optimizer_for",
    "random_gradient",
    "rate",
    "read_log",
    "save_weights",
    "write_whole",
]
