"""Standard streams that are closed, full or left: both commands say so in a line."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

from recordd.system import standard_streams
from recordd_client.cli import streams
from tests.daemon_process import DaemonProcess

CTL = ("-c", "import sys; from recordd_client.cli import main; sys.exit(main())")
COMMANDS = {
    "recordd config": ("-m", "recordd", "config"),
    "recordd --help": ("-m", "recordd", "--help"),
    "recordctl ping": (*CTL, "ping"),
}


def start(daemon: DaemonProcess, arguments: tuple[str, ...], redirection: str) -> subprocess.Popen[str]:  # fmt: skip
    """Run a command in a shell that redirects its streams."""
    return subprocess.Popen(
        ["bash", "-c", f'set -o pipefail; "$0" "$@" {redirection}', sys.executable, *arguments],
        env={"RECORDD_CONNECT": daemon.url, "RECORDD_SOCKET": "/x", "PATH": "/usr/bin:/bin"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("name", streams.__all__)
def test_the_two_commands_treat_their_streams_alike(name: str) -> None:
    twins = [inspect.getsource(getattr(module, name)) for module in (standard_streams, streams)]
    assert twins[0] == twins[1]


@pytest.mark.parametrize(
    ("redirection", "code", "complaint"),
    [
        (">/dev/full", 74, "{name}: standard output: No space left on device\n"),
        ("| true", 0, ""),
        (">&- <&-", 74, "{name}: standard output: Bad file descriptor\n"),
        (">/dev/null 2>&- <&-", 0, ""),
    ],
)
def test_output_that_goes_nowhere_is_a_line_or_no_mistake(
    shared_daemon: DaemonProcess, redirection: str, code: int, complaint: str
) -> None:
    running = {name: start(shared_daemon, given, redirection) for name, given in COMMANDS.items()}
    for command, process in running.items():
        out, err = process.communicate(timeout=30)
        expected = complaint.format(name=command.split()[0])
        assert (out, err, process.returncode) == ("", expected, code), command


def test_input_that_is_closed_is_empty(shared_daemon: DaemonProcess) -> None:
    process = start(shared_daemon, (*CTL, "set", "x", "-"), "<&-")
    _, err = process.communicate(timeout=30)
    assert process.returncode == 2
    assert "not JSON" in err


@pytest.mark.parametrize("kind", [(), ("--string",)])
def test_a_value_that_is_no_text_is_bad_input(
    shared_daemon: DaemonProcess, kind: tuple[str, ...]
) -> None:
    process = start(shared_daemon, (*CTL, "set", *kind, "x", '"\udcff"'), "")
    _, err = process.communicate(timeout=30)
    assert process.returncode == 2
    assert "VALUE" in err
