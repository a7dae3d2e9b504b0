"""A connection whose grants are not full: its calls go through the same gate."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

import trio

from recordd.methods.gate import Grants
from recordd.methods.peer import Peer
from recordd.session.session import open_session
from recordd_protocol.framing import Framing
from tests.core_in_memory import CoreInMemory
from tests.wire import request


class Kept:
    """A `Sender` that keeps what it is given."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self.sends = 0

    def encode(self, messages: Sequence[bytes]) -> bytes:
        return b"\n".join(messages)

    def send_nowait(self, messages: list[bytes], encoded: bytes | None = None) -> list[bytes]:
        self.sends += 1
        self.messages += messages
        return []

    async def send(self, messages: list[bytes], note_progress: Callable[[], None]) -> bool:
        self.messages += messages
        return True


class Idle:
    """A connection that nobody ends."""

    def __init__(self) -> None:
        self.scope = trio.CancelScope()

    def stop_reading(self) -> None:
        """Nothing is read."""


async def test_a_reader_is_refused_what_writes_or_administers(core: CoreInMemory) -> None:
    kept = Kept()
    async with open_session(
        core.core, Peer("test"), kept, Framing.LINE, Idle(), grants=Grants(frozenset({"read"}))
    ) as session:
        await session.receive(
            [
                request("record.set", 1, name="a", value=1),
                request("profiling.reset", 2),
                request("record.count", 3),
                b'{"t":"write","topic":"a","payload":1}',
            ]
        )
        await session.finish()
    answers = [json.loads(message) for message in kept.messages]
    reasons = [answer["error"]["data"]["reason"] for answer in answers[:2]]
    assert reasons == ["denied", "denied"]
    assert answers[2]["result"] == {"records": 0, "rows": 0}
    assert len(answers) == 3
    assert core.core.request_counts.unanswered_writes_refused == 1
