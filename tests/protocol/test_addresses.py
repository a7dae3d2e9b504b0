"""Where a daemon listens and a client looks when neither is told."""

from __future__ import annotations

import pytest

from recordd_protocol.addresses import default_socket_path, default_state_directory


@pytest.mark.parametrize(
    ("environment", "path"),
    [
        ({"XDG_RUNTIME_DIR": "/run/user/7"}, "/run/user/7/recordd.sock"),
        (
            {"RUNTIME_DIRECTORY": "/run/recordd", "XDG_RUNTIME_DIR": "/run/user/7"},
            "/run/recordd/recordd.sock",
        ),
        ({"RUNTIME_DIRECTORY": "/run/a:/run/b"}, "/run/a/recordd.sock"),
        ({"HOME": "/home/u"}, "/home/u/.local/state/recordd/recordd.sock"),
        ({"XDG_RUNTIME_DIR": "", "STATE_DIRECTORY": "/var/lib/x"}, "/var/lib/x/recordd.sock"),
        ({}, "/root/.local/state/recordd/recordd.sock"),
    ],
)
def test_the_socket_is_in_a_directory_of_ones_own(environment: dict[str, str], path: str) -> None:
    assert default_socket_path(environment) == path


@pytest.mark.parametrize(
    ("environment", "directory"),
    [
        ({"STATE_DIRECTORY": "/var/lib/a:/var/lib/b", "HOME": "/home/u"}, "/var/lib/a"),
        ({"XDG_STATE_HOME": "/state", "HOME": "/home/u"}, "/state/recordd"),
        ({"XDG_STATE_HOME": "", "HOME": "/home/u"}, "/home/u/.local/state/recordd"),
    ],
)
def test_the_database_is_in_the_state_directory(
    environment: dict[str, str], directory: str
) -> None:
    assert default_state_directory(environment) == directory
