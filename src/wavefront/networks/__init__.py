"""Modules that people build with."""

from wavefront.networks.recurrent import Bidirectional, Recurrent

__all__ = ["Bidirectional", "Recurrent"]
