"""What the commands have in common: options, what is said beside the data, and errors that are one message and an exit code."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer

__all__ = ["BEGAN", "AsJson", "Folder", "answering", "first_line", "pairs", "say"]

BEGAN = time.monotonic()  # the minutes of `fit --minutes` begin with the process

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
Folder = Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run, as fit made it.")]


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
            say(str(interrupted) or "interrupted")
            raise typer.Exit(getattr(interrupted, "exit_code", 130)) from None
        except Exception as error:
            raise typer.Exit(_failed(error)) from None

    return answer


def _failed(error: Exception) -> int:
    """What was raised on purpose is one message; anything else is a fault of ours, and shows where. -> the exit code"""
    from wavefront.errors import SettingsError, WavefrontError

    if os.environ.get("WAVEFRONT_DEBUG", "0") not in ("", "0") or not isinstance(error, WavefrontError):
        import traceback

        traceback.print_exc()
    else:
        say(f"wavefront: {error}")
    return 2 if isinstance(error, SettingsError) else 1


def say(text: str) -> None:
    """To the person, on standard error."""
    try:
        print(text, file=sys.stderr)
    except (OSError, ValueError):  # closed: nobody reads it
        return


def pairs(given: list[str] | None, option: str) -> list[tuple[str, str]]:
    """NAME=VALUE, as often as the option was given.

    >>> pairs(["label=kind", "units = 64"], "--set")
    [('label', 'kind'), ('units', '64')]
    """
    from wavefront.errors import SettingsError

    parted = [text.partition("=") for text in given or []]
    if wrong := [key for key, equals, _ in parted if not equals or not key]:
        raise SettingsError(f"{option} takes NAME=VALUE, got {wrong[0]!r}.")
    return [(key.strip(), value.strip()) for key, _, value in parted]


def first_line(thing: Any) -> str:
    """Of its docstring."""
    return (thing.__doc__ or "").strip().splitlines()[0]
