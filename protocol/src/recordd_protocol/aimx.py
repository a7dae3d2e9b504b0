"""AimX 3.0, the protocol of AimDB, as a dialect: one flat object a message, tagged `t`.

AimDB's decoder borrows `t`, `method`, `topic`, `sub` and `err` from its input and drops a
frame in which one of them has an escape: text written there never needs one. It
reads `"ok":null` as absent, and its caller waits for ever: null is refused instead.
Malformed frames and unknown tags have no answer (`aimdb-core`, `session/aimx/codec.rs`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec
from msgspec import Raw

from recordd_protocol import methods
from recordd_protocol.aimx_events import AimxEvents
from recordd_protocol.aimx_params import READERS, Follow, unwrap
from recordd_protocol.aimx_plain import make_plain_decoder
from recordd_protocol.aimx_replies import encode_refusal, encode_reply, render
from recordd_protocol.dialect import Call, Malformed, Result
from recordd_protocol.errors import Reason, RequestError
from recordd_protocol.framing import Framing
from recordd_protocol.mending import FLAW, UNREADABLE, mend
from recordd_protocol.patterns import Pattern

__all__ = ["Aimx"]

_NO_PARAMS: Final = b"{}"
_ID_END: Final = 2**64
"""AimDB's ids are unsigned and have 64 bits."""

_FLAWED_FRAME: Final = RequestError(Reason.INVALID_PARAMS, f"params: text {FLAW}")


class _Tag(msgspec.Struct):
    """The members that tell the dialects apart."""

    t: Raw = Raw(b"")
    jsonrpc: Raw = Raw(b"")


class _Frame(msgspec.Struct):
    """An incoming frame; which members it needs, its tag says. Others are ignored."""

    t: str
    id: int = -1
    method: str = ""
    topic: str | None = None
    sub: str | None = None
    params: Raw = Raw(b"")
    payload: Raw = Raw(b"null")


_decode_tag: Final = msgspec.json.Decoder(_Tag).decode
_decode_frame: Final = msgspec.json.Decoder(_Frame).decode


class Aimx:
    """The dialect, on one kind of transport, with the limit that its answers keep."""

    name: Final = "aimx"

    def __init__(self, framing: Framing, *, max_reply_bytes: int) -> None:
        self.framing: Final = framing
        self.max_reply_bytes: Final = max_reply_bytes
        self.decode_plain: Final = make_plain_decoder(max_reply_bytes)
        """See `Dialect.decode_plain`."""
        self._decoders: Final[dict[str, Callable[[_Frame], Call | Malformed | bytes]]] = {
            "req": self._decode_request,
            "sub": self._decode_subscribe,
            "unsub": self._decode_unsubscribe,
            "write": self._decode_write,
            "ping": _answer_ping,
        }

    def claims(self, message: bytes) -> bool:
        """Claim a message with a `t` and without `jsonrpc`, in whatever order."""
        head = message[:5]
        if head == b'{"t":':
            # Most frames lack the text searched for; the search costs less than a decode.
            return b'"jsonrpc"' not in message or _is_tagged(message, default=True)
        if head == b'{"jso' or b'"t"' not in message:
            return False
        return _is_tagged(message, default=False)

    def decode(self, message: bytes) -> list[Call | Malformed | bytes]:
        """Return the call in a frame; see `Dialect.decode`."""
        try:
            if not message.isascii():
                message.decode()
            frame = _decode_frame(message)
            return [self._decoders[frame.t](frame)]
        except KeyError:
            return [Malformed(f"unknown tag {frame.t[:20]!a}")]
        except msgspec.ValidationError as error:
            return [Malformed(str(error))]
        except UNREADABLE as error:
            return [self._decode_flawed(message) or Malformed(str(error))]

    def _decode_flawed(self, message: bytes) -> Call | None:
        """Return the call in a frame that can only be read in part: it is refused."""
        mended = mend(message)
        if mended == message:
            return None
        try:
            frame = _decode_frame(mended)
        except UNREADABLE:
            return None
        if frame.t == "write":
            return _UnansweredCall("record.set", _FLAWED_FRAME)
        if not 0 <= frame.id < _ID_END:
            return None
        if frame.t == "req":
            return _ReqCall(self, frame, _FLAWED_FRAME)
        return _SubCall(self, frame.id, _FLAWED_FRAME) if frame.t == "sub" else None

    def refuse_message(self, error: RequestError) -> None:
        """Say nothing: there is no id to say it to."""

    def _decode_request(self, frame: _Frame) -> Call | Malformed:
        if not 0 <= frame.id < _ID_END or not frame.method:
            return Malformed("req: needs an unsigned id and a method")
        reader = READERS.get(frame.method)
        try:
            if reader is None:
                text = f"there is no method {frame.method[:100]!r}"
                raise RequestError(Reason.METHOD_NOT_FOUND, text)
            params = bytes(frame.params)
            return _ReqCall(self, frame, reader(params if params[:1] == b"{" else _NO_PARAMS))
        except RecursionError:
            refusal = RequestError(Reason.INVALID_PARAMS, "params: nested too deep")
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            refusal = RequestError(Reason.INVALID_PARAMS, str(error).replace("`$.", "`"))
        except RequestError as error:
            refusal = error
        return Malformed(refusal.message, encode_refusal(frame.id, refusal))

    def _decode_subscribe(self, frame: _Frame) -> Call | Malformed:
        if not 0 <= frame.id < _ID_END or frame.topic is None:
            return Malformed("sub: needs an unsigned id and a topic")
        must_exist = self.framing is Framing.LINE
        return _SubCall(self, frame.id, Follow(frame.topic, must_exist=must_exist))

    def _decode_unsubscribe(self, frame: _Frame) -> Call | Malformed:
        if frame.sub is None:
            return Malformed("unsub: needs a sub")
        return _UnansweredCall("record.unsubscribe", methods.Unsubscribe(frame.sub))

    def _decode_write(self, frame: _Frame) -> Call | Malformed:
        if frame.topic is None:
            return Malformed("write: needs a topic")
        try:
            value = unwrap(frame.payload) if self.framing is Framing.LINE else frame.payload
        except RecursionError:
            return _UnansweredCall("record.set", _FLAWED_FRAME)
        return _UnansweredCall("record.set", methods.Set(frame.topic, value))


