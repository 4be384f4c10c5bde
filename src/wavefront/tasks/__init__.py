"""Tasks: each is a kind of question with its reader, network, loss, decoder and metric, in a file of its own."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import TYPE_CHECKING

from wavefront.errors import SettingsError
from wavefront.tasks.classify import Classify
from wavefront.tasks.forecast import Forecast
from wavefront.tasks.language import Language
from wavefront.tasks.music import Music
from wavefront.tasks.regress import Regress
from wavefront.tasks.tag import Tag
from wavefront.tasks.task import Batch, Claim, Figure, Meter, Task
from wavefront.tasks.transcribe import Transcribe
from wavefront.tasks.translate import Translate
from wavefront.tasks.tree import Tree
from wavefront.tasks.watch import Watch

if TYPE_CHECKING:
    from wavefront.data import Source

__all__ = [
    "TASKS",
    "Batch",
    "Claim",
    "Classify",
    "Figure",
    "Forecast",
    "Language",
    "Meter",
    "Music",
    "Regress",
    "Tag",
    "Task",
    "Transcribe",
    "Translate",
    "Tree",
    "Watch",
    "choose",
]

TASKS: dict[str, type[Task]] = {
    task.name: task for task in (Classify, Forecast, Language, Music, Regress, Tag, Transcribe, Translate, Tree, Watch)
}


def choose(source: Source, name: str | None = None, columns: Mapping[str, str] | None = None) -> tuple[type[Task], Claim]:
    """The task for a data set, and its columns: the one asked for, or the only one that is certain.

    columns  role -> column, what the user named; roles are those of the task: tag: tokens, labels (or text, spans); classify: input, label;
             regress: input, target; tree: tree, second, label (or tokens, heads, label); language: text;
             music: notes

    Raises `SettingsError` where the task is unknown, cannot read the data, or is not certain.
    """
    columns = dict(columns or {})
    if name is not None and name not in TASKS:
        raise SettingsError(f"there is no task {name!r}. {_near(name, list(TASKS))}")
    roles = list(dict.fromkeys(role for kind, task in TASKS.items() if name in (None, kind) for role in task.roles))
    if unknown := sorted(set(columns) - set(roles)):
        raise SettingsError(f"{name or 'no task'} has {'no ' if name else 'a '}column {unknown[0]!r}. {_near(unknown[0], roles)}")
    there = {column.name: column.kind for column in source.columns}
    for role, column in columns.items():
        if column not in there:
            raise SettingsError(f"{role}={column}: the data has no such column. It has: {_listed(there)}.")
    able = {kind: task for kind, task in TASKS.items() if name in (None, kind) and set(columns) <= set(task.roles)}
    claims = {kind: claim for kind, task in able.items() if (claim := task.claim(source, columns)) is not None}
    if name is not None:
        if name not in claims:
            open_roles = [role for role in TASKS[name].roles[:2] if role not in columns] or list(TASKS[name].roles[:2])
            raise SettingsError(
                f"{name} cannot tell its columns from {_listed(there)} in {source.path}. Name them: "
                + " ".join(f"--column {role}=COLUMN" for role in open_roles)
                + _as_series(there)
            )
        return TASKS[name], claims[name]
    certain = [kind for kind, claim in claims.items() if claim.certain]
    if len(certain) == 1:
        return TASKS[certain[0]], claims[certain[0]]
    options = "; ".join(f"{kind} ({claim.because})" for kind, claim in claims.items())
    if not claims:
        raise SettingsError(
            f"no task can tell its columns from {_listed(there)} in {source.path}. Name a task and its columns: --task classify"
            f" --column input=COLUMN --column label=COLUMN{_as_series(there)}"
        )
    if len(claims) == 1:
        only = next(iter(claims))
        raise SettingsError(f"{source.path} looks like one for {options}, but may be for something else. If that is meant: --task {only}.")
    raise SettingsError(f"{source.path} can be learned in more than one way, say which with --task: {options}.")


def _near(given: str, known: list[str]) -> str:
    near = get_close_matches(given, known, 1)
    return (f"Did you mean {near[0]!r}? " if near else "") + f"There are: {', '.join(known)}."


def _as_series(columns: Mapping[str, str]) -> str:
    """What to say where several columns of numbers may be meant as one input."""
    numbers = [name for name, kind in columns.items() if kind == "number"]
    if len(numbers) < 2:
        return "."
    return f'. Several columns of numbers are one series with --set \'data.series=["{numbers[0]}", "{numbers[1]}"]\'.'


def _listed(columns: Mapping[str, str]) -> str:
    return ", ".join(f"{name} ({kind})" for name, kind in columns.items())
