"""Updates for programs without an event loop. It does not import Trio."""

from __future__ import annotations

import collections
import contextlib
import math
import time
from collections.abc import Iterator
from typing import Final, Generic, TypeVar

from recordd_client import requests
from recordd_client.addresses import Address
from recordd_client.blocking_streams import BlockingStream, open_blocking_stream
from recordd_client.errors import CallTimeout, ClientError, ConnectionLost
from recordd_client.following import KEEPALIVE_S, Follower, Update

__all__ = ["Updates", "open_updates"]

T = TypeVar("T")

_SUBSCRIBE_ID: Final = 1
_PROBE_ID: Final = 2

_SHORTEST_OPEN_S: Final = 0.2
"""Time for an attempt to connect again, however short a program wants to wait."""


class Updates(Generic[T]):
    """The updates of a subscription, in order. Get one from `Client.subscribe`."""

    def __init__(self, address: Address, timeout_s: float, follower: Follower[T]) -> None:
        self._address: Final = address
        self._timeout_s: Final = timeout_s
        self._follower: Final = follower
        self._ready: Final[collections.deque[Update[T]]] = collections.deque()
        self._stream: BlockingStream | None = None
        self._retry_at = 0.0
        self._heard_at = 0.0
        self._probed_at: float | None = None

    @property
    def unfit(self) -> int:
        """Updates left out because their value did not fit the type that was asked for."""
        return self._follower.unfit

    def __iter__(self) -> Updates[T]:
        return self

    def __next__(self) -> Update[T]:
        """Wait for the next update and return it.

        Raises:
            Refused: the daemon does not take the subscription any more.
            Exception: raised by `on_resync`.
        """
        update = self.wait(math.inf)
        assert update is not None, "for ever has no end"
        return update

    def wait(self, timeout_s: float) -> Update[T] | None:
        """Return the next update, or None where none comes in time, connected or not.

        Raises:
            Refused: the daemon does not take the subscription any more.
            Exception: raised by `on_resync`.
        """
        deadline = time.monotonic() + timeout_s
        while not self._ready:
            if self._follower.failure is not None:
                self.close()
                raise self._follower.failure
            try:
                self._receive(deadline)
            except TimeoutError:
                return None
            except ClientError as error:
                self.close()
                now_s = time.monotonic()
                self._retry_at = now_s + (self._follower.note_lost(error, now_s) or 0.0)
        return self._ready.popleft()

    def open(self, timeout_s: float) -> None:
        """Connect and subscribe.

        Raises:
            ConnectionFailed: the daemon cannot be reached.
            CallTimeout: it does not answer.
            Refused: it does not take the subscription.
        """
        deadline = time.monotonic() + timeout_s
        stream = open_blocking_stream(self._address, timeout_s)
        try:
            behind = self._subscribe(stream, deadline)
        except TimeoutError:
            stream.close()
            text = f"record.subscribe: no answer within {timeout_s:g} s"
            raise CallTimeout(text, outcome_unknown=False) from None
        except BaseException:  # Ctrl-C: a stream without a subscription would be read for ever
            stream.close()
            raise
        self._stream = stream
        self._ready.extend(self._follower.read(behind))

    def _subscribe(self, stream: BlockingStream, deadline: float) -> list[requests.Incoming]:
        """Have the subscription taken; return the messages that came behind the answer."""
        request = self._follower.subscribe()
        stream.send(requests.encode_request(request, _SUBSCRIBE_ID), deadline)
        answer: requests.Incoming | None = None
        behind: list[requests.Incoming] = []
        while answer is None:
            found = requests.read_incoming(stream.receive(deadline))
            answer, behind = requests.split_at_answer(found, _SUBSCRIBE_ID)
        self._note_heard()
        self._follower.note_subscribed(request.decode(answer.result_or_raise()), time.monotonic())
        return behind

    def close(self) -> None:
        """Disconnect. Idempotent."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def _receive(self, deadline: float) -> None:
        """Take one message; connect first where there is no connection.

        Raises:
            TimeoutError: none came in time.
        """
        if self._stream is None:
            self._open_again(deadline)
            return
        try:
            message = self._stream.receive(min(deadline, self._next_probe()))
        except TimeoutError:
            if time.monotonic() < self._next_probe():
                raise
            self._probe()  # also for a program that only polls: its deadline is always past
            return
        self._note_heard()
        self._ready.extend(self._follower.read(requests.read_incoming(message)))

    def _next_probe(self) -> float:
        """Return when silence has to be looked into."""
        if self._probed_at is not None:
            return self._probed_at + self._timeout_s
        return self._heard_at + KEEPALIVE_S

    def _probe(self) -> None:
        """After a long silence, make sure that somebody is there."""
        if self._probed_at is not None or self._stream is None:
            raise ConnectionLost("the daemon does not answer", outcome_unknown=False)
        self._probed_at = time.monotonic()
        message = requests.encode_request(requests.probe(), _PROBE_ID)
        try:
            self._stream.send(message, self._probed_at + self._timeout_s)
        except TimeoutError:
            raise ConnectionLost("the daemon takes nothing", outcome_unknown=False) from None

    def _note_heard(self) -> None:
        self._heard_at = time.monotonic()
        self._probed_at = None

    def _open_again(self, deadline: float) -> None:
        """Connect when it is time to; give it a moment also where `deadline` is near.

        Raises:
            TimeoutError: it is not time yet.
        """
        time.sleep(max(0.0, min(self._retry_at, deadline) - time.monotonic()))
        if time.monotonic() < self._retry_at:
            raise TimeoutError
        remaining_s = max(deadline - time.monotonic(), _SHORTEST_OPEN_S)
        self.open(min(self._timeout_s, remaining_s))


@contextlib.contextmanager
def open_updates(address: Address, timeout_s: float, follower: Follower[T]) -> Iterator[Updates[T]]:
    """Subscribe on a connection of its own; at the end, disconnect.

    Raises:
        ConnectionFailed, Refused: it could not be opened.
    """
    updates = Updates(address, timeout_s, follower)
    try:
        updates.open(timeout_s)
        yield updates
    finally:
        updates.close()
