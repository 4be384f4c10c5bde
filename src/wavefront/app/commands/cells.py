"""The steps that there are."""

from __future__ import annotations

from wavefront.app.command import first_line

__all__ = ["cells"]


def cells() -> None:
    """The cells, one line each: what `--set cell=...` takes.

    \b
    Example:
      wavefront fit reviews.csv --set cell=mgu
    """
    from inspect import isabstract

    from wavefront import cells

    kinds = {name.lower(): getattr(cells, name) for name in cells.__all__}
    there = {name: kind for name, kind in kinds.items() if isinstance(kind, type) and hasattr(kind, "step") and not isabstract(kind)}
    width = max(map(len, there)) + 2
    for name, cell in sorted(there.items()):
        print(f"{name:<{width}}{first_line(cell)}")
