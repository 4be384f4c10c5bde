"""Ctrl-C and SIGTERM: the first asks to stop and lets the step and a checkpoint finish, the second leaves at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

__all__ = ["Interrupted", "Interrupts"]


class Interrupted(KeyboardInterrupt):
    """Training was asked to stop, and did, with everything saved. A `KeyboardInterrupt`, so that nothing swallows it by accident.

    signal     signal.SIGINT or signal.SIGTERM
    exit_code  130 or 143, what a program ends with
    """

    def __init__(self, number: int, message: str = ""):
        super().__init__(message or f"stopped by {signal.Signals(number).name}")
        self.signal = signal.Signals(number)
        self.exit_code = 128 + number


class Interrupts:
    """While entered, the first SIGINT or SIGTERM is only noted, in `received`; the handlers that were there before come back with it,
    so that the second acts as if nobody had waited. Outside the main thread, where Python has no signals, it notes nothing.

        with Interrupts() as interrupts:
            while not interrupts.received:
                ...                             # a step that has to end well
                with interrupts.at_once():
                    ...                         # may be left in the middle: a signal raises `Interrupted` here
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self.received: int | None = None
        self._at_once = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in self.SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()

    @contextmanager
    def at_once(self) -> Iterator[None]:
        self._at_once = True
        try:
            if self.received:
                raise Interrupted(self.received)
            yield
        finally:
            self._at_once = False

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received = number
        self._restore()
        if self._at_once:
            raise Interrupted(number)

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
