"""The engine makes the loop fast without the cell knowing: a step is traced, planned, and its sequential part compiled for this machine."""

from wavefront.engine import process  # noqa: F401  remembers which process loaded the package
from wavefront.engine.choose import choose, fallbacks, runs
from wavefront.engine.explain import explain

__all__ = ["choose", "explain", "fallbacks", "runs"]
