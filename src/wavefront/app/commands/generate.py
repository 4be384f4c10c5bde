"""Let a model write text or music."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from wavefront.app.command import AsJson, Folder, say
from wavefront.app.text import json_line

__all__ = ["generate"]


def generate(
    run: Folder,
    prompt: Annotated[str, typer.Option(help="Read first; - is standard input. Music: a piece as JSON.", show_default=False)] = "",
    length: Annotated[int | None, typer.Option(min=0, help="Symbols at most; steps of music.  [default: 500]", show_default=False)] = None,
    num_beams: Annotated[int, typer.Option(min=0, help="Search for the most probable text with so many beams.")] = 0,
    temperature: Annotated[float, typer.Option(min=0.0, help="Below 1 the probable becomes more so; 0: always the most probable.")] = 1.0,
    top_k: Annotated[int, typer.Option(min=0, help="Draw from the k most probable; 0: from all.")] = 0,
    top_p: Annotated[float, typer.Option(help="Draw from the fewest that together have this probability.")] = 1.0,
    count: Annotated[int, typer.Option(min=1, help="So many, one after the other.")] = 1,
    seed: Annotated[int | None, typer.Option(min=0, help="The same seed writes the same.", show_default=False)] = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE.mid", help="Music: a MIDI file as well.", show_default=False)] = None,
    as_json: AsJson = False,
) -> None:
    """Let a model write: text, symbol by symbol as it comes, or music, a line of notes for each step.

    \b
    Examples:
      wavefront generate runs/book --prompt "It was" --length 1000 --temperature 0.8
      wavefront generate runs/chorales --length 64 --seed 1 --out song.mid
    """
    from wavefront.app.generating import LENGTH, generate as write, steps_of, write_midi
    from wavefront.app.run import load
    from wavefront.errors import SettingsError

    model = load(run)
    if out is not None and (model.task.name != "music" or count > 1):
        raise SettingsError("--out is a MIDI file of one piece of music: give it for a run of music, without --count.")
    if out is not None and not out.parent.is_dir():
        raise SettingsError(f"--out {out}: there is no folder {out.parent}. Make it first, so that what is written is not lost.")
    first = sys.stdin.read() if prompt == "-" else prompt
    if unknown := model.task.not_known(first):
        say(f"never seen in training, read as the unknown symbol: {' '.join(map(repr, unknown[:10]))}{' ...' if unknown[10:] else ''}")
    how: dict[str, Any] = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "num_beams": num_beams}
    for number in range(count):
        pieces = []
        for piece in write(model, first, LENGTH if length is None else length, seed=None if seed is None else seed + number, **how):
            pieces.append(piece)
            if not as_json:
                print(piece, end="", flush=True)
        text = "".join(pieces)
        if as_json:
            music = {"steps": list(steps_of(pieces))} if model.task.name == "music" else {"text": text}
            print(json_line({"prompt": first, **music}))
        elif not text.endswith("\n"):
            print("")
        if out is not None:
            write_midi(steps_of(pieces), out, model.like["options"].get("steps_per_quarter", 1))
