"""The figures as a table and as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from wavefront.app.bench.measure import Result
from wavefront.app.text import table as text_table

__all__ = ["plot", "table"]


def table(results: Sequence[Result], memory: dict[tuple[str, str], dict[str, float]] | None = None) -> str:
    """A line for each case: milliseconds of Wavefront, how many times faster than each of the others, the share of the product's rate."""
    others = list(dict.fromkeys(name for result in results for name in result.faster))
    head = ["cell", "B,T,D,H", "", "ms", *(f"x {name}" for name in others), "of product", "first call"]
    rows = []
    for r in results:
        times = [f"{r.faster[name]:.2f}" if name in r.faster else "-" for name in others]
        share = "-" if r.of_product is None else f"{r.of_product:.2f}"
        what = r.what if r.precision == "float32" else f"{r.what} {r.precision}"
        rows.append([r.cell.rpartition(":")[2], r.size, what, f"{r.fastest['wavefront']:.3g}", *times, share, f"{r.first:.2f} s"])
    text = text_table(head, rows)
    if memory:
        names = list(dict.fromkeys(name for peaks in memory.values() for name in peaks))
        rows = [[cell, size, *(f"{peaks[n]:.0f} MB" if n in peaks else "-" for n in names)] for (cell, size), peaks in memory.items()]
        text += "\n\npeak memory of training, each in a process of its own\n" + text_table(["cell", "B,T,D,H", *names], rows)
    return text


def plot(results: Sequence[Result], about: dict[str, Any], path: Path) -> None:
    """Bars: how many times faster than each of the others, a panel for each way of running; the line is "as fast"."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    ways = list(dict.fromkeys(r.what for r in results))
    names = list(dict.fromkeys(name for r in results for name in r.faster))
    most = max(sum(r.what == way for r in results) for way in ways)
    figure, panels = pyplot.subplots(
        len(ways), 1, figsize=(max(7.0, 1.5 + 1.1 * most), 3.2 * len(ways)), squeeze=False, layout="constrained"
    )
    for panel, way in zip(panels[:, 0], ways):
        shown = [r for r in results if r.what == way]
        others = list(dict.fromkeys(name for r in shown for name in r.faster))
        width = 0.8 / max(1, len(others))
        for k, name in enumerate(others):
            places = [i for i, r in enumerate(shown) if name in r.faster]
            ratios = [shown[i].faster[name] for i in places]
            heights = [ratio - 1 for ratio in ratios]  # up from the line where it is faster, down where it is slower
            bars = panel.bar(
                [i + (k - (len(others) - 1) / 2) * width for i in places],
                heights,
                width,
                bottom=1,
                label=name,
                color=f"C{names.index(name)}",
            )
            panel.bar_label(bars, [f"{ratio:.2g}" for ratio in ratios], fontsize=7, padding=1)
        panel.axhline(1.0, color="black", linewidth=0.8)
        panel.set_yscale("log", base=2)
        panel.yaxis.set_major_formatter("{x:g}")
        panel.set_xlim(-0.6, len(shown) - 0.4)
        panel.margins(y=0.12)
        panel.set_xticks(range(len(shown)), [f"{r.cell.rpartition(':')[2]}\n{r.size}" for r in shown], fontsize=8)
        panel.set_ylabel("times faster than")
        panel.set_title(way, loc="left")
        panel.spines[["top", "right"]].set_visible(False)
        panel.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    figure.suptitle(f"Wavefront beside the others: {about['processor']}, {about['threads']} threads, torch {about['torch']}", fontsize=9)
    figure.savefig(path, dpi=150)
    pyplot.close(figure)
