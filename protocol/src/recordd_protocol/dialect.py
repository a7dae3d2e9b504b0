"""The interface of a dialect of the line protocol: messages in, calls out, answers back.

A dialect is pure: it turns one message (a line's or a text frame's bytes) into calls,
and a call's outcome into bytes. A message itself tells its dialect, and is answered in kind. To
add one, write a module with a `Dialect` and list it in `recordd.connections.dialects`,
before the one that claims everything.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol

import msgspec

from recordd_protocol.errors import RequestError
from recordd_protocol.patterns import Pattern
from recordd_protocol.rows import Page, Row

__all__ = [
    "ENVELOPE_BYTES",
    "Call",
    "Dialect",
    "EventEncoder",
    "Malformed",
    "PlainCall",
    "Result",
]

ENVELOPE_BYTES: Final = 4096
"""The most that an answer has beside its rows: the caller's id, which may be long, and a page's
`next`. Rows that leave so much of a reply's limit fit into one."""


Result = Row | Page | msgspec.Struct | Sequence[Any] | Mapping[str, Any] | int | bytes | None
"""The result of a call; bytes are JSON text already, None is for a caller that wants none."""


class Malformed(NamedTuple):
    """An unreadable message, or member of one: the cause, and the answer if there is one."""

    text: str
    reply: bytes | None = None


class EventEncoder(Protocol):
    """Puts the events of one subscription into messages, in order."""

    def share_key(self, updates: int) -> object:
        """Return what encoders have in common that make the same messages of the same rows.

        They go on to do so as long as each is advanced by as much as `updates` grows.
        """

    def fork(self) -> EventEncoder:
        """Return one that goes on from here by itself."""

    def encode(self, rows: Sequence[Row], skipped: int = 0) -> list[bytes]:
        """Encode committed rows; `skipped` updates were left out before the first.

        Changes nothing: `advance` follows.
        """

    def encode_snapshot(self, rows: Sequence[Row], *, is_last: bool) -> list[bytes]:
        """Encode current values; `is_last` where they end the opening burst."""

    def encode_resync(self, *, rev: int, epoch: str, oldest_rev: int, values: int) -> list[bytes]:
        """Tell that updates are lost, and so many current values as of `rev` follow."""

    def advance(self, updates: int) -> None:
        """Count updates that were encoded, or left out."""


class Call(Protocol):
    """One received request, and the encoding of its one outcome.

    Exactly one of `answer` and `refuse` is called, once. Either returns the bytes to
    send now, or None where there is nothing to send: a notification, or a batch that
    still waits for others of its calls.
    """

    @property
    def method(self) -> str:
        """Name of the method, as in `recordd_protocol.methods.METHODS`."""

    @property
    def params(self) -> bytes | msgspec.Struct | RequestError:
        """The parameters: JSON text of one object, or the method's type already.

        Or why they cannot be read: that refuses the call.
        """

    @property
    def max_reply_bytes(self) -> int:
        """How long the answer may be, its envelope included."""

    @property
    def wants_answer(self) -> bool:
        """Whether the caller waits for the outcome; False for a notification."""

    def answer(self, result: Result) -> bytes | None:
        """Encode the result; one over the reply limit becomes the refusal `too_large`."""

    def refuse(self, error: RequestError) -> bytes | None:
        """Encode the refusal."""

    @property
    def subscription_id(self) -> str | None:
        """The id of a subscription that this call opens; None: the daemon may choose."""

    def encode_events(self, subscription_id: str, pattern: Pattern) -> EventEncoder:
        """Return an encoder for the events of the subscription that this call opened."""


class PlainCall(Call, Protocol):
    """A plain request. Those of one class, which has one method, can be answered together.

    As `answer` would with each, for less; calls without an answer are left out.
    """

    @classmethod
    def answer_rows(cls, calls: Sequence[Any], rows: Sequence[Row]) -> list[bytes]:
        """Encode a row as the result of each call."""

    @classmethod
    def answer_written(
        cls,
        calls: Sequence[Any],
        revs: Sequence[int | None],
        times: Sequence[int],
        late: Collection[int],
    ) -> list[bytes]:
        """Encode `Written` of each call's row; `late` has the places of those that are late."""


class Dialect(Protocol):
    """A dialect: it tells its own messages from others, and reads them."""

    @property
    def name(self) -> str:
        """Short name for logs and counters."""

    def decode_plain(self, messages: Sequence[bytes]) -> Sequence[PlainCall]:
        """Return the calls of the first messages, up to one that is no plain request.

        Plain is a request of one call whose members are all known and as they should be; its
        `params` are of the method's type. No other dialect claims one, and `decode` would
        come to the same, for four times as much. May be empty; never raises.
        """

    def claims(self, message: bytes) -> bool:
        """Tell whether the message is written in this dialect."""

    def decode(self, message: bytes) -> Sequence[Call | Malformed | bytes]:
        """Return the calls of a message in order; bytes among them are answers to send as is.

        Never raises, whatever the message holds: bad input comes back as `Malformed`.
        """

    def refuse_message(self, error: RequestError) -> bytes | None:
        """Encode a refusal of a message that could not be read as a whole."""
