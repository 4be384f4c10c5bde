"""The command line. Data on standard output, everything else on standard error; nothing heavy is imported before a command runs."""

from __future__ import annotations

import os
import signal
import sys
from importlib.metadata import version
from types import FrameType
from typing import Annotated

import typer

from wavefront.app.command import answering
from wavefront.app.commands import COMMANDS

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)


def _version(asked: bool) -> None:
    if asked:
        print(f"wavefront {version('wavefront')}")
        raise typer.Exit


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


for command in COMMANDS:
    app.command(short_help=sys.modules[command.__module__].__doc__)(answering(command))


def main() -> None:
    """The program: exit codes 0, 1 failed, 2 wrong usage, 130 and 143 for SIGINT and SIGTERM."""
    signal.signal(signal.SIGTERM, _terminated)
    app(prog_name="wavefront")


class _Terminated(KeyboardInterrupt):
    exit_code = 143


def _terminated(number: int, frame: FrameType | None) -> None:
    raise _Terminated("terminated")
