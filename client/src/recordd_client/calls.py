"""Calls as values: what each method sends and how its answer is read.

Both clients are made of these; neither knows more of the protocol than how to carry a
`Call` there and its answer back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Generic, TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from recordd_client.errors import ClientError, InvalidValue, ProtocolError, TooLarge, refusal_of
from recordd_client.rows import Row, decode_row
from recordd_client.values import encode_json, encode_value
from recordd_protocol import PROTOCOL_VERSION, methods
from recordd_protocol.errors import Reason
from recordd_protocol.methods import METHODS

__all__ = [
    "ALWAYS_TAKEN_BYTES",
    "DEFAULT_MAX_MESSAGE_BYTES",
    "PAGING_ATTEMPTS",
    "Answer",
    "Call",
    "WriteItem",
    "check_size",
    "encode_request",
    "read_answers",
]

T = TypeVar("T")

WriteItem = (
    tuple[str, Any]
    | tuple[str, Any, int | None]
    | tuple[str, Any, int | None, int | None]
    | Row[Any]
)
"""Name, value, and optionally `ts` in Unix ms and `if_rev`; or a row as a query returns it."""

ALWAYS_TAKEN_BYTES: Final = 1024
"""No daemon takes less in one message: up to here nobody has to ask for its limit."""

DEFAULT_MAX_MESSAGE_BYTES: Final = 1 << 20
"""The limit of a daemon that does not tell its own."""


class Call(Generic[T]):
    """A method with its parameters, and what its result is decoded to."""

    def __init__(
        self,
        method: str,
        params: msgspec.Struct,
        convert: Callable[[Any], T] | None = None,
    ) -> None:
        self.method: Final = method
        self.params: Final = params
        self.is_write: Final = METHODS[method].is_write
        self.is_drain: Final = method == "record.drain"
        """Whether it goes on from where the connection's previous one ended."""
        self._result: Final = METHODS[method].result
        self._convert: Final = convert

    def decode(self, result: msgspec.Raw) -> T:
        """Return the typed result.

        Raises:
            ProtocolError: where the answer is not what the method returns.
        """
        try:
            decoded = msgspec.json.decode(result, type=self._result)
        except msgspec.ValidationError as error:
            raise ProtocolError(f"{self.method}: {error}") from None
        converted: T = decoded if self._convert is None else self._convert(decoded)
        return converted


class _WireError(msgspec.Struct):
    code: int
    message: str


class Answer(msgspec.Struct):
    """A message from the daemon: an answer, or what has no id, such as an event (`params`)."""

    id: int | None = None
    result: msgspec.Raw = msgspec.Raw(b"")
    error: _WireError | None = None
    params: methods.Event | None = None

    @property
    def refuses_connection(self) -> bool:
        """Whether the daemon refuses what comes and closes: none of it takes effect."""
        codes = (Reason.TOO_LARGE.code, Reason.OVERLOADED.code)
        return self.id is None and self.error is not None and self.error.code in codes

    def error_or_none(self) -> ClientError | None:
        """Return what the error means, or None where there is a result."""
        return None if self.error is None else refusal_of(self.error.code, self.error.message)

    def result_or_raise(self) -> msgspec.Raw:
        """Return the raw result, or raise what the error means."""
        if (error := self.error_or_none()) is not None:
            raise error
        return self.result


PAGING_ATTEMPTS: Final = 3
"""How often all pages are asked for: rows may be deleted behind a page while the next comes."""

_ROW_SHAPE: Final = "rows are (name, value), (name, value, ts) or (name, value, ts, if_rev)"

_decode_answer: Final = msgspec.json.Decoder(Answer).decode
_decode_answers: Final = msgspec.json.Decoder(list[Answer]).decode


def encode_request(call: Call[Any], id: int) -> bytes:
    """Return the call as a JSON-RPC request, without a line end.

    Raises:
        InvalidValue: where a parameter cannot be written as JSON.
    """
    try:
        params = _without_defaults(call.params)
        return encode_json({"jsonrpc": "2.0", "id": id, "method": call.method, "params": params})
    except InvalidValue as error:
        raise InvalidValue(f"{call.method}: {error}") from None


def check_size(call: Call[Any], request: bytes, max_message_bytes: int) -> None:
    """Refuse what the daemon would refuse: it closes the connection with that.

    Raises:
        TooLarge: nothing was sent.
    """
    if len(request) > max_message_bytes:
        text = f"{call.method}: a request of {len(request)} bytes, the daemon takes"
        raise TooLarge(f"{text} {max_message_bytes} (its max_message_bytes)")


def read_answers(message: bytes | str) -> list[Answer]:
    """Read one message from the daemon; several events may come as an array.

    Raises:
        ProtocolError: where it is none.
    """
    try:
        if message[:1] in (b"[", "["):
            return _decode_answers(message)
        return [_decode_answer(message)]
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ProtocolError(f"the daemon sent no JSON-RPC: {error}") from None


