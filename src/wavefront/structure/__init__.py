"""What is unfolded over: nodes, each with a few predecessors, numbered in the order in which they can be done."""

from wavefront.structure.sequence import Sequence
from wavefront.structure.structure import NONE, Edges, Structure

__all__ = ["NONE", "Edges", "Sequence", "Structure"]
