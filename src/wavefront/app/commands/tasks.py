"""What can be learned, and the settings of it."""

from __future__ import annotations

from wavefront.app.command import first_line

__all__ = ["tasks"]


def tasks() -> None:
    """The tasks, their columns, and the settings of their networks.

    \b
    Example, what this lists as a column and as a setting:
      wavefront fit reviews.csv --task classify --column label=stars --set network.units=64
    """
    from wavefront.tasks import TASKS

    for name, task in TASKS.items():
        print(f"{name:<10}{first_line(task)}\n{'':<10}columns: {', '.join(task.roles)}")
        for key, field in task.Settings.model_fields.items():
            default = "from the data" if field.default is None else field.default
            print(f"  network.{key:<22}{field.description}  [{default}]")
        print("")
