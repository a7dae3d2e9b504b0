"""Fixtures: a daemon in a process, and a daemon's core in this one."""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import hypothesis
import pytest

from tests.core_in_memory import CoreInMemory, running_core
from tests.daemon_process import DaemonProcess

StartDaemon = Callable[..., DaemonProcess]


def pytest_configure() -> None:
    """Give every process that a test starts the surroundings that a terminal gives it.

    A shell starts a background job with SIGINT ignored, and so would be all that it starts.
    Without byte code each daemon compiles the sources anew, for half of its start.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    # A timing fails no test.
    hypothesis.settings.register_profile("untimed", deadline=None)
    hypothesis.settings.load_profile("untimed")


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A folder whose path leaves room for a socket's 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="recordd-") as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def shared_daemon() -> Iterator[DaemonProcess]:
    """A daemon for the tests of a module that leave to the others what they look at."""
    with tempfile.TemporaryDirectory(prefix="recordd-") as folder:
        daemon = DaemonProcess(Path(folder)).start()
        yield daemon
        daemon.stop(signal.SIGKILL)


@pytest.fixture
def start_daemon(short_path: Path) -> Iterator[StartDaemon]:
    """Return a function that starts a daemon; all are killed at the end."""
    with contextlib.ExitStack() as stack:

        def start(*flags: str, **environment: str) -> DaemonProcess:
            daemon = DaemonProcess(short_path, *flags, **environment).start()
            stack.callback(daemon.stop, signal.SIGKILL)
            return daemon

        yield start


@pytest.fixture
def daemon(start_daemon: StartDaemon) -> DaemonProcess:
    """A daemon with default settings, without retention."""
    return start_daemon()


@pytest.fixture
async def core() -> AsyncIterator[CoreInMemory]:
    """A daemon's core over a memory backend, its writer running, no sockets."""
    async with running_core() as core:
        yield core
