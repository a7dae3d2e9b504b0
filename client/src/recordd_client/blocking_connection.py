"""Calls of the blocking client, over one connection after the other.

A connection that has ended is opened anew with the next call. A call that was under way is not
repeated: only the program knows whether a write may come twice.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from typing import Any, Final, TypeVar

from recordd_client import requests
from recordd_client.addresses import Address
from recordd_client.blocking_streams import BlockingStream, open_blocking_stream
from recordd_client.errors import CallTimeout, ConnectionFailed, ConnectionLost
from recordd_client.requests import Request

__all__ = ["BlockingConnection"]

T = TypeVar("T")


class BlockingConnection:
    """Carries one call at a time; those of other threads wait for their turn."""

    def __init__(self, address: Address, timeout_s: float) -> None:
        """Connect.

        Raises:
            ConnectionFailed: the daemon cannot be reached.
        """
        self._address: Final = address
        self._timeout_s: Final = timeout_s
        self._ids: Final = itertools.count(1)
        self._turn: Final = threading.Lock()
        self._max_message_bytes: int | None = None
        self._has_drained = False
        self._lost: str | None = None
        self._is_closed = False
        self._stream: BlockingStream = open_blocking_stream(address, timeout_s)

    def call(self, request: Request[T]) -> T:
        """Send a call and wait for its answer."""
        with self._turn:
            return self._exchange(request)

    def close(self) -> None:
        """Disconnect; later calls are refused."""
        self._is_closed = True
        self._stream.close()

    def _exchange(self, request: Request[T]) -> T:
        request_id = next(self._ids)
        message = requests.encode_request(request, request_id)
        deadline = self._send(request, message)
        answer = self._receive(request, request_id, deadline)
        self._has_drained |= request.is_drain
        return request.decode(answer.result_or_raise())

    def _send(self, request: Request[Any], message: bytes) -> float:
        """Send a request whole, over another connection if need be; return the deadline.

        Raises:
            CallTimeout, ConnectionLost, Refused: not all of it left, so it has no effect.
        """
        if self._is_closed:
            raise ConnectionLost("the client is closed", outcome_unknown=False)
        if self._lost is None:
            with contextlib.suppress(ConnectionLost):
                return self._send_once(request, message)
        self._connect_again(request)
        return self._send_once(request, message)

    def _send_once(self, request: Request[Any], message: bytes) -> float:
        if len(message) > requests.ALWAYS_TAKEN_BYTES:
            requests.check_size(request, message, self._learn_max_message_bytes())
        deadline = time.monotonic() + self._timeout_s
        try:
            self._stream.send(message, deadline)
        except TimeoutError:
            self._end("a request could not be sent in time")
            text = f"{request.method}: not sent within {self._timeout_s:g} s"
            raise CallTimeout(text, outcome_unknown=False) from None
        except ConnectionLost as error:
            self._look_for_refusal()
            self._end(str(error))
            raise
        except BaseException:  # Ctrl-C: the next request would read as the end of this half
            self._end("a request was interrupted")
            raise
        return deadline

    def _connect_again(self, request: Request[Any]) -> None:
        """Open another connection.

        Raises:
            ConnectionLost: the daemon cannot be reached, or the call needs the old one.
        """
        lost = self._lost or "the connection ended"
        if request.is_drain and self._has_drained:
            self._has_drained = False
            text = f"{lost}: with it the position of its drains; the next one begins anew"
            raise ConnectionLost(text, outcome_unknown=False)
        try:
            self._stream = open_blocking_stream(self._address, self._timeout_s)
        except ConnectionFailed as error:
            raise ConnectionLost(f"{lost}; {error}", outcome_unknown=False) from None
        self._lost = None
        self._max_message_bytes = None

    def _learn_max_message_bytes(self) -> int:
        if self._max_message_bytes is None:
            told = self._exchange(requests.probe()).max_message_bytes
            self._max_message_bytes = told or requests.DEFAULT_MAX_MESSAGE_BYTES
        return self._max_message_bytes

    def _receive(
        self, request: Request[Any], request_id: int, deadline: float
    ) -> requests.Incoming:
        """Wait for the answer of a request that was sent."""
        try:
            while True:
                for answer in requests.read_incoming(self._stream.receive(deadline)):
                    if answer.refuses_connection:
                        self._end("the daemon closed the connection")
                    if answer.id == request_id or (answer.id is None and answer.error is not None):
                        return answer
        except TimeoutError:
            text = f"{request.method}: no answer within {self._timeout_s:g} s"
            raise CallTimeout(text, outcome_unknown=request.is_write) from None
        except ConnectionLost as error:
            self._end(str(error))
            raise ConnectionLost(str(error), outcome_unknown=request.is_write) from None

    def _look_for_refusal(self) -> None:
        """Raise why the daemon takes nothing more, where it has said so."""
        with contextlib.suppress(TimeoutError, ConnectionLost):
            for answer in requests.read_incoming(self._stream.receive(time.monotonic())):
                if answer.refuses_connection:
                    self._end("the daemon closed the connection")
                    answer.result_or_raise()

    def _end(self, why: str) -> None:
        self._stream.close()
        self._lost = why
