"""What a run is told, put together: flag over file over default, every key checked, a mistyped one answered with the nearest."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from wavefront.errors import SettingsError
from wavefront.learning import Settings

__all__ = ["Data", "checked", "gather", "parse_value", "read_toml", "without_none"]

SECTIONS = ("data", "columns", "network", "learning")


class Data(BaseModel):
    """Where the rows come from and how they are read: the `[data]` part of a configuration."""

    model_config = ConfigDict(extra="forbid")

    path: str = Field(description="a file, a folder, or the name of a generator")
    query: str | None = Field(None, description="SQL over the file or database")
    format: str | None = Field(None, description='of the files, where their names do not tell: "csv", "conll", ...')
    kinds: dict[str, str] = Field({}, description="column -> kind, where the guess is wrong: text, symbols, number, series, spans")
    header: bool | None = Field(None, description="whether the first line of a table holds names")
    missing: Literal["refuse", "mask"] = Field("refuse", description="what to do with values that are missing in a series")
    series: list[str] = Field([], description="the columns of a table that together are a series")
    id: str | None = Field(None, description="the column that tells one series from another, in a table with one row per step")
    time: str | None = Field(None, description="the column that orders the steps of such a series")
    groups: list[str] = Field([], description="columns of which each value is in one split only, where splits are cut")
    valid_share: float | None = Field(
        None, ge=0, lt=1, description="share of the rows to choose by, where no file gives them; 0: none, train on all"
    )
    test_share: float | None = Field(None, ge=0, lt=1, description="share of the rows to test on, where no file gives them; 0: none")
    steps_per_quarter: int = Field(1, ge=1, le=96, description="steps that a quarter note of a MIDI file is cut into")


def read_toml(path: str | Path) -> dict[str, Any]:
    """A configuration file as a flat dict of dotted keys."""
    try:
        with open(path, "rb") as file:
            return _flat(tomllib.load(file))
    except OSError as error:
        raise SettingsError(f"cannot read the configuration {path}: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not TOML: {error}.") from error


def parse_value(text: str) -> Any:
    """The value of `--set key=value`: as in TOML, or else as text.

    >>> [parse_value(text) for text in ("64", "1e-3", "true", "lstm", '"7"', "[1, 5]")]
    [64, 0.001, True, 'lstm', '7', [1, 5]]
    """
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def gather(layers: Sequence[tuple[str, Mapping[str, Any]]], network_keys: Sequence[str]) -> dict[str, Any]:
    """Layers of dotted keys, the later over the earlier -> one flat dict of full keys.

    layers        (where it comes from, key -> value); a bare key that is in one section only stands for the full one
    network_keys  the settings of the networks of all tasks that may be meant

    >>> gather([("a file", {"learning.epochs": 3}), ("--set", {"epochs": 5, "units": 64})], ["units"])
    {'learning.epochs': 5, 'network.units': 64}
    """
    known = ["task", *(f"data.{key}" for key in Data.model_fields), *(f"network.{key}" for key in dict.fromkeys(network_keys))]
    known += [f"learning.{key}" for key in Settings.model_fields]
    found: dict[str, Any] = {}
    for where, values in layers:
        for key, value in _flat(values).items():
            found[_full(key, known, where)] = value
    return found


def _full(key: str, known: Sequence[str], where: str) -> str:
    section = key.partition(".")[0]
    if key in known or section == "columns" or key.startswith("data.kinds."):
        return key
    meant = [full for full in known if full.partition(".")[2] == key]
    if len(meant) == 1:
        return meant[0]
    if meant:
        raise SettingsError(f"{where}: {key!r} could be {' or '.join(meant)}. Write it in full.")
    if "." in key and section not in SECTIONS:
        near = get_close_matches(section, SECTIONS, 1)
        raise SettingsError(
            f"{where}: there is no {section!r} in {key!r}. "
            + (f"Did you mean {near[0]!r}?" if near else f"There are: {', '.join(SECTIONS)}.")
        )
    near = get_close_matches(key, known if "." in key else [full.partition(".")[2] or full for full in known], 1)
    raise SettingsError(
        f"{where}: there is no setting {key!r}. " + (f"Did you mean {near[0]!r}?" if near else "`wavefront tasks` lists them.")
    )


def checked(model: type[BaseModel], values: Mapping[str, Any], section: str) -> Any:
    """The model with these values; the first thing wrong is a `SettingsError` with its key, what came, and what was expected."""
    try:
        return model(**values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, (section, *first["loc"])))
        raise SettingsError(f"{key} = {first['input']!r}: {first['msg'][0].lower()}{first['msg'][1:]}.") from error


def without_none(values: Mapping[str, Any]) -> dict[str, Any]:
    """TOML has no null: what is None is left out, and what is empty."""
    return {key: value for key, value in values.items() if value is not None and value != {} and value != []}


def _flat(values: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{before}{key}"
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{name}.")
        else:
            flat[name] = value
    return flat
