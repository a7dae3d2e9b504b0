"""Calls of the async client, over one connection after the other.

Any number of calls are on the way at once. On each connection one task reads and one
writes; a call only waits. A connection that has ended is opened anew with the next call. A call
that was under way is not repeated: only the program knows whether a write may come twice.
"""

from __future__ import annotations

import itertools
from typing import Any, Final, TypeVar

import trio
from msgspec import Raw

from recordd_client import requests
from recordd_client.addresses import Address
from recordd_client.errors import CallTimeout, ClientError, ConnectionFailed, ConnectionLost
from recordd_client.requests import Request
from recordd_client.trio_streams import MessageStream, SendFailed, open_stream

__all__ = ["AsyncConnection"]

T = TypeVar("T")

_CLOSE_S: Final = 1.0
"""How long to wait for the daemon's part of a WebSocket's end."""


class _Pending:
    """A call that waits for its answer."""

    def __init__(self, request: Request[Any]) -> None:
        self.request: Final = request
        self.was_sent = False
        self.done: Final = trio.Event()
        self.result = Raw(b"")
        self.error: ClientError | None = None


class _NotSent(ConnectionLost):
    """The connection ended before the request left."""


class AsyncConnection:
    """Carries the calls of all tasks; its own tasks run in `nursery`."""

    def __init__(
        self, nursery: trio.Nursery, stream: MessageStream, address: Address, timeout_s: float
    ) -> None:
        self._nursery: Final = nursery
        self._address: Final = address
        self._timeout_s: Final = timeout_s
        self._ids: Final = itertools.count(1)
        self._connecting: Final = trio.Lock()
        self._max_message_bytes: int | None = None
        self._has_drained = False
        self._is_closed = False
        self._link = self._start(stream)

    async def call(self, request: Request[T]) -> T:
        """Send a call and wait for its answer; cancelled, it may have taken effect or not."""
        request_id = next(self._ids)
        # Before it waits among the others: a request that cannot be sent leaves no trace.
        message = requests.encode_request(request, request_id)
        if len(message) > requests.ALWAYS_TAKEN_BYTES:
            requests.check_size(request, message, await self._learn_max_message_bytes())
        try:
            result = await self._exchange(request, request_id, message)
        except _NotSent:  # the connection had ended, and nobody knew yet
            result = await self._exchange(request, request_id, message)
        self._has_drained |= request.is_drain
        return request.decode(result)

    async def _exchange(self, request: Request[Any], request_id: int, message: bytes) -> Raw:
        if self._is_closed:
            raise ConnectionLost("the client is closed", outcome_unknown=False)
        while self._link.lost is not None:
            await self._connect_again(request)
        return await self._link.exchange(request, request_id, message, self._timeout_s)

    async def close(self) -> None:
        """Disconnect; later calls are refused. Cancelled, without the peer's part of it."""
        self._is_closed = True
        with trio.move_on_after(_CLOSE_S, shield=True):
            await self._link.stream.close()

    async def _connect_again(self, request: Request[Any]) -> None:
        """Open another connection, one for all waiting calls.

        Raises:
            ConnectionLost: the daemon cannot be reached, or the call needs the old one.
        """
        async with self._connecting:
            lost = self._link.lost
            if lost is None:
                return
            if request.is_drain and self._has_drained:
                self._has_drained = False
                text = f"{lost}: with it the position of its drains; the next one begins anew"
                raise ConnectionLost(text, outcome_unknown=False)
            try:
                stream = await open_stream(self._address, self._timeout_s, self._nursery)
            except ConnectionFailed as error:
                raise ConnectionLost(f"{lost}; {error}", outcome_unknown=False) from None
            self._max_message_bytes = None
            self._link = self._start(stream)

    async def _learn_max_message_bytes(self) -> int:
        if self._max_message_bytes is None:
            told = (await self.call(requests.probe())).max_message_bytes
            self._max_message_bytes = told or requests.DEFAULT_MAX_MESSAGE_BYTES
        return self._max_message_bytes

    def _start(self, stream: MessageStream) -> _Link:
        link = _Link(stream)
        self._nursery.start_soon(link.read)
        self._nursery.start_soon(link.write)
        return link


class _Link:
    """One connection and the calls on it."""

    def __init__(self, stream: MessageStream) -> None:
        self.stream: Final = stream
        self.pending: Final[dict[int, _Pending]] = {}
        self.lost: str | None = None
        self._unsent: list[tuple[int, bytes]] = []
        self._wakeup = trio.Event()
        self._sends_no_more: Final = trio.Event()

    async def exchange(
        self, request: Request[Any], request_id: int, message: bytes, timeout_s: float
    ) -> Raw:
        """Have a request sent, and wait for its answer."""
        pending = self.pending[request_id] = _Pending(request)
        self._unsent.append((request_id, message))
        self._wakeup.set()
        try:
            with trio.move_on_after(timeout_s):
                await pending.done.wait()
        finally:
            self.pending.pop(request_id, None)
        if pending.error is not None:
            raise pending.error
        if not pending.done.is_set():
            unknown = request.is_write and pending.was_sent
            text = f"{request.method}: no answer within {timeout_s:g} s"
            raise CallTimeout(text, outcome_unknown=unknown)
        return pending.result

    async def write(self) -> None:
        """Send the requests that have gathered; only this task sends."""
        while self.lost is None:
            await self._wakeup.wait()
            self._wakeup = trio.Event()
            unsent, self._unsent = self._unsent, []
            sending = [(i, m) for i, m in unsent if i in self.pending]  # others were given up
            for request_id, _ in sending:
                self.pending[request_id].was_sent = True
            try:
                await self.stream.send([message for _, message in sending])
            except SendFailed as error:
                self._unsent = sending[error.maybe_sent :] + self._unsent
                self._refuse_new(str(error))
        self._sends_no_more.set()

    async def read(self) -> None:
        """Hand each answer to the call that waits for it; only this task receives."""
        refusal: ClientError | None = None
        try:
            while True:
                for message in await self.stream.receive():
                    for answer in requests.read_incoming(message):
                        if answer.refuses_connection:
                            refusal = answer.error_or_none()
                        self._settle(answer)
        except ClientError as error:
            self._refuse_new(str(error))
        with trio.move_on_after(_CLOSE_S):
            await self.stream.close()
        # A request that was on its way goes no further now; only the writer knows how far it
        # came.
        await self._sends_no_more.wait()
        self._fail_all(refusal)

    def _settle(self, answer: requests.Incoming) -> None:
        pending = self.pending.get(answer.id or 0)
        if pending is None:
            return
        pending.error = answer.error_or_none()
        pending.result = answer.result
        pending.done.set()

    def _refuse_new(self, text: str) -> None:
        """Take no more calls; requests that were sent may still be answered: the reader waits."""
        self.lost = self.lost or text
        for request_id, _ in self._unsent:
            if (pending := self.pending.get(request_id)) is not None:
                pending.error = _NotSent(self.lost, outcome_unknown=False)
                pending.done.set()
        self._unsent = []
        self._wakeup.set()

    def _fail_all(self, refusal: ClientError | None) -> None:
        """Fail every call that waits: nothing more will come."""
        for pending in self.pending.values():
            if pending.done.is_set():
                continue  # answered, and not yet awake
            unknown = pending.request.is_write and pending.was_sent
            lost = ConnectionLost(self.lost or "", outcome_unknown=unknown)
            pending.error = refusal or lost
            pending.done.set()
