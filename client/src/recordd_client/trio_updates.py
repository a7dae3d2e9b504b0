"""Updates for Trio programs: a task keeps the connection, the program iterates."""

from __future__ import annotations

import collections
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Final, Generic, TypeVar

import trio

from recordd_client import requests
from recordd_client.addresses import Address
from recordd_client.errors import CallTimeout, ConnectionLost
from recordd_client.following import KEEPALIVE_S, Follower, Update
from recordd_client.trio_streams import MessageStream, open_stream

__all__ = ["AsyncUpdates", "open_updates"]

T = TypeVar("T")

_CLOSE_S: Final = 1.0
_SUBSCRIBE_ID: Final = 1
_PROBE_ID: Final = 2


class AsyncUpdates(Generic[T]):
    """The updates of a subscription, in order. Get one from `AsyncClient.subscribe`."""

    def __init__(
        self, follower: Follower[T], received: trio.MemoryReceiveChannel[list[Update[T]]]
    ) -> None:
        self._follower: Final = follower
        self._received: Final = received
        self._ready: Final[collections.deque[Update[T]]] = collections.deque()

    @property
    def unfit(self) -> int:
        """Updates left out because their value did not fit the type that was asked for."""
        return self._follower.unfit

    def __aiter__(self) -> AsyncUpdates[T]:
        return self

    async def __anext__(self) -> Update[T]:
        """Return the next update; cancelled, it is the next one of the next call.

        Raises:
            Refused: the daemon does not take the subscription any more.
            Exception: raised by `on_resync`.
        """
        while not self._ready:
            try:
                self._ready.extend(await self._received.receive())
            except trio.EndOfChannel:
                raise self._follower.failure or StopAsyncIteration from None
        return self._ready.popleft()


@contextlib.asynccontextmanager
async def open_updates(
    address: Address, timeout_s: float, follower: Follower[T]
) -> AsyncIterator[AsyncUpdates[T]]:
    """Subscribe on a connection of its own; at the end, or cancelled, disconnect.

    Raises:
        ConnectionFailed, Refused: it could not be opened; later ones end the iteration.
    """
    # No room: updates that the program has not taken stay in the socket, and push back.
    send, receive = trio.open_memory_channel[list[Update[T]]](0)
    updates = AsyncUpdates(follower, receive)
    keeper = _Keeper(address, timeout_s, follower, send)
    failure: Exception | None = None
    async with trio.open_nursery() as nursery:
        try:
            await nursery.start(keeper.run)
            if follower.failure is None or keeper.was_ever_open:
                yield updates
            else:
                failure = follower.failure
        except Exception as error:
            failure = error  # the nursery would wrap it in a group, which is no caller's concern
        keeper.stop()
    if failure is not None:
        raise failure


class _Keeper(Generic[T]):
    """Keeps one connection after the other, and passes on the updates."""

    def __init__(
        self,
        address: Address,
        timeout_s: float,
        follower: Follower[T],
        send: trio.MemorySendChannel[list[Update[T]]],
    ) -> None:
        self._address: Final = address
        self._timeout_s: Final = timeout_s
        self._follower: Final = follower
        self._send: Final = send
        self.was_ever_open = False
        self._is_stopped = False
        self._conversation = trio.CancelScope()

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Run until stopped, or until the daemon refuses; report when it is open at first."""
        self._task_status = task_status
        with self._send:
            while not self._is_stopped:
                failure = await self._converse()
                if not self._is_stopped:
                    await self._wait_behind(failure)
        if not self.was_ever_open:
            task_status.started()

    async def _wait_behind(self, failure: Exception) -> None:
        """Wait until it is time for the next attempt; stop where there is none."""
        wait_s = self._follower.note_lost(failure, trio.current_time())
        if wait_s is None:
            self._is_stopped = True
            return
        with trio.CancelScope() as self._conversation:
            await trio.sleep(wait_s)

    def stop(self) -> None:
        """End the conversation; the task that a WebSocket needs for its farewell goes on."""
        self._is_stopped = True
        self._conversation.cancel()

    async def _converse(self) -> Exception:
        """Follow over one connection; return why it ended."""
        failure: Exception = ConnectionLost("the connection ended", outcome_unknown=False)
        async with trio.open_nursery() as nursery:  # a WebSocket's own task runs here
            stream: MessageStream | None = None
            try:
                with trio.CancelScope() as self._conversation:
                    stream = await open_stream(self._address, self._timeout_s, nursery)
                    await self._subscribe(stream)
                    while self._follower.failure is None:
                        await self._pass_on(await self._receive(stream))
            except Exception as error:
                failure = error
            finally:
                if stream is not None:
                    with trio.move_on_after(_CLOSE_S):
                        await stream.close()
            nursery.cancel_scope.cancel()
        return failure

    async def _subscribe(self, stream: MessageStream) -> None:
        request = self._follower.subscribe()
        answer: requests.Incoming | None = None
        behind: list[requests.Incoming] = []
        with trio.move_on_after(self._timeout_s):
            await stream.send([requests.encode_request(request, _SUBSCRIBE_ID)])
            while answer is None:
                found = [i for m in await stream.receive() for i in requests.read_incoming(m)]
                answer, behind = requests.split_at_answer(found, _SUBSCRIBE_ID)
        if answer is None:
            text = f"record.subscribe: no answer within {self._timeout_s:g} s"
            raise CallTimeout(text, outcome_unknown=False)
        self._follower.note_subscribed(
            request.decode(answer.result_or_raise()), trio.current_time()
        )
        if not self.was_ever_open:
            self.was_ever_open = True
            self._task_status.started()
        await self._pass_on(behind)

    async def _receive(self, stream: MessageStream) -> list[requests.Incoming]:
        """Wait for messages; after a long silence, make sure that somebody is there."""
        messages: Sequence[bytes | str] | None = None
        with trio.move_on_after(KEEPALIVE_S):
            messages = await stream.receive()
        if messages is None:
            await stream.send([requests.encode_request(requests.probe(), _PROBE_ID)])
            with trio.move_on_after(self._timeout_s):
                messages = await stream.receive()
        if messages is None:
            raise ConnectionLost("the daemon does not answer", outcome_unknown=False)
        return [answer for message in messages for answer in requests.read_incoming(message)]

    async def _pass_on(self, answers: Sequence[requests.Incoming]) -> None:
        if found := list(self._follower.read(answers)):
            await self._send.send(found)
