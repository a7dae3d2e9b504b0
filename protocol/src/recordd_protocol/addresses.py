"""Where a daemon listens and a client looks when neither is told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

__all__ = ["DEFAULT_LISTEN", "default_socket_path", "default_state_directory"]

DEFAULT_LISTEN: Final = "127.0.0.1:7373"
"""WebSocket and HTTP: this machine only."""


def default_socket_path(environment: Mapping[str, str]) -> str:
    """Return the Unix socket's path: in systemd's or the user's runtime directory.

    Where there is neither, in the user's state directory, never in a folder that others
    can write: the first program there would be taken for the daemon.
    """
    runtime = environment.get("RUNTIME_DIRECTORY") or environment.get("XDG_RUNTIME_DIR")
    directory = runtime.split(":")[0] if runtime else default_state_directory(environment)
    return f"{directory}/recordd.sock"


def default_state_directory(environment: Mapping[str, str]) -> str:
    """Return the folder of the database: systemd's state directory or the user's."""
    if state := environment.get("STATE_DIRECTORY"):
        return state.split(":")[0]
    home = environment.get("HOME") or "/root"
    return f"{environment.get('XDG_STATE_HOME') or home + '/.local/state'}/recordd"
