"""The events of a subscription in AimX 3.0: numbered `event` and `snap` frames.

Every update takes a number, also one that is left out: a gap tells of a loss. On a stream
of lines an exact topic has no burst and its events no `topic`; its current value is the
first event. `rev` and `ts`, and `late` or `deleted` where it is so, stand behind `data`:
AimDB's decoders ignore them.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Final

from recordd_protocol.framing import Framing
from recordd_protocol.patterns import Pattern
from recordd_protocol.rows import Row, RowKind

__all__ = ["AimxEvents"]

_FLAGS: Final = {
    RowKind.LATEST: b"}",
    RowKind.LATE: b',"late":true}',
    RowKind.DELETED: b',"deleted":true}',
}


class AimxEvents:
    """An `EventEncoder`."""

    __slots__ = ("_framing", "_id", "_is_tagged", "_kind", "_seq")

    def __init__(self, subscription_id: str, framing: Framing, pattern: Pattern) -> None:
        self._id: Final = subscription_id.encode()
        self._framing: Final = framing
        self._is_tagged: Final = framing is Framing.FRAME or not pattern.is_exact
        self._kind: Final = f"aimx {framing.name} {self._is_tagged} {subscription_id}"
        self._seq = 1

    def share_key(self, updates: int) -> object:
        """Return the same for those of one id whose numbers are as far ahead of `updates`."""
        return self._kind, self._seq - updates

    def fork(self) -> AimxEvents:
        """Return one with the same number."""
        return copy.copy(self)

    def encode(self, rows: Sequence[Row], skipped: int = 0) -> list[bytes]:
        """Encode committed rows; see `EventEncoder.encode`."""
        first = self._seq + skipped
        return self._join([self._event(row, seq) for seq, row in enumerate(rows, first)])

    def encode_snapshot(self, rows: Sequence[Row], *, is_last: bool) -> list[bytes]:
        """Encode current values: a burst of `snap`, or the one event of an exact topic."""
        if not self._is_tagged:
            return self.encode(rows)
        last = self._seq + len(rows) - 1 if is_last else -1
        return self._join(
            [self._snap(row, seq, is_last=seq == last) for seq, row in enumerate(rows, self._seq)]
        )

    def encode_resync(self, *, rev: int, epoch: str, oldest_rev: int, values: int) -> list[bytes]:
        """Tell of a loss by nothing but the number it takes; the values follow."""
        return []

    def advance(self, updates: int) -> None:
        """Count updates that were encoded, or left out."""
        self._seq += updates

    def _event(self, row: Row, seq: int) -> bytes:
        topic = b',"topic":"%b"' % row.name.encode() if self._is_tagged else b""
        return b'{"t":"event","seq":%d%b,"sub":"%b","data":%b%b' % (
            seq,
            topic,
            self._id,
            row.value,
            _trailer_of(row),
        )

    def _snap(self, row: Row, seq: int, *, is_last: bool) -> bytes:
        return b'{"t":"snap","seq":%d%b,"topic":"%b","sub":"%b","data":%b%b' % (
            seq,
            b',"last":true' if is_last else b"",
            row.name.encode(),
            self._id,
            row.value,
            _trailer_of(row),
        )

    def _join(self, frames: list[bytes]) -> list[bytes]:
        return frames if self._framing is Framing.FRAME else [b"\n".join(frames)]


def _trailer_of(row: Row) -> bytes:
    rev = b"" if row.rev is None else b',"rev":%d' % row.rev
    return b'%b,"ts":%d%b' % (rev, row.ts, _FLAGS[row.kind])
