"""`recordctl`, the command line. Needs the extra `recordd-client[cli]`.

Exit codes: 0; 1 the daemon said no, or the input is bad; 2 usage; 69 (EX_UNAVAILABLE) the
daemon is away. Each error is one line on standard error.
"""

from __future__ import annotations

import os
import sys
from typing import Final

__all__ = ["main"]

_EX_UNAVAILABLE: Final = 69


def main() -> int:
    """Run the command line; return its exit code."""
    try:
        import click
    except ImportError:
        print("recordctl: needs click and rich: pip install 'recordd-client[cli]'", file=sys.stderr)
        return 1
    from recordd_client.cli.commands import recordctl
    from recordd_client.errors import ClientError, ConnectionFailed, ConnectionLost

    try:
        recordctl.main(standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (ConnectionFailed, ConnectionLost) as error:
        return _fail(error, _EX_UNAVAILABLE)
    except ClientError as error:
        return _fail(error, 1)
    except (click.Abort, KeyboardInterrupt):
        return 130
    except BrokenPipeError:
        # Whoever read our output has enough of it; the interpreter must not flush again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return 0


def _fail(error: Exception, code: int) -> int:
    print(f"recordctl: {error}", file=sys.stderr)
    return code
