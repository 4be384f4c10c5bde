"""Which process this is. Loaded with the package, so that a process forked later knows that it is a child."""

from __future__ import annotations

import os

__all__ = ["home_process"]

_home = os.getpid()


def home_process() -> bool:
    """False in a forked child: OpenMP's threads stayed with the parent, and waiting for them would be for ever."""
    return os.getpid() == _home
