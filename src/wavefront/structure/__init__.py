"""What is unfolded over: nodes, each with a few predecessors, numbered in the order in which they can be done."""

from wavefront.structure.graph import Graph
from wavefront.structure.grid import CORNERS, Grid
from wavefront.structure.sequence import Sequence
from wavefront.structure.structure import NONE, Edges, Structure
from wavefront.structure.tree import Tree

__all__ = ["CORNERS", "NONE", "Edges", "Graph", "Grid", "Sequence", "Structure", "Tree"]
