"""`recordctl`, the command line. Needs the extra `recordd-client[cli]`.

Exit codes: 0; 1 the daemon said no, or the input is bad; 2 usage; 69 (EX_UNAVAILABLE) the
daemon is away; 74 (EX_IOERR) standard output cannot be written; 130 Ctrl-C. Each error is
one line on standard error.
"""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType
from typing import Final

from recordd_client.cli.streams import discard_output, fill_standard_streams

__all__ = ["main"]

_EX_UNAVAILABLE: Final = 69
_EX_IOERR: Final = 74


def main() -> int:
    """Run the command line; return its exit code."""
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        return _run()  # the parent process has Ctrl-C ignored, or handles it
    signal.signal(signal.SIGINT, _leave)
    try:
        return _run()
    finally:
        signal.signal(signal.SIGINT, _leave)


def _leave(number: int, frame: FrameType | None) -> None:
    """End at once: before the imports, and behind the last output, nothing else takes a Ctrl-C."""
    os._exit(130)


def _run() -> int:
    fill_standard_streams()
    try:
        import click
    except ImportError:
        print("recordctl: needs click and rich: pip install 'recordd-client[cli]'", file=sys.stderr)
        return 1
    from recordd_client.cli.commands import recordctl
    from recordd_client.errors import ClientError, ConnectionFailed, ConnectionLost

    stdout = sys.stdout
    try:
        if signal.getsignal(signal.SIGINT) is _leave:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        recordctl.main(standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (ConnectionFailed, ConnectionLost) as error:
        return _fail(error, _EX_UNAVAILABLE)
    except ClientError as error:
        return _fail(error, 1)
    except (click.Abort, KeyboardInterrupt) as stop:
        _print_notes(stop.__cause__ or stop)
        return 130
    except BrokenPipeError:
        discard_output()  # the reader has enough of it
    except SystemExit:
        if sys.stdout is stdout:
            raise
        discard_output()  # click has met a broken pipe and put its own in place
    except (OSError, UnicodeEncodeError) as error:
        discard_output()
        text = error.strerror if isinstance(error, OSError) else error
        return _fail(f"standard output: {text}", _EX_IOERR)
    return 0


def _fail(error: Exception | str, code: int) -> int:
    print("recordctl:", "; ".join([str(error), *_notes_of(error)]), file=sys.stderr)
    return code


def _print_notes(stop: BaseException) -> None:
    """Print how far a command came, if it has noted that."""
    if notes := _notes_of(stop):
        print("recordctl: stopped;", "; ".join(notes), file=sys.stderr)


def _notes_of(error: BaseException | str) -> list[str]:
    return getattr(error, "__notes__", [])
