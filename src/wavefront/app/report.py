"""The report of a run: one HTML file that needs nothing else, in light and dark."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

import numpy as np

from wavefront.app.alignment import alignment
from wavefront.app.branches import branches
from wavefront.app.charts import Line, bars, confusion, lines, points
from wavefront.app.fan import fan
from wavefront.app.text import columns_of, duration, number
from wavefront.learning import write_whole
from wavefront.tasks import Figure

if TYPE_CHECKING:
    from wavefront.app.run import Run

__all__ = ["write_report"]

NOTHING = ("O", "_")  # labels that say: nothing here

STYLE = """
:root { color-scheme: light dark; --page: #fcfcfa; --ink: #1d1f24; --soft: #6a6e78; --rule: #e3e3de; --a: #2f6db5; --b: #c46a1b;
  --right: #2f6db5; --wrong: #c9482b; --strong: #fff; --panel: #fff; }
@media (prefers-color-scheme: dark) { :root { --page: #15171b; --ink: #e6e7ea; --soft: #979ba6; --rule: #2d3038; --a: #79b0f0; --b: #eda355;
  --right: #4a88cf; --wrong: #d9664a; --panel: #1b1e23; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2.5rem 1.5rem 4rem; max-width: 62rem; background: var(--page); color: var(--ink);
  font: 15px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
h1 { font-size: 1.7rem; font-weight: 650; letter-spacing: -.01em; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 1.02rem; font-weight: 650; margin: 0 0 .7rem; }
section { margin-top: 2.6rem; }
p { margin: .35rem 0; } .soft, figcaption { color: var(--soft); } figcaption { font-size: .86rem; margin-bottom: .5rem; }
.score { display: flex; flex-wrap: wrap; gap: .3rem 2.6rem; margin-top: 1.5rem; }
.score div { min-width: 6rem; } .score b { display: block; font-size: 2rem; font-weight: 600; font-variant-numeric: tabular-nums; line-height: 1.2; }
.grid { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(24rem, 100%), 1fr)); gap: 1.6rem; }
.grid figure, .chart { max-width: 36rem; }
figure { margin: 0; min-width: 0; } .wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; width: 100%; }
th, td { text-align: right; padding: .34rem .7rem; border-bottom: 1px solid var(--rule); vertical-align: top; }
th { color: var(--soft); font-weight: 500; font-size: .88rem; } th:first-child, td:first-child { text-align: left; padding-left: 0; }
.plain th, .plain td { text-align: left; } tr.beat td { color: var(--soft); }
svg { width: 100%; height: auto; display: block; font: 11px system-ui, sans-serif; } svg.square { margin: 0 auto 0 0; }
.trees { display: flex; gap: 2.5rem; align-items: flex-start; } .trees svg { flex: none; margin: .4rem 0; }
.word { fill: var(--ink); } .branch { stroke: var(--soft); opacity: .55; }
.rule { stroke: var(--rule); stroke-width: 1; }
.same { stroke: var(--soft); stroke-dasharray: 3 4; } .tick { fill: var(--soft); } .axis { fill: var(--soft); } .end { text-anchor: end; }
.middle, .value, .count { text-anchor: middle; } .value { fill: var(--soft); paint-order: stroke; stroke: var(--page); stroke-width: 4; }
.count { fill: var(--ink); } .count.strong { fill: var(--strong); }
.line { fill: none; stroke-width: 1.8; stroke-linejoin: round; } .line.a { stroke: var(--a); } .line.b { stroke: var(--b); }
.line.soft { stroke: var(--soft); stroke-width: 1.3; } .band { fill: var(--a); opacity: .16; }
.dot.a, .point, .bar { fill: var(--a); } .bar { opacity: .85; } .dot.b { fill: var(--b); } .point { opacity: .45; }
.mark { fill: var(--page); stroke: var(--b); stroke-width: 2; }
.cell { fill: var(--rule); opacity: .45; } .right { fill: var(--right); } .wrong { fill: var(--wrong); }
.legend { font-size: .84rem; color: var(--soft); margin-top: .2rem; } .key { margin-right: 1.2rem; white-space: nowrap; }
.key::before { content: ""; display: inline-block; width: 1.1em; height: 2px; margin-right: .45em; vertical-align: .28em; background: var(--a); }
.key.b::before { background: var(--b); } .key.soft::before { background: var(--soft); }
.example { border-top: 1px solid var(--rule); padding: .6rem 0; } .example p { margin: .1rem 0; overflow-wrap: anywhere; }
.example .said { font-size: .9rem; color: var(--soft); } .example .bad b { color: var(--wrong); font-weight: 600; }
.example b { font-weight: 500; color: var(--ink); }
mark { background: none; color: var(--ink); border-bottom: 2px solid var(--a); padding-bottom: 1px; }
mark.bad { border-color: var(--wrong); } mark sup { color: var(--soft); font-size: .66em; margin-left: .15em; }
code, pre { font: 13px/1.5 ui-monospace, "SF Mono", Menlo, Consolas, monospace; } pre { overflow-x: auto; background: var(--panel);
  border: 1px solid var(--rule); border-radius: 6px; padding: .8rem 1rem; margin: .5rem 0 0; } summary { cursor: pointer; font-weight: 650; }