def _is_tagged(message: bytes, *, default: bool) -> bool:
    """Tell whether the members say AimX; `default` where they cannot be read."""
    for text in (message, mend(message)):
        try:
            tag = _decode_tag(text)
        except UNREADABLE:
            continue
        return bool(tag.t) and not tag.jsonrpc
    return default


def _answer_ping(frame: _Frame) -> bytes:
    return b'{"t":"pong"}'


class _AimxCall:
    """The common part of all calls of the dialect."""

    __slots__ = ("method", "params")

    wants_answer = True
    subscription_id: str | None = None

    def __init__(self, method: str, params: msgspec.Struct | RequestError) -> None:
        self.method: Final = method
        self.params: Final = params

    @property
    def max_reply_bytes(self) -> int:
        return 0  # only a `req` is answered with more than a few words

    def encode_events(self, subscription_id: str, pattern: Pattern) -> AimxEvents:
        raise AssertionError("only `sub` opens a subscription")


class _ReqCall(_AimxCall):
    """A `req`."""

    __slots__ = ("_dialect", "_id")

    def __init__(self, dialect: Aimx, frame: _Frame, params: msgspec.Struct | RequestError) -> None:
        super().__init__(frame.method, params)
        self._dialect: Final = dialect
        self._id: Final = frame.id

    @property
    def max_reply_bytes(self) -> int:
        return self._dialect.max_reply_bytes

    def answer(self, result: Result) -> bytes:
        return encode_reply(self._id, render(result, self.params), self._dialect.max_reply_bytes)

    def refuse(self, error: RequestError) -> bytes:
        return encode_refusal(self._id, error)


class _SubCall(_AimxCall):
    """A `sub`: success is told by events, and over WebSocket by `subscribed` before them."""

    __slots__ = ("_dialect", "_id", "subscription_id")

    def __init__(self, dialect: Aimx, id: int, params: Follow | RequestError) -> None:
        super().__init__("record.subscribe", params)
        self.subscription_id = str(id)
        self._dialect: Final = dialect
        self._id: Final = id

    def answer(self, result: Result) -> bytes | None:
        if self._dialect.framing is Framing.LINE:
            return None
        return b'{"t":"subscribed","sub":"%d"}' % self._id

    def refuse(self, error: RequestError) -> bytes:
        return encode_refusal(self._id, error)

    def encode_events(self, subscription_id: str, pattern: Pattern) -> AimxEvents:
        return AimxEvents(subscription_id, self._dialect.framing, pattern)


class _UnansweredCall(_AimxCall):
    """An `unsub` or a `write`."""

    __slots__ = ()

    wants_answer = False

    def answer(self, result: Result) -> None:
        """Say nothing."""

    def refuse(self, error: RequestError) -> None:
        """Say nothing."""
