"""The ends of series that a run keeps, so that it can forecast from them and go on from them: one file, `series.safetensors`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch

from wavefront.data.frequency import Frequency
from wavefront.data.panel import Panel, Series
from wavefront.errors import RunError
from wavefront.learning import write_whole
from wavefront.learning.weights import pack, unpack

__all__ = ["load_panel", "save_panel"]

FILE = "series.safetensors"


def save_panel(panel: Panel, folder: Path, most: int) -> None:
    """Writes the last `most` steps of each series (and what is known of its future), all or nothing."""
    about = {
        "frequency": list(panel.frequency),
        "style": panel.style,
        "series": [{"id": series.id, "static": list(series.static)} for series in panel.series],
    }
    tensors = {"about": torch.frombuffer(bytearray(json.dumps(about).encode()), dtype=torch.uint8)}
    for k, series in enumerate(panel.series):
        cut = max(0, len(series.y) - most)
        for name in ("at", "y", "past", "future"):
            tensors[f"{k}.{name}"] = torch.from_numpy(
                np.array(getattr(series, name)[cut:]).astype(np.int64 if name == "at" else np.float64)
            )
    write_whole(folder / FILE, pack(tensors))


def load_panel(folder: Path) -> Panel:
    """What `save_panel` wrote."""
    path = folder / FILE
    try:
        tensors = unpack(path.read_bytes(), path)
    except OSError as error:
        raise RunError(f"cannot read {path}, the ends of the series of the run: {error.strerror}.") from error
    about = json.loads(tensors["about"].numpy().tobytes())
    frequency = Frequency(*about["frequency"])
    many = []
    for k, one in enumerate(about["series"]):
        at = tensors[f"{k}.at"].numpy()
        at = at if about["style"] == "number" else at.astype("datetime64[s]")
        y, past, future = (tensors[f"{k}.{name}"].numpy() for name in ("y", "past", "future"))
        many.append(Series(one["id"], at, y, past, future, tuple(one["static"])))
    return Panel(frequency, about["style"], tuple(many))
