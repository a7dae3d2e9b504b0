"""The events of a subscription in JSON-RPC 2.0: notifications named `record.event`.

On a stream of lines each event is a line. In frames, the events of one commit come
together as an array, a batch of notifications (§6): a frame costs more than an event.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Final

import msgspec

from recordd_protocol.framing import Framing
from recordd_protocol.rows import Row, RowKind

__all__ = ["JsonRpcEvents", "share_events"]

_SHARED_ENCODERS: Final = 1024
"""Half a KiB each. Of more ids some have encoders of their own, and share bursts still."""

_HEAD: Final = b'{"jsonrpc":"2.0","method":"record.event","params":{"subscription":%b,'
_TAIL: Final = b"}}"
_FLAGS: Final = {
    RowKind.LATEST: b"",
    RowKind.LATE: b',"late":true',
    RowKind.DELETED: b',"deleted":true',
}


class JsonRpcEvents:
    """An `EventEncoder`. It keeps no state: the rows of others with its id are its own."""

    __slots__ = (
        "_framing",
        "_head",
        "_max_message_bytes",
        "_share_key",
    )

    def __init__(self, subscription_id: str, framing: Framing, max_message_bytes: int) -> None:
        self._head: Final = _HEAD % msgspec.json.encode(subscription_id)
        self._framing: Final = framing
        self._max_message_bytes: Final = max_message_bytes
        self._share_key: Final = f"{framing.name} {subscription_id}"

    def share_key(self, updates: int) -> object:
        """Return the same whatever was sent: there is no number to it."""
        return self._share_key

    def fork(self) -> JsonRpcEvents:
        """Return itself, which nothing changes."""
        return self

    def encode(self, rows: Sequence[Row], skipped: int = 0) -> list[bytes]:
        """Encode committed rows; see `EventEncoder.encode`."""
        bodies = [
            row.body if row.kind is RowKind.LATEST else row.body + _FLAGS[row.kind] for row in rows
        ]
        if skipped:
            bodies[0] += b',"skipped":%d' % skipped
        return self._join(bodies)

    def encode_snapshot(self, rows: Sequence[Row], *, is_last: bool) -> list[bytes]:
        """Encode current values."""
        bodies = [b'%b,"snapshot":true%b' % (row.body, _FLAGS[row.kind]) for row in rows]
        if is_last:
            bodies[-1] += b',"last":true'
        return self._join(bodies)

    def encode_resync(self, *, rev: int, epoch: str, oldest_rev: int, values: int) -> list[bytes]:
        """Tell of a resync: the one event that is about no record."""
        body = b'"resync":true,"values":%d,"rev":%d,"epoch":%b,"oldest_rev":%d'
        return self._join([body % (values, rev, msgspec.json.encode(epoch), oldest_rev)])

    def advance(self, updates: int) -> None:
        """Count nothing: revs tell the order, and `skipped` the losses."""

    def _join(self, bodies: list[bytes]) -> list[bytes]:
        """Return the events as one message, or as several where one would be too long."""
        head, framing = self._head, self._framing
        if framing is Framing.LINE:  # a message may be many lines: each is a message to the peer
            return [b"%b%b%b" % (head, (_TAIL + b"\n" + head).join(bodies), _TAIL)]
        if len(bodies) == 1:
            return [b"%b%b%b" % (head, bodies[0], _TAIL)]
        messages = []
        for group in self._group(bodies):
            joined = (_TAIL + b"," + head).join(group)
            messages.append(b"[%b%b%b]" % (head, joined, _TAIL))
        return messages

    def _group(self, bodies: list[bytes]) -> list[list[bytes]]:
        extra = len(self._head) + len(_TAIL) + 1
        groups: list[list[bytes]] = [[]]
        size = 2
        for body in bodies:
            size += len(body) + extra
            if size > self._max_message_bytes and groups[-1]:
                groups.append([])
                size = 2 + len(body) + extra
            groups[-1].append(body)
        return groups


@functools.lru_cache(maxsize=_SHARED_ENCODERS)
def share_events(subscription_id: str, framing: Framing, max_message_bytes: int) -> JsonRpcEvents:
    """Return the encoder of an id, the same for all connections that have one of that id.

    Most have: ids are given from "s1" on. A thousand encoders would be a thousand places in
    memory to visit for one commit, which takes longer there than the code that is run.
    """
    return JsonRpcEvents(subscription_id, framing, max_message_bytes)
