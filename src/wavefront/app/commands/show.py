"""What was trained, on what, and how good it is."""

from __future__ import annotations

from wavefront.app.command import AsJson, Folder
from wavefront.app.text import json_text

__all__ = ["show"]


def show(run: Folder, as_json: AsJson = False) -> None:
    """What was trained, on what, and how good it is.

    \b
    Examples:
      wavefront show runs/years
      wavefront show runs/years --json | jq .test
    """
    from wavefront.app.run import load

    model = load(run)
    print(json_text(model.metrics).rstrip() if as_json else model.summary())
