"""Timed waits end in time, in threads that are started later too."""

from __future__ import annotations

import ctypes
import sys
import threading

import pytest

from recordd.system.timer_slack import shorten_timer_slack

_PR_GET_TIMERSLACK = 30


@pytest.mark.skipif(sys.platform != "linux", reason="a setting of Linux")
def test_a_thread_that_is_started_later_waits_no_longer_than_it_asks() -> None:
    found: list[int] = []
    shorten_timer_slack()
    thread = threading.Thread(
        target=lambda: found.append(ctypes.CDLL(None).prctl(_PR_GET_TIMERSLACK))
    )
    thread.start()
    thread.join()
    assert found == [1]
