"""`wavefront bench`: cells beside what else there is, in one process, runs interleaved, as ratios."""

from wavefront.app.bench.case import PRECISIONS, SIZES, Case, find_cell
from wavefront.app.bench.measure import WHAT, Result, bench, machine
from wavefront.app.bench.memory import peak
from wavefront.app.bench.pages import plot, table
from wavefront.app.bench.rivals import RIVALS

__all__ = ["PRECISIONS", "RIVALS", "SIZES", "WHAT", "Case", "Result", "bench", "find_cell", "machine", "peak", "plot", "table"]
