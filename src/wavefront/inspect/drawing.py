"""The figures of the chapter: a network folded, as a circuit with its delay, and unfolded, as a graph that shares its parameters."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from wavefront.errors import SettingsError
from wavefront.inspect.anatomy import anatomy
from wavefront.inspect.graphs import graph_of, outline
from wavefront.inspect.lines import around_t, line_of, unfolded
from wavefront.inspect.svg import svg
from wavefront.inspect.terminal import terminal
from wavefront.structure import Structure

__all__ = ["Drawing", "draw"]


class Drawing(NamedTuple):
    """A figure: `str()` is what `format` asked for, a notebook shows the SVG, `save` writes by the ending of the name."""

    svg: str
    text: str
    format: str

    def __str__(self) -> str:
        return self.svg if self.format == "svg" else self.text

    def __repr__(self) -> str:
        return self.text

    def _repr_svg_(self) -> str:
        return self.svg

    def save(self, path: str | Path) -> Path:
        """Writes the SVG (`.svg`) or the text (`.txt`)."""
        path = Path(path)
        if path.suffix not in (".svg", ".txt"):
            raise SettingsError(f"A drawing is saved as .svg or .txt, got {path.name}.")
        path.write_text(self.svg if path.suffix == ".svg" else self.text + "\n", encoding="utf-8")
        return path


def draw(
    network: Any,
    structure: Structure | None = None,
    format: str = "svg",
    *,
    output: str | None = None,
    loss: bool = True,
    context: bool | None = None,
) -> Drawing:
    """The network folded, a black square for each delay, and unfolded over the structure.  [Goodfellow et al. 2016, figures 10.2-10.14]

    network    a cell, a Recurrent, Bidirectional or Deep network, or an LSTM, GRU or RNN
    structure  what is unfolded over: its longest row is drawn, from its own predecessors, with the steps in the middle left out where there are
               many. None: the steps around t
    format     what `str()` gives: "svg", or "text" for a terminal
    output     "every" step (figure 10.3), at the "last" (10.5), or "none"; by default every step, and the last node of a tree
    loss       the losses L and targets y above the outputs
    context    what is given once per sequence (10.9); by default where the cell says that it takes one

    Circles are values: inputs x, states h (g backward in time), outputs o, losses L, targets y. Arrows with one letter share one set of parameters:
    U input to hidden, W hidden to hidden, V hidden to output. A state that is handed in is dashed; small squares are the layers inside a path.

    >>> from wavefront import cells
    >>> from wavefront.inspect import draw
    >>> print(draw(cells.Elman(3, 5), format="text", loss=False))
    ╭─────╮                                       ╭─────────╮       ╭───────╮       ╭─────────╮
    │  o  │                                       │  o(t−1) │       │  o(t) │       │  o(t+1) │
    ╰──▲──╯                                       ╰────▲────╯       ╰───▲───╯       ╰────▲────╯
       │ V                                             │ V              │ V              │ V
    ╭──┴──╮            unfold                 W   ╭────┴────╮  W    ╭───┴───╮  W    ╭────┴────╮   W
    │  h  ├──╮         ═════▶          ··· ──────▶│  h(t−1) ├──────▶│  h(t) ├──────▶│  h(t+1) ├───────▶ ···
    ╰──▲─▲╯  ■ W                                  ╰────▲────╯       ╰───▲───╯       ╰────▲────╯
     U │ ╰───╯                                         │ U              │ U              │ U
    ╭──┴──╮                                       ╭────┴────╮       ╭───┴───╮       ╭────┴────╮
    │  x  │                                       │  x(t−1) │       │  x(t) │       │  x(t+1) │
    ╰─────╯                                       ╰─────────╯       ╰───────╯       ╰─────────╯
    """
    if format not in ("svg", "text"):
        raise SettingsError(f'format is "svg" or "text", got {format!r}.')
    if output not in (None, "every", "last", "none"):
        raise SettingsError(f'output is "every", "last" or "none", got {output!r}.')
    if structure is not None and not isinstance(structure, Structure):
        hint = " A file? draw(network).save('a.svg')." if isinstance(structure, str) else ""
        raise TypeError(f"draw(network, structure): a structure is a Sequence, Tree, Grid or Graph; got {structure!r}.{hint}")
    found = anatomy(network)
    found = found if context is None else found._replace(context=context)
    if found.feedback and output not in (None, "every"):
        raise SettingsError(f"This network feeds its outputs back, and so has one at every step; output={output!r} would hide them.")
    line = around_t(found.skips, found.reverse, output == "last") if structure is None else line_of(structure, found.both)
    if line is not None:
        picture = unfolded(found, line, output or "every", loss)
        return Drawing(svg(picture), terminal(picture), format)
    assert structure is not None
    picture = graph_of(structure, output or "last", loss, found.name)
    return Drawing(svg(picture), outline(picture), format)
