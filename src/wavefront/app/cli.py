"""The command line. Data on standard output, everything else on standard error; nothing heavy is imported before a command runs."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from functools import wraps
from importlib.metadata import version
from pathlib import Path
from shlex import quote
from types import FrameType
from typing import Annotated, Any

import typer

from wavefront.app.text import json_text, plain, scores_table

BEGAN = time.monotonic()  # the minutes of `fit --minutes` begin with the process

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
Folder = Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run, as fit made it.")]


def _version(asked: bool) -> None:
    if asked:
        print(f"wavefront {version('wavefront')}")
        raise typer.Exit


def answering(command: Callable[..., None]) -> Callable[..., None]:
    """A command whose errors are one message and an exit code."""

    @wraps(command)
    def answer(*arguments: Any, **options: Any) -> None:
        try:
            command(*arguments, **options)
            if sys.stdout is not None:
                sys.stdout.flush()
        except BrokenPipeError:  # whoever reads our output has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(1) from None
        except KeyboardInterrupt as interrupted:
            _err(str(interrupted) or "interrupted")
            raise typer.Exit(getattr(interrupted, "exit_code", 130)) from None
        except Exception as error:
            raise typer.Exit(_failed(error)) from None

    return answer


@app.callback()
def wavefront(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error (or set WAVEFRONT_DEBUG=1).")] = False,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """Recurrent networks for your own data: train on a file with one command, use the model with another.

    \b
    Start here:
      wavefront fit years                        the demo: learn to find years in sentences
      wavefront predict runs/years sentences.txt
      wavefront show runs/years                  what was trained, on what, how good it is

    \b
    Your own data:
      wavefront fit reviews.csv                  columns text and label: classify
      wavefront fit ner/                         train.conll, dev.conll, test.conll: tag
      wavefront fit sensors.parquet --minutes 5  take five minutes, give the best there is in them
      wavefront fit book.txt                     learn to write it on: wavefront generate runs/book
    """
    if debug:
        os.environ["WAVEFRONT_DEBUG"] = "1"


@app.command()
@answering
def fit(
    data: Annotated[str, typer.Argument(metavar="DATA", help="A file, a folder, or the name of a generator (years).")],
    task: Annotated[
        str | None,
        typer.Option(
            help="One of `wavefront tasks`: tag, classify, translate, ...; seen from the data where that is certain.", show_default=False
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="RUN", help="The run's folder.  [default: runs/<name of the data>]")] = None,
    column: Annotated[list[str] | None, typer.Option(metavar="ROLE=NAME", help="Which column is what: --column label=kind")] = None,
    query: Annotated[str | None, typer.Option(metavar="SQL", help="What to read of a DuckDB database.")] = None,
    config: Annotated[Path | None, typer.Option(metavar="F.toml", help="Settings from a file, as a run's own config.toml.")] = None,
    setting: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="One setting, over the file: --set units=64")
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the training data.")] = None,
    minutes: Annotated[float | None, typer.Option(min=0.0, help="Take this long, everything included.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="The same seed twice is the same run.")] = None,
    precision: Annotated[str | None, typer.Option(metavar="float32|bf16", help="bf16: large products in bfloat16.")] = None,
    tune: Annotated[bool, typer.Option("--tune", help="With --set kind=esn: search radius, leak, scaling and ridge.")] = False,
    start: Annotated[Path | None, typer.Option("--from", metavar="RUN", help="Start from its weights, as far as they fit.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Carry on where the run's newest checkpoint is.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the run in the folder.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the resolved settings; train and write nothing.")] = False,
    as_json: AsJson = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Warnings and errors only.")] = False,
) -> None:
    """Train a model on DATA, score it, and leave it in a folder of its own.

    The format, the task and the columns are seen from the data where that is certain, and printed. Scores go to standard
    output. Ctrl-C saves first; --resume carries on.

    \b
    Examples:
      wavefront fit years
      wavefront fit reviews.csv --column input=text --column label=stars
      wavefront fit sensors/ --task classify --minutes 5 --out runs/quick
      wavefront fit ner/ --set units=128 --set learning_rate=0.002 --seed 1
      wavefront fit sales.duckdb --query "select note, price from sales" --task regress
      wavefront fit vowels/ --set kind=esn --tune
      wavefront fit ner/ --resume

    \b
    Settings (--set, --config; a setting's short name will do where it is the only one):
      data.*       how files are read:      data.header=false  data.missing=mask
      columns.*    which column is what:    columns.label=kind
      network.*    sizes of the network:    see wavefront tasks
      learning.*   how it learns:           learning.learning_rate=0.001  learning.patience=3
      All of them, with what they would be: wavefront fit DATA --dry-run
    """
    from wavefront.app.config import parse_value
    from wavefront.app.fitting import fit as train
    from wavefront.errors import SettingsError

    if resume and overwrite:
        raise SettingsError("--resume carries a run on, --overwrite replaces it: give one of them.")
    if resume and tune:
        raise SettingsError("--resume carries a run on with its own settings, --tune searches others: give one of them.")
    settings = {key: parse_value(value) for key, value in _pairs(setting, "--set")}
    run = train(
        data,
        task=task,
        out=out,
        config=config,
        set=settings,
        epochs=epochs,
        minutes=minutes,
        seed=seed,
        precision=precision,
        resume=resume,
        overwrite=overwrite,
        dry_run=dry_run,
        quiet=quiet,
        query=query,
        columns=dict(_pairs(column, "--column")),
        began=BEGAN,
        as_json=as_json,
        start=start,
        tune=tune,
    )
    if dry_run:
        return
    _out(_json(run.metrics) if as_json else scores_table(run.metrics))
    if not quiet:
        _err(f"\n{run.folder}/report.html shows more. Use the model: wavefront {run.task.command.format(run=quote(str(run.folder)))}")


@app.command()
@answering
def predict(
    run: Folder,
    inputs: Annotated[str, typer.Argument(metavar="[INPUT]", help="A file, or - for standard input.", show_default=False)] = "-",
    num_beams: Annotated[
        int | None, typer.Option(min=1, help="Beams of the search, where sequences are written.  [default: as trained]", show_default=False)
    ] = None,
    n_best: Annotated[int, typer.Option(min=1, help="So many candidates for each input, with their log-probabilities.")] = 1,
    explain: Annotated[bool, typer.Option("--explain", help="A picture of where the network looked, or of the tree.")] = False,
    as_json: AsJson = False,
) -> None:
    """Predict for every input: one readable line each, or one JSON object each, in their order. On a terminal trees are drawn.

    A text file is one input a line; CSV, JSONL, CoNLL and the other formats are read as in training, labels not needed.

    \b
    Examples:
      echo "In 2009, I went to Nepal." | wavefront predict runs/years
      wavefront predict runs/reviews new.csv --json > predicted.jsonl
      echo "ABDOMEN" | wavefront predict runs/g2p --n-best 3 --explain
    """
    from wavefront.app.run import load

    model = load(run)
    at_once = 1 if inputs == "-" and (sys.stdin.isatty() or model.task.live) else 64
    pictures = explain or (sys.stdout is not None and sys.stdout.isatty())
    told = model.task.drawn if pictures else model.task.row_text
    for row, prediction in model.predictions(inputs, at_once, num_beams, n_best, explain):
        _out(_line(prediction) if as_json else told(row, prediction))
        if at_once == 1 and sys.stdout is not None:
            sys.stdout.flush()  # whoever reads along sees it now


@app.command()
@answering
def score(
    run: Folder,
    data: Annotated[str, typer.Argument(metavar="DATA", help="Rows with what is to be predicted.")],
    split: Annotated[
        str | None, typer.Option(help="Which rows: train, valid, test, all.  [default: test, or all where there is no such]")
    ] = None,
    query: Annotated[str | None, typer.Option(metavar="SQL", help="What to read of a DuckDB database.")] = None,
    each: Annotated[bool, typer.Option("--each", help="The log-probability of each row's target, where sequences are written.")] = False,
    as_json: AsJson = False,
) -> None:
    """Score a model on DATA that it was not trained on.

    \b
    Examples:
      wavefront score runs/reviews march.csv
      wavefront score runs/ner ner/ --split valid --json
      wavefront score runs/g2p candidates.tsv --each
    """
    from wavefront.app.run import load

    model = load(run)
    if each:
        for row, log_prob in model.log_probs(data):
            _out(_line({**row, "log_prob": log_prob}) if as_json else "\t".join([f"{log_prob:.4f}", *map(_cell, row.values())]))
        return
    metrics, used = model.scores(data, split, query)
    _out(_json(metrics) if as_json else scores_table({"metric": model.task.metric, used: metrics}))


@app.command()
@answering
def forecast(
    run: Folder,
    data: Annotated[
        str | None, typer.Argument(metavar="[DATA]", help="Series to forecast.  [default: those of training]", show_default=False)
    ] = None,
    horizon: Annotated[int | None, typer.Option(min=1, help="Steps, at most those trained.")] = None,
    level: Annotated[str, typer.Option(metavar="80,95", help="Intervals, in %.")] = "80,95",
    future: Annotated[str | None, typer.Option(metavar="FILE", help="Covariates of the steps to come.")] = None,
    cutoff: Annotated[str | None, typer.Option(metavar="TIME", help="Look at nothing after this time.")] = None,
    picture: Annotated[Path | None, typer.Option("--plot", metavar="FILE", help="A picture: .svg, .png or .pdf.")] = None,
    as_json: AsJson = False,
) -> None:
    """What comes next in each series, with intervals: CSV in the long format, or one JSON object a row.

    \b
    Examples:
      wavefront forecast runs/sales > next.csv
      wavefront forecast runs/sales --horizon 6 --level 50,90 --plot next.svg
      wavefront forecast runs/sales other.csv --json
    """
    import csv

    from wavefront.app.config import parse_value
    from wavefront.app.forecasting import draw, forecasts, rows
    from wavefront.app.run import load
    from wavefront.errors import SettingsError

    model = load(run)
    try:
        levels = [float(one) for one in level.split(",")]
    except ValueError:
        raise SettingsError(f"--level takes numbers with commas, such as 80,95; got {level!r}.") from None
    end = None if cutoff is None else parse_value(cutoff) if cutoff.isdigit() else cutoff
    writer, found = None, []
    for one in forecasts(model, data, horizon, levels, future, end):
        found.append(one)
        for row in rows(model, one):
            if as_json:
                _out(_line(row))
                continue
            if writer is None:
                writer = csv.DictWriter(sys.stdout, list(row), lineterminator="\n")
                writer.writeheader()
            writer.writerow({name: f"{value:.10g}" if isinstance(value, float) else value for name, value in row.items()})
    if picture is not None:
        draw(found, picture)


@app.command()
@answering
def update(
    run: Folder,
    data: Annotated[str, typer.Argument(metavar="DATA", help="New rows, as in training; rows that are known may be among them.")],
    quiet: Annotated[bool, typer.Option("--quiet", help="Warnings and errors only.")] = False,
) -> None:
    """New rows for a run that forecasts: it goes on from them, and nothing is trained.

    \b
    Example:
      wavefront update runs/sales today.csv && wavefront forecast runs/sales
    """
    from wavefront.app.forecasting import update as append
    from wavefront.app.run import load

    added = append(load(run), data)
    if not quiet:
        _err(f"{sum(added.values()):,} new rows in {sum(n > 0 for n in added.values()):,} of {len(added):,} series")


@app.command()
@answering
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
    first = sys.stdin.read() if prompt == "-" else prompt
    if unknown := model.task.not_known(first):
        _err(f"never seen in training, read as the unknown symbol: {' '.join(map(repr, unknown[:10]))}{' ...' if unknown[10:] else ''}")
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
            _out(_line({"prompt": first, **music}))
        elif not text.endswith("\n"):
            _out("")
        if out is not None:
            write_midi(steps_of(pieces), out)


@app.command()
@answering
def show(run: Folder, as_json: AsJson = False) -> None:
    """What was trained, on what, and how good it is."""
    from wavefront.app.run import load

    model = load(run)
    _out(_json(model.metrics) if as_json else model.summary())


@app.command()
@answering
def tasks() -> None:
    """The tasks, and the settings of their networks."""
    from wavefront.tasks import TASKS

    for name, task in TASKS.items():
        _out(f"{name:<10}{_first_line(task)}\n{'':<10}columns: {', '.join(task.roles)}")
        for key, field in task.Settings.model_fields.items():
            default = "from the data" if field.default is None else field.default
            _out(f"  network.{key:<22}{field.description}  [{default}]")
        _out("")


@app.command()
@answering
def cells() -> None:
    """The cells, one line each: what `--set cell=...` takes."""
    from inspect import isabstract

    from wavefront import cells

    kinds = {name.lower(): getattr(cells, name) for name in cells.__all__}
    there = {name: kind for name, kind in kinds.items() if isinstance(kind, type) and hasattr(kind, "step") and not isabstract(kind)}
    width = max(map(len, there)) + 2
    for name, cell in sorted(there.items()):
        _out(f"{name:<{width}}{_first_line(cell)}")


@app.command()
@answering
def explain(
    what: Annotated[
        str, typer.Argument(metavar="CELL|RUN", help="A cell by its name (see `wavefront cells`), your own as FILE.py:CLASS, or a run.")
    ],
    inputs: Annotated[int, typer.Option(help="The size of a cell's input.")] = 64,
    units: Annotated[int, typer.Option(help="The size of a cell's state.")] = 128,
    code: Annotated[bool, typer.Option("--code", help="The native code of the loop as well.")] = False,
) -> None:
    """What the engine makes of a cell: what leaves the loop, what stays in it, what runs it, and why.

    \b
    Examples:
      wavefront explain lstm
      wavefront explain gru --units 256 --code
      wavefront explain mine.py:Mine
      wavefront explain runs/years
    """
    from wavefront.app.bench import find_cell
    from wavefront.engine import explain

    if Path(what, "config.toml").exists():
        from wavefront.app.run import load

        network = load(what).network
    else:
        network = find_cell(what)(inputs, units)
    _out(explain(network, code))


@app.command()
@answering
def bench(
    cells: Annotated[
        list[str] | None, typer.Argument(metavar="[CELL]...", help="Cells by name, or your own: FILE.py:CLASS.  [default: lstm gru elman]")
    ] = None,
    size: Annotated[
        list[str] | None, typer.Option(metavar="B,T,D,H", help="Sequences, steps, inputs, units; several times if wanted.")
    ] = None,
    what: Annotated[str, typer.Option(help="Which of train, infer and step, with commas.")] = "train,infer,step",
    runs: Annotated[int, typer.Option(min=1, help="Runs of each, in turn.")] = 7,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of torch and of Wavefront.  [default: torch's]")] = None,
    memory: Annotated[bool, typer.Option("--memory", help="The peak memory of training too, each in a process of its own.")] = False,
    picture: Annotated[Path | None, typer.Option("--plot", metavar="FILE", help="A picture of the ratios: .png, .svg or .pdf.")] = None,
    as_json: AsJson = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
) -> None:
    """How fast a cell is here, beside torch.nn, beside a Python loop over the same cell, and beside torchrecurrent, Flax and Keras if installed.

    All in one process, runs in turn, the fastest of each. Train is forward and backward without the input's gradient; step is one
    step from Python. "of product" is the share of the rate of one matrix product of the same shape.

    \b
    Examples:
      wavefront bench
      wavefront bench gru mgu --size 32,100,64,128 --plot speed.png
      wavefront bench mine.py:Mine --what train --memory --json > mine.json
    """
    import torch

    from wavefront.app import bench as speed
    from wavefront.app.bench.case import Size
    from wavefront.errors import SettingsError

    ways = what.split(",")
    if wrong := [way for way in ways if way not in speed.WHAT]:
        raise SettingsError(f"--what takes some of {', '.join(speed.WHAT)}, with commas; got {wrong[0]!r}.")
    if threads:
        torch.set_num_threads(threads)
    sizes = [Size.read(text) for text in size or speed.SIZES]
    cases = [speed.Case(cell, one) for cell in cells or ["lstm", "gru", "elman"] for one in sizes]
    for case in cases:
        case.make()  # a name that is none is said before the first is measured
    results = []
    for result in speed.bench(cases, ways, runs):
        results.append(result)
        if not quiet:
            _err(
                f"{len(results)}/{len(cases) * len(ways)}  {result.cell} {result.size} {result.what}: {result.fastest['wavefront']:.3g} ms"
            )
    peaks = {(case.cell, str(case.size)): speed.peak(case) for case in cases} if memory else {}
    if picture is not None:
        speed.plot(results, speed.machine(), picture)
    if as_json:
        memories = [{"cell": cell, "size": text, "MB": peak} for (cell, text), peak in peaks.items()]
        _out(_json({"machine": speed.machine(), "runs": runs, "results": [r._asdict() for r in results], "peak_memory": memories}))
    else:
        _out(speed.table(results, peaks))


def main() -> None:
    """The program: exit codes 0, 1 failed, 2 wrong usage, 130 and 143 for SIGINT and SIGTERM."""
    signal.signal(signal.SIGTERM, _terminated)
    app(prog_name="wavefront")


def _failed(error: Exception) -> int:
    """What was raised on purpose is one message; anything else is a fault of ours, and shows where. -> the exit code"""
    from wavefront.errors import SettingsError, WavefrontError

    if os.environ.get("WAVEFRONT_DEBUG", "0") not in ("", "0") or not isinstance(error, WavefrontError):
        import traceback

        traceback.print_exc()
    else:
        _err(f"wavefront: {error}")
    return 2 if isinstance(error, SettingsError) else 1


class _Terminated(KeyboardInterrupt):
    exit_code = 143


def _terminated(number: int, frame: FrameType | None) -> None:
    raise _Terminated("terminated")


def _pairs(given: list[str] | None, option: str) -> list[tuple[str, str]]:
    from wavefront.errors import SettingsError

    pairs = [text.partition("=") for text in given or []]
    if wrong := [key for key, equals, _ in pairs if not equals or not key]:
        raise SettingsError(f"{option} takes NAME=VALUE, got {wrong[0]!r}.")
    return [(key.strip(), value.strip()) for key, _, value in pairs]


def _cell(value: Any) -> str:
    """A value of a row in one line."""
    return value if isinstance(value, str) else " ".join(value) if isinstance(value, list) else f"{len(value):,} steps"


def _first_line(thing: Any) -> str:
    return (thing.__doc__ or "").strip().splitlines()[0]


def _line(value: Any) -> str:
    return json.dumps(plain(value), ensure_ascii=False, allow_nan=False)


def _json(value: Any) -> str:
    return json_text(value).rstrip()


def _out(text: str) -> None:
    print(text)


def _err(text: str) -> None:
    try:
        print(text, file=sys.stderr)
    except (OSError, ValueError):  # closed: nobody reads it
        return