def hello(client: str, auth_token: str | None) -> Call[methods.Welcome]:
    """Introduce the client."""
    return Call("hello", methods.Hello(client, PROTOCOL_VERSION, auth_token))


def probe() -> Call[methods.Welcome]:
    """Ask for any sign of life."""
    return hello("recordd-client", None)


def list_records(name: str, after: int, limit: int | None) -> Call[list[methods.RecordInfo]]:
    """List records."""
    return Call("record.list", methods.List(name, after, limit))


def get(name: str, as_type: Any) -> Call[Row[Any]]:
    """Read the latest row of one record."""
    return Call("record.get", methods.Get(name), lambda record: decode_row(record, as_type))


def set_record(name: str, value: Any, ts: int | None, if_rev: int | None) -> Call[methods.Written]:
    """Write one value."""
    return Call("record.set", methods.Set(name, encode_value(value), ts, if_rev))


def set_many(records: Iterable[WriteItem], rows: bool = False) -> Call[methods.WrittenMany]:
    """Write many rows."""
    if isinstance(records, Mapping | str | bytes) or not isinstance(records, Iterable):
        text = f"records: {_ROW_SHAPE}, not {type(records).__name__}"
        hint = "; of a dict from name to value, pass items()"
        raise InvalidValue(text + hint * isinstance(records, Mapping))
    items = [_make_item(index, record) for index, record in enumerate(records)]
    return Call("record.set_many", methods.SetMany(items, rows))


def _make_item(index: int, record: Any) -> methods.WriteItem:
    if isinstance(record, Row):
        record = (record.name, record.value, record.ts)
    is_row = isinstance(record, tuple | list) and len(record) in (2, 3, 4)
    if not is_row or not isinstance(record[0], str):
        raise InvalidValue(f"records[{index}]: {_ROW_SHAPE}, not {record!r:.80}")
    name, value, ts, if_rev = (*record, None, None)[:4]
    if ts is not None and type(ts) is not int:
        raise InvalidValue(f"records[{index}].ts: Unix milliseconds as an int, not {ts!r:.80}")
    if if_rev is not None and type(if_rev) is not int:
        raise InvalidValue(f"records[{index}].if_rev: a rev as an int, not {if_rev!r:.80}")
    try:
        return methods.WriteItem(name, encode_value(value), ts, if_rev)
    except InvalidValue as error:
        raise InvalidValue(f"records[{index}].value: {error}") from None


def query(
    name: str | list[str],
    limit: int | UnsetType | None,
    start: int | None,
    end: int | None,
    after: str | None,
) -> Call[methods.Records]:
    """Read a page of latest values or history."""
    return Call("record.query", methods.Query(name, limit, start, end, after))


def replay(
    after: int | str, epoch: str | None, name: str, limit: int | None
) -> Call[methods.Records]:
    """Read a page of the log."""
    return Call("record.replay", methods.Replay(after, epoch, name, limit))


def at(rev: int, as_type: Any) -> Call[Row[Any]]:
    """Read the row of one commit number."""
    return Call("record.at", methods.At(rev), lambda record: decode_row(record, as_type))


def count(name: str) -> Call[methods.Counts]:
    """Count records and rows."""
    return Call("record.count", methods.Count(name))


def drain(name: str, limit: int | None) -> Call[list[Any]]:
    """Read the values since the previous drain."""
    return Call(
        "record.drain",
        methods.Drain(name, limit),
        lambda drained: [msgspec.json.decode(value) for value in drained.values],
    )


def delete(name: str) -> Call[int]:
    """Delete a record; the number of its rows comes back."""
    return Call("record.delete", methods.Delete(name), lambda deleted: int(deleted.deleted))


def trim(name: str, newer_than: int) -> Call[methods.Trimmed]:
    """Delete rows ahead of a time, or a part of them."""
    return Call("record.trim", methods.Trim(name, newer_than))


def without_params(method: str) -> Call[Any]:
    """Call a method that takes no parameters."""
    return Call(method, methods.NoParams())


def next_page(call: Call[methods.Records], page: methods.Records) -> Call[methods.Records] | None:
    """Return the call for the page behind `page`, or None where it was the last."""
    if page.next is UNSET:
        return None
    return Call(call.method, msgspec.structs.replace(call.params, after=page.next))


def _without_defaults(params: msgspec.Struct) -> dict[str, Any]:
    """Return the parameters that are not what they would be if left out.

    An explicit null says something else than nothing: `limit` null means all.
    """
    given = {}
    for field in msgspec.structs.fields(params):
        value = getattr(params, field.name)
        if isinstance(value, bytes | bytearray | memoryview):
            # They would go out as base64, and name another record than was meant.
            raise InvalidValue(f"{field.name}: text, not {type(value).__name__}")
        if value is not UNSET and (field.required or value != field.default):
            given[field.name] = value
    return given
