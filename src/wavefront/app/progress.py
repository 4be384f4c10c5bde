"""What a person sees of a run while it goes on, on standard error: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

from wavefront.app.text import duration, epochs, number

__all__ = ["Progress"]

T = TypeVar("T")

PLAIN_INTERVAL = 15.0  # seconds between plain lines within an epoch
LINE_INTERVAL = 0.5  # seconds between lines of evaluations, where there are many: the last is always told
MANY = 40


class _Reading(NamedTuple):
    time: float
    step: int
    progress: float


class Progress:
    """A listener of the trainer's events, and a voice for what goes on before and after.

    On a terminal, a bar with rate and time left below a growing table of evaluations. Elsewhere, and in a pipe, plain lines, at
    intervals. Colours only where they are wanted (NO_COLOR, TERM=dumb). With `quiet`, warnings only. A standard error that is closed
    ends the display, never the run.
    """

    def __init__(self, quiet: bool = False):
        self.quiet = quiet
        self.live = not quiet and _is_terminal()
        self._bar: Any = None
        self._task: Any = None
        self._metric = ""
        self._epochs: int | None = None
        self._began = self._told = time.monotonic()
        self._from: _Reading | None = None  # what rate and time left are reckoned from
        self._pending: str | None = None

    def say(self, text: str, style: str = "") -> None:
        if not self.quiet:
            self._print(text, style)

    def warn(self, text: str) -> None:
        self._print(f"warning: {text}", "yellow")

    def counting(self, rows: Iterable[T], what: str) -> Iterator[T]:
        """Passes the rows on and shows how many there were so far."""
        told = time.monotonic()
        for n, row in enumerate(rows, 1):
            if not self.quiet and (now := time.monotonic()) - told >= (0.2 if self.live else PLAIN_INTERVAL):
                told = now
                self._counter(f"{what}  {n:,}")
            yield row
        self._counter(None)

    def training(self, metric: str, epochs: int | None) -> None:
        """Training begins: the score that decides, and the number of epochs if it is known."""
        self._metric, self._epochs, self._from = metric, epochs, None
        self.say(f"{'epoch':>7}  {'loss':>9}" + (f"  {'valid loss':>10}  {metric:>10}" if metric else ""), "dim")
        if self.live:
            self._start_bar()

    def __call__(self, event: Mapping[str, Any]) -> None:
        if event["event"] == "warning":
            self.warn(event["message"])
        elif self.quiet:
            return
        elif event["event"] == "step":
            self._step(event)
        elif event["event"] == "evaluation":
            self._evaluation(event)
        elif event["event"] == "resumed":
            self.say(f"resumed at step {event['step']:,}, in epoch {event['epoch'] + 1}")

    def close(self) -> None:
        """The bar goes; the last line of the table, if it was held back, comes."""
        if self._pending:
            self._print(self._pending)
            self._pending = None
        if self._bar is not None:
            bar, self._bar = self._bar, None
            bar.stop()

    def _step(self, event: Mapping[str, Any]) -> None:
        now = time.monotonic()
        if self._from is None:
            self._from = _Reading(now, event["step"], event["progress"])
            return
        seconds, steps, gone = now - self._from.time, event["step"] - self._from.step, event["progress"] - self._from.progress
        left = f"{duration(seconds * (1 - event['progress']) / gone)} left" if gone > 0 else ""
        epoch = f"epoch {event['epoch'] + 1}" + (f"/{self._epochs}" if self._epochs else "")
        facts = f"{steps / max(seconds, 1e-9):,.1f} steps/s  {left}"
        if self._bar is not None:
            self._bar.update(self._task, completed=event["progress"], description=epoch, facts=facts)
        elif now - self._told >= PLAIN_INTERVAL:
            self._print(f"  {epoch}, batch {event['batch']}/{event['batches']}, loss {number(event['loss'])}, {facts}")
            self._told = now

    def _evaluation(self, event: Mapping[str, Any]) -> None:
        valid = event["valid"]
        line = f"{epochs(event['epochs']):>7}  {number(event['train_loss']):>9}"
        if valid:
            best = "  best" if event["best_epoch"] == event["epochs"] else ""
            line += f"  {number(valid.get('loss')):>10}  {number(valid.get(self._metric)):>10}{best}"
        now = time.monotonic()
        if now - self._told < LINE_INTERVAL and (self._epochs is None or self._epochs > MANY):
            self._pending = line
            return
        self._pending, self._told = None, now
        self._print(line)

    def _start_bar(self) -> None:
        from rich.progress import BarColumn, Progress as Bar, TextColumn

        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(complete_style="cyan", finished_style="cyan"),
            TextColumn("{task.fields[facts]}", markup=False),
        )
        self._bar = Bar(*columns, console=_console(), transient=True, refresh_per_second=5)
        self._task = self._bar.add_task("", total=1.0, facts="")
        self._bar.start()

    def _counter(self, text: str | None) -> None:
        """A line that is written over, on a terminal; elsewhere a line of its own."""
        if not self.live:
            if text:
                self._print(f"  {text}")
            return
        self._write("\r\x1b[2K" + (f"  {text}" if text else ""))

    def _print(self, text: str, style: str = "") -> None:
        if self.live and (self._bar is not None or style):
            from rich.text import Text

            console = self._bar.console if self._bar is not None else _console()
            try:
                console.print(Text(text, style=style), soft_wrap=True)
            except OSError:
                self._silence()
        else:
            self._write(text + "\n")

    def _write(self, text: str) -> None:
        try:
            sys.stderr.write(text)
            sys.stderr.flush()
        except (AttributeError, OSError, ValueError):  # closed, from the start (None) or since: nobody reads on
            self._silence()

    def _silence(self) -> None:
        self.quiet, self.live, self._bar = True, False, None


def _is_terminal() -> bool:
    try:
        return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
    except (AttributeError, ValueError):
        return False


def _console() -> Any:
    from rich.console import Console

    return Console(stderr=True, highlight=False)