"""


def write_report(
    path: Path, run: Run, events: Sequence[Mapping[str, Any]], figures: Sequence[Figure], split: str, lengths: Mapping[str, np.ndarray]
) -> None:
    """Writes the page.

    events   of the run's log: the learning curves
    figures  of the task on `split`
    lengths  of the sequences of every split
    """
    metrics = run.metrics
    title = f"{run.folder.name or metrics['data']}: {run.task.name}"
    parts = [_head(run, split), _scores(metrics), _curves(events, run.task.metric, metrics)]
    parts += [_figure(figure, split) for figure in figures]
    parts += [_lengths(lengths), _settings(run)]
    body = "\n".join(part for part in parts if part)
    page = (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{_safe(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )
    write_whole(path, page)


def _head(run: Run, split: str) -> str:
    metrics = run.metrics
    scores = metrics.get(split, {})
    names = [run.task.metric, *(name for name in columns_of([scores]) if name != run.task.metric)][:3]
    shown = "".join(
        f"<div><b>{number(scores.get(name))}</b><span class=soft>{_words(name)} on {_safe(split)}</span></div>" for name in names
    )
    trained = f"trained in {duration(metrics['seconds'])} on {metrics['started'][:10]}"
    facts = f"{metrics['parameters']:,} parameters, {trained}, seed {metrics['seed']}"
    return (
        f"<header><h1>{_safe(run.folder.name)}</h1><p class=soft>{_safe(run.task.name)} · {_safe(metrics['data'])} · {_safe(run.question)}</p>"
        f"<p class=soft>{_safe(facts)}</p><div class=score>{shown}</div></header>"
    )


def _scores(metrics: Mapping[str, Any]) -> str:
    """The metrics of every split, and below them what there is to beat."""
    splits = {name: values for name, values in metrics.items() if name in metrics.get("rows", {})}
    names = [*sorted(columns_of(splits.values()), key=lambda name: name != metrics["metric"]), "loss", "examples"]
    rows = [[split, *(number(values.get(name)) for name in names)] for split, values in splits.items()]
    beat = [
        [f"{name}, on {metrics['baselines_on']}", *(number(values.get(key)) if key in values else "" for key in names)]
        for name, values in metrics.get("baselines", {}).items()
    ]
    table = _table(["", *map(_words, names)], [*rows, *beat], dim_after=len(rows))
    sampled = [
        f"{split}: {splits[split]['examples']:,} of {rows:,} rows"
        for split, rows in metrics["rows"].items()
        if splits[split]["examples"] < rows
    ]
    note = f"<figcaption>Scored on a sample: {_safe('; '.join(sampled))}.</figcaption>" if sampled else ""
    beaten = " The last rows are what needs no memory: the scores to beat." if beat else ""
    return f"<section><h2>Scores</h2>{note}<div class=wide>{table}</div><p class=soft>{beaten}</p></section>"


def _curves(events: Sequence[Mapping[str, Any]], metric: str, metrics: Mapping[str, Any]) -> str:
    evaluations = [event for event in events if event["event"] == "evaluation"]
    epochs = [event["epochs"] for event in evaluations]
    valid = [event["valid"] for event in evaluations]
    loss = [Line("training", epochs, [event["train_loss"] for event in evaluations], "a")]
    if any(valid):
        loss.append(Line("validation", epochs, [scores.get("loss") for scores in valid], "b"))
    figures = [f"<figure><figcaption>Loss</figcaption>{lines(loss, 'epoch', 'loss')}</figure>"]
    if any(valid) and metric != "loss":
        scores = [score.get(metric) for score in valid]
        best = next(((e, s) for e, s in zip(epochs, scores) if e == metrics.get("best_epoch") and s is not None), None)
        chart = lines([Line("validation", epochs, scores, "b")], "epoch", metric, best)
        figures.append(f"<figure><figcaption>{_words(metric)} on validation data; the circle is what was kept</figcaption>{chart}</figure>")
    return f"<section><h2>Learning</h2><div class=grid>{''.join(figures)}</div></section>" if evaluations else ""


def _figure(figure: Figure, split: str) -> str:
    data, note = figure.data, figure.note
    if figure.kind == "confusion":
        drawn = f"<div class=wide>{confusion(data['labels'], data['counts'])}</div>"
        note = "Gold in rows, predicted in columns; the shade is the share of the row." + (f" Shown are {note}." if note else "")
    elif figure.kind == "bars":
        drawn = f"<div class=chart>{bars(data['labels'], data['values'], data['axis'])}</div>"
    elif figure.kind == "points":
        drawn = f"<div class=chart>{points(data['x'], data['y'], data['x_axis'], data['y_axis'])}</div>"
    elif figure.kind == "table":
        drawn = f"<div class=wide>{_table(data['head'], [[number(value) for value in row] for row in data['rows']])}</div>"
    elif figure.kind == "forecast":
        drawn = f"<div class=chart>{fan(data['past'], data['forecast'], data['bands'], data['y'])}</div>"
    elif figure.kind == "examples":
        drawn = _examples(data["rows"])
    elif figure.kind == "alignments":
        drawn = f"<div class=grid>{''.join(f'<figure>{alignment(**row)}</figure>' for row in data['rows'])}</div>"
    elif figure.kind == "text":
        drawn = f"<pre>{_safe(data['text'])}</pre>"
    elif figure.kind == "trees":
        drawn = "".join(
            f'<div class="example wide"><p class="said{"" if row["right"] else " bad"}"><b>{_safe(row["predicted"])}</b>'
            + ("" if row["right"] else f", not {_safe(row['gold'])}")
            + f"</p><div class=trees>{''.join(branches(**tree) for tree in row['trees'])}</div></div>"
            for row in sorted(data["rows"], key=lambda row: row["right"])
        )
    else:
        raise ValueError(
            f"a report draws confusion, bars, points, table, forecast, examples, alignments and trees; got a figure of kind {figure.kind!r}"
        )
    caption = f"<figcaption>{_safe(note)}</figcaption>" if note else ""
    where = "" if figure.kind == "text" else f" <span class=soft>on {_safe(split)}</span>"
    return f"<section><h2>{_words(figure.title)}{where}</h2><figure>{caption}{drawn}</figure></section>" if drawn else ""


def _examples(rows: Sequence[Mapping[str, Any]]) -> str:
    """The wrong ones first: they say more."""
    ordered = sorted(rows, key=lambda row: row["right"])
    return "".join(_example(row) for row in ordered)


def _example(row: Mapping[str, Any]) -> str:
    if not isinstance(row["gold"], str):  # a label for each word: those that say something are put at their words
        dense = 2 * sum(label not in NOTHING for label in row["gold"]) > len(row["gold"])
        each = zip(row["text"], row["gold"], row["predicted"], strict=True)
        return f"<div class=example><p>{' '.join(_labelled(*of_word, dense) for of_word in each)}</p></div>"
    said = f"<b>{_safe(row['predicted']) or 'nothing'}</b>" + (
        "" if row["right"] else f", should be <b>{_safe(row['gold']) or 'nothing'}</b>"
    )
    return f'<div class=example><p>{_safe(row["text"])}</p><p class="said{"" if row["right"] else " bad"}">{said}</p></div>'


def _labelled(word: str, gold: str, predicted: str, dense: bool) -> str:
    """Where every word has a label, only the wrong ones are marked; the others tell theirs when pointed at."""
    if gold != predicted:
        return f'<mark class=bad title="should be {_safe(gold)}">{_safe(word)}<sup>{_safe(predicted)}, not {_safe(gold)}</sup></mark>'
    if gold in NOTHING:
        return _safe(word)
    return f'<span title="{_safe(gold)}">{_safe(word)}</span>' if dense else f"<mark>{_safe(word)}<sup>{_safe(gold)}</sup></mark>"


def _lengths(lengths: Mapping[str, np.ndarray]) -> str:
    """How long the sequences of each split are."""
    figures = []
    for split, values in lengths.items():
        if len(values):
            low, wide = int(values.min()), max(1, -(-int(values.max() - values.min() + 1) // 20))  # whole numbers, at most 20 bars
            counts = np.bincount((values - low) // wide)
            chart = bars([f"{low + k * wide:,}" for k in range(len(counts))], counts.tolist(), "sequences")
            varied = f"{low:,} to {values.max():,} steps, {values.mean():,.1f} in the mean"
            caption = f"{_safe(split)}: {f'all of {low:,} steps' if low == values.max() else varied}"
            figures.append(f"<figure><figcaption>{caption}</figcaption>{chart}</figure>")
    return f"<section><h2>Lengths</h2><div class=grid>{''.join(figures)}</div></section>"


def _settings(run: Run) -> str:
    config = run.folder / "config.toml"
    text = config.read_text() if config.exists() else ""
    folder = quote(str(run.folder))
    use = f"wavefront {run.task.command.format(run=folder)}\nwavefront score {folder} DATA"
    return (
        f"<section><details><summary>Settings</summary><pre>{_safe(text)}</pre></details></section>"
        f"<section><h2>Use it</h2><pre>{_safe(use)}</pre></section>"
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], dim_after: int | None = None) -> str:
    def line(k: int, row: Sequence[str]) -> str:
        dim = ' class="beat"' if dim_after is not None and k >= dim_after else ""
        return f"<tr{dim}>{''.join(f'<td>{_safe(cell)}</td>' for cell in row)}</tr>"

    names = "".join(f"<th>{_safe(name)}</th>" for name in head)
    return f"<table><thead><tr>{names}</tr></thead><tbody>{''.join(line(k, row) for k, row in enumerate(rows))}</tbody></table>"


def _words(name: str) -> str:
    """span_f1 -> span F1"""
    return _safe(name.replace("_", " ").replace(" f1", " F1"))


def _safe(value: Any) -> str:
    """Text from outside is text, never markup."""
    return html.escape(str(value), quote=True)
