"""How fast a cell is here, beside others."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wavefront.app.command import AsJson, say
from wavefront.app.text import json_text

__all__ = ["bench"]


def bench(
    cells: Annotated[
        list[str] | None, typer.Argument(metavar="[CELL]...", help="Cells by name, or your own: FILE.py:CLASS.  [default: lstm gru elman]")
    ] = None,
    size: Annotated[
        list[str] | None, typer.Option(metavar="B,T,D,H", help="Sequences, steps, inputs, units; several times if wanted.")
    ] = None,
    what: Annotated[str, typer.Option(help="Which of train, infer and step, with commas.")] = "train,infer,step",
    beside: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES", help="Which of torch.nn, loop, torchrecurrent, flax and keras, with commas.  [default: what is installed]"
        ),
    ] = None,
    precision: Annotated[str, typer.Option(metavar="float32|bf16", help="Wavefront's; all others stay in float32.")] = "float32",
    runs: Annotated[int, typer.Option(min=1, help="Runs of each, in turn, at least.")] = 7,
    seconds: Annotated[float, typer.Option(min=0, help="Of what is short more runs, until as many seconds are spent.")] = 0.5,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of torch and of Wavefront.  [default: torch's]")] = None,
    memory: Annotated[bool, typer.Option("--memory", help="The peak memory of training too, each in a process of its own.")] = False,
    picture: Annotated[Path | None, typer.Option("--plot", metavar="FILE", help="A picture of the ratios: .png, .svg or .pdf.")] = None,
    as_json: AsJson = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
) -> None:
    """How fast a cell is here, beside torch.nn, beside a Python loop over the same cell, and beside torchrecurrent, Flax and Keras if installed.

    All in one process, runs in turn, the fastest of each. Train is forward and backward without the input's gradient; step is one
    step from Python. "of product" is the share of the rate of one matrix product of the same shape, [T·B, D] @ [D, gates·H].

    \b
    Examples:
      wavefront bench
      wavefront bench gru mgu --size 32,100,64,128 --plot speed.png
      wavefront bench lstm --precision bf16 --size 64,100,256,512 --what train,infer
      wavefront bench mine.py:Mine --what train --memory --json > mine.json
    """
    import torch

    from wavefront.app import bench as speed
    from wavefront.app.bench.case import Size
    from wavefront.errors import SettingsError

    ways = _named("--what", what, speed.WHAT)
    if precision not in speed.PRECISIONS:
        raise SettingsError(f"--precision takes {' or '.join(speed.PRECISIONS)}; got {precision!r}.")
    others = None if beside is None else _named("--beside", beside, speed.RIVALS)
    if threads:
        torch.set_num_threads(threads)
    sizes = [Size.read(text) for text in size or speed.SIZES]
    cases = [speed.Case(cell, one, precision) for cell in cells or ["lstm", "gru", "elman"] for one in sizes]
    for case in cases:
        case.make()  # a name that is none is said before the first is measured
    results = []
    for result in speed.bench(cases, ways, runs, others, seconds):
        results.append(result)
        if not quiet:
            say(f"{len(results)}/{len(cases) * len(ways)}  {result.cell} {result.size} {result.what}: {result.fastest['wavefront']:.3g} ms")
    if picture is not None:
        speed.plot(results, speed.machine(), picture)
    peaks = {}
    for case in cases if memory else []:
        if not quiet:
            say(f"memory of {case.cell} {case.size}")
        peaks[case.cell, str(case.size)] = speed.peak(case)
    if as_json:
        memories = [{"cell": cell, "size": text, "MB": peak} for (cell, text), peak in peaks.items()]
        print(
            json_text(
                {"machine": speed.machine(), "runs": runs, "results": [r._asdict() for r in results], "peak_memory": memories}
            ).rstrip()
        )
    else:
        print(speed.table(results, peaks))


def _named(option: str, text: str, known: tuple[str, ...]) -> list[str]:
    from wavefront.errors import SettingsError

    names = [name.strip() for name in text.split(",")]
    if wrong := [name for name in names if name not in known]:
        raise SettingsError(f"{option} takes some of {', '.join(known)}, with commas; got {wrong[0]!r}.")
    return names
