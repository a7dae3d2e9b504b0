"""Calls as values: what each method sends and how its answer is read.

Both clients are made of these; neither knows more of the protocol than how to carry a
`Call` there and its answer back.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, Final, Generic, TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from recordd_client.errors import InvalidValue, ProtocolError, refusal_of
from recordd_client.rows import Row, decode_row
from recordd_protocol import PROTOCOL_VERSION, methods
from recordd_protocol.methods import METHODS

__all__ = ["Answer", "Call", "WriteItem", "encode_request", "encode_value", "read_answers"]

T = TypeVar("T")

WriteItem = tuple[str, Any] | tuple[str, Any, int | None]
"""Name, value, and optionally `ts` in Unix ms."""


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

    def result_or_raise(self) -> msgspec.Raw:
        """Return the raw result, or raise what the error means."""
        if self.error is not None:
            raise refusal_of(self.error.code, self.error.message)
        return self.result


_decode_answer: Final = msgspec.json.Decoder(Answer).decode
_decode_answers: Final = msgspec.json.Decoder(list[Answer]).decode


def encode_request(call: Call[Any], id: int) -> bytes:
    """Return the call as a JSON-RPC request, without a line end."""
    params = _without_defaults(call.params)
    return msgspec.json.encode(
        {"jsonrpc": "2.0", "id": id, "method": call.method, "params": params}
    )


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


def encode_value(value: Any) -> msgspec.Raw:
    """Encode a value; a `msgspec.Raw` is taken to be JSON text already.

    Raises:
        InvalidValue: for what JSON cannot hold; msgspec alone would write NaN as null.
    """
    try:
        if isinstance(value, msgspec.Raw):
            text = bytes(value)
            is_one_line = b"\n" not in text and b"\r" not in text
            # A line break between two tokens would end the request in its middle.
            return value if is_one_line else msgspec.Raw(msgspec.json.format(text, indent=-1))
        encoded = msgspec.json.encode(value)
        if b"null" in encoded and _has_non_finite(msgspec.to_builtins(value)):
            raise InvalidValue("a value must not hold NaN or an infinity")
    except (TypeError, msgspec.MsgspecError, RecursionError, UnicodeEncodeError) as error:
        raise InvalidValue(str(error)) from None
    return msgspec.Raw(encoded)


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


def set_many(records: Iterable[WriteItem]) -> Call[methods.WrittenMany]:
    """Write many rows."""
    items = [
        methods.WriteItem(
            record[0], encode_value(record[1]), record[2] if len(record) > 2 else None
        )
        for record in records
    ]
    return Call("record.set_many", methods.SetMany(items))


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
    return {
        field.name: value
        for field in msgspec.structs.fields(params)
        if (value := getattr(params, field.name)) is not UNSET
        and (field.required or value != field.default)
    }


def _has_non_finite(value: Any) -> bool:
    if isinstance(value, float):
        return not math.isfinite(value)
    if isinstance(value, dict):
        return any(map(_has_non_finite, value.values()))
    if isinstance(value, list | tuple):
        return any(map(_has_non_finite, value))
    return False
