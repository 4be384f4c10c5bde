"""tree: labels of parsed sentences, formulas and other trees: at the root, at every node, or of two trees together."""

from wavefront.tasks.tree.settings import TreeSettings
from wavefront.tasks.tree.task import Tree

__all__ = ["Tree", "TreeSettings"]
