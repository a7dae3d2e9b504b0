"""`recordd`, and `python -m recordd`: the command, which a signal ends quietly from the first.

The modules take a third of a second to import. This one imports what takes no time, and
`recordd.cli` with all the rest only when a signal has somebody to meet. From then on the
commands take their signals themselves.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from types import FrameType

__all__ = ["main"]


def main() -> int:
    """Run the command; return its exit code."""
    _take_signals(_leave)
    try:
        from recordd.cli import main as run

        return run()
    finally:
        _take_signals(signal.SIG_IGN)  # what is done is done: the exit code tells of that


def _take_signals(handler: Callable[[int, FrameType | None], None] | signal.Handlers) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handler)


def _leave(number: int, frame: FrameType | None) -> None:
    """End at once, where nothing has begun: a daemon in order, a command as given up."""
    command = sys.argv[1:2]
    is_daemon = not command or command == ["serve"] or command[0].startswith("-")
    os._exit(0 if is_daemon else 128 + number)


if __name__ == "__main__":
    sys.exit(main())
