"""Plain requests come to the same as the long way, and all others are left to it."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest

from recordd_protocol.aimx import Aimx
from recordd_protocol.dialect import Call, Dialect, Malformed, Result
from recordd_protocol.errors import Reason, RequestError
from recordd_protocol.framing import Framing
from recordd_protocol.jsonrpc import JsonRpc
from recordd_protocol.methods import METHODS, Written
from recordd_protocol.patterns import compile_pattern
from recordd_protocol.rows import Page, Row, RowKind

MAX_REPLY_BYTES = 2000
AIMX = Aimx(Framing.LINE, max_reply_bytes=MAX_REPLY_BYTES)
JSONRPC = JsonRpc(Framing.LINE, max_reply_bytes=MAX_REPLY_BYTES, max_batch_calls=10)
DIALECTS: Sequence[Dialect] = (AIMX, JSONRPC)

ROW = Row("a", b'{"v":1}', 2, 3)
RESULTS: Sequence[Result] = (
    ROW,
    Row("a", b"null", 2, None),
    Row("a", b'"%b"' % (b"x" * MAX_REPLY_BYTES), 2, 3),
    Page([ROW], rev=3, epoch="e"),
    b"[1]",
    {"a": 1},
    None,
)
REFUSALS = (
    RequestError(Reason.NOT_FOUND, 'record "ü" does not exist'),
    RequestError(Reason.INTERNAL, "x" * 1000),
)

IDS = ["1", "0", "-0", "1.0", "1e3", "18446744073709551616", "-7", '"a"', '""', r'"\u00fc\/"', '"ü"',
       r'"\ud800"', "null", "true", "[1]", "{}", '"' + "i" * 1030 + '"', "1" * 1030, "NaN", "01",
       "9223372036854775808", "9223372036854775807", '"\x01"', '"\n"']  # fmt: skip
TEXTS = ['"a"', '"temp.vienna"', '""', '"ü"', r'"\u0061"', r'"\ud83d\ude00"', r'"\ud800"', "1",
         "null", '["a","b"]', '"#"', '"' + "n" * 300 + '"', '"a b"', '"\x00"']  # fmt: skip
VALUES = ["1", "null", '{"a":[1,2]}', "[" * 90 + "]" * 90, "[" * 1200 + "]" * 1200, "1e400", "NaN",
          "1" * 400, r'"\ud800"', '"ü"', "{", '{"value":1}', ' {"a" : 1 } ', '"\n"']  # fmt: skip
NUMBERS = ["0", "1", "-1", "1.0", "1.5", "9223372036854775808", "1e30", "null", '"1"', "true"]
METHODS_AS_TEXT = [
    *(f'"{name}"' for name in METHODS),
    '"nothing"',
    r'"record\u002eget"',
    '"ü"',
    "1",
]
SOME_KEYS = [
    "name",
    "value",
    "ts",
    "if_rev",
    "limit",
    "after",
    "snapshot",
    "records",
    "client",
    "x",
]


def pick(chance: random.Random, pool: list[str]) -> str:
    """Mostly one of the first two, with which nothing is wrong."""
    return chance.choice(pool[:2]) if chance.random() < 0.75 else chance.choice(pool)


def make_object(chance: random.Random, members: list[tuple[str, str]]) -> str:
    """Write an object; now and then with a member twice, or one that nobody knows."""
    if chance.random() < 0.1:
        members.append(chance.choice(members) if members else ("a", "1"))
    if chance.random() < 0.05:
        members.append((chance.choice(["extra", "t", "jsonrpc", r"m\u0065thod", "ü"]), '"req"'))
    if chance.random() < 0.3:
        chance.shuffle(members)
    space = chance.choice(["", "", "", " ", "\t", "\n"])
    return "{%s}" % f",{space}".join(f'"{key}":{space}{value}' for key, value in members)


def make_params(chance: random.Random, method: str) -> str:
    if chance.random() < 0.1:
        return chance.choice(["null", "[]", "1", '"a"', "[1]"])
    known = [f.name for f in msgspec.structs.fields(METHODS[method].params)] or ["name"]
    keys = [key for key in known if chance.random() < 0.85]
    if chance.random() < 0.1:
        keys.append(chance.choice(SOME_KEYS))
    pools = {
        "value": VALUES,
        "name": TEXTS,
        "client": TEXTS,
        "records": ['[{"name":"a","value":1}]'],
    }
    return make_object(chance, [(k, pick(chance, pools.get(k, NUMBERS))) for k in keys])


def make_message(chance: random.Random) -> bytes:
    """Write a message of either dialect: many as they should be, many not."""
    method = chance.choice([*["record.get", "record.set"] * 5, *METHODS])
    as_text = f'"{method}"' if chance.random() < 0.9 else chance.choice(METHODS_AS_TEXT)
    members = [("method", as_text)]
    if chance.random() < 0.4:
        tag = '"req"' if chance.random() < 0.9 else chance.choice(['"sub"', '"write"', "1", "null"])
        members.insert(0, (chance.choice(["t", "t", "t", "t", r"\u0074"]), tag))
    else:
        version = '"2.0"' if chance.random() < 0.95 else chance.choice(['"1.0"', "2", "null"])
        members.insert(0, (chance.choice(["jsonrpc"] * 9 + [r"json\u0072pc"]), version))
    if chance.random() < 0.9:
        members.append(("id", pick(chance, IDS)))
    if chance.random() < 0.9:
        members.append(("params", make_params(chance, method)))
    message = make_object(chance, members).encode("utf-8", "surrogatepass")
    return damage(chance, message) if chance.random() < 0.2 else message


def damage(chance: random.Random, message: bytes) -> bytes:
    at = chance.randrange(len(message))
    return chance.choice([
        message[:at],
        message[:at] + bytes([chance.randrange(256)]) + message[at + 1 :],
        message[:at] + b"\xff" + message[at:],
        message + b"{}",
        b"\xef\xbb\xbf" + message,
        b" " + message + b" ",
        b"[" + message + b"]",
    ])  # fmt: skip


def decode_long(message: bytes) -> tuple[Dialect, Call | Malformed | bytes]:
    dialect = next(dialect for dialect in DIALECTS if dialect.claims(message))
    (item,) = dialect.decode(message)
    return dialect, item


def typed_params(call: Call) -> Any:
    if isinstance(call.params, bytes):
        return msgspec.json.decode(call.params, type=METHODS[call.method].params)
    return call.params


def as_text(params: Any) -> str:
    """Write parameters down, and the bytes that are `Raw` in them."""
    return json.dumps(msgspec.to_builtins(params, enc_hook=lambda raw: bytes(raw).hex()))


def encode_all(make_call: Callable[[], Call]) -> list[bytes | None]:
    """Return each answer and refusal that a call can come to."""
    method = make_call().method
    results = [*RESULTS, Written(rev=1, ts=2)] if method == "record.set" else RESULTS
    answers = [make_call().answer(result) for result in results]
    return answers + [make_call().refuse(error) for error in REFUSALS]


def check_alike(dialect: Dialect, message: bytes) -> bool:
    """Compare the ways of a message; return whether it was taken for plain."""
    calls = dialect.decode_plain([message])
    if not calls:
        return False
    claiming, slow = decode_long(message)
    assert claiming is dialect, message
    assert not isinstance(slow, Malformed | bytes), message
    (plain,) = calls
    assert plain.method == slow.method
    assert as_text(plain.params) == as_text(typed_params(slow)), message
    assert plain.wants_answer == slow.wants_answer
    assert plain.subscription_id == slow.subscription_id
    assert plain.max_reply_bytes == slow.max_reply_bytes

    def decode_slowly() -> Call:
        item = decode_long(message)[1]
        assert not isinstance(item, Malformed | bytes)
        return item

    assert encode_all(lambda: dialect.decode_plain([message])[0]) == encode_all(decode_slowly)
    return True


@pytest.mark.parametrize("seed", range(4))
def test_what_is_plain_comes_to_the_same_as_on_the_long_way(seed: int) -> None:
    chance = random.Random(seed)
    messages = [make_message(chance) for _ in range(400)]
    taken = [[m for m in messages if check_alike(dialect, m)] for dialect in DIALECTS]
    assert all(len(plain) > 2 for plain in taken), "the messages show nothing"
    assert sum(map(len, taken)) < len(messages) * 3 // 4


@pytest.mark.parametrize("method", METHODS)
def test_a_request_of_every_method_is_plain(method: str) -> None:
    required = {"name": "a", "client": "c", "value": 1, "after": 0, "rev": 1, "newer_than": 1}
    required |= {"records": [{"name": "a", "value": 1}], "subscription": "s"}
    fields = msgspec.structs.fields(METHODS[method].params)
    params = {f.name: required[f.name] for f in fields if f.required}
    request = {"jsonrpc": "2.0", "id": 1, "method": method}
    assert check_alike(JSONRPC, json.dumps(request | {"params": params}).encode())
    assert check_alike(JSONRPC, json.dumps(request).encode()) == (not params)


@pytest.mark.parametrize(
    "message",
    [
        b'{"jsonrpc":"2.0","id":"\xff","method":"record.get","params":{"name":"a"}}',
        b'{"jsonrpc":"2.0","id":1,"method":"record.set","params":{"name":"a","value":"\xff"}}',
        b'{"jsonrpc":"2.0","id":1,"method":"record.get","method":"record.at","params":{"name":"a"}}',
        b'{"jsonrpc":"2.0","id":1,"method":"record.get","params":{"name":"a"},"x":1}',
        b'{"jsonrpc":"2.0","id":1,"method":"record.get","params":{"name":"a","x":1}}',
        b'{"jsonrpc":"2.0","id":true,"method":"record.get","params":{"name":"a"}}',
        b'{"jsonrpc":"2.0","id":"%b","method":"record.get","params":{"name":"a"}}' % (b"i" * 1023),
        b'{"jsonrpc":"2.0","id":1,"method":"record.get","params":{"name":"a"}}}',
        b'{"jsonrpc":"2.0","id":1,"method":"hello","params":null}',
        b'{"jsonrpc":"2.0","t":"req","id":1,"method":"record.get","params":{"name":"a"}}',
        b'{"t":"req","id":18446744073709551615,"method":"record.get","params":{"name":"a"}}',
        b'{"t":"req","id":-1,"method":"record.get","params":{"name":"a"}}',
        rb'{"\u0074":"req","id":1,"method":"record.get","params":{"name":"a"}}',
        b'{"t":"req","id":1,"method":"record.get","params":{"name":"a","limit":1}}',
        b'[{"jsonrpc":"2.0","id":1,"method":"record.get","params":{"name":"a"}}]',
        b"",
        b"\x00",
    ],
)
def test_everything_else_is_left_to_the_long_way(message: bytes) -> None:
    assert [list(dialect.decode_plain([message])) for dialect in DIALECTS] == [[], []]


def get(number: int, name: str = "a") -> bytes:
    params = '{"name":"%s"}' % name
    return b'{"jsonrpc":"2.0","id":%d,"method":"record.get","params":%b}' % (
        number,
        params.encode(),
    )


@pytest.mark.parametrize("bad", [b"1", get(9)[:-1], get(9).replace(b"9", b"[]"),
                                 get(9).replace(b"a", b"\xff"), b'{"id":"\xff"}'])  # fmt: skip
@pytest.mark.parametrize("position", range(4))
def test_a_burst_is_read_up_to_the_first_that_is_not_plain(bad: bytes, position: int) -> None:
    burst = [get(0), get(1, "ü"), get(2)]
    burst.insert(position, bad)
    calls = JSONRPC.decode_plain(burst)
    assert [call.answer({}) for call in calls] == [
        b'{"jsonrpc":"2.0","id":%d,"result":{}}' % n for n in range(position)
    ]


@pytest.mark.parametrize("limit", [60, MAX_REPLY_BYTES, 1 << 20])
@pytest.mark.parametrize("is_aimx", [False, True])
@pytest.mark.parametrize("method", ["record.get", "record.set"])
def test_calls_that_are_answered_together_have_the_answers_of_each(
    limit: int, is_aimx: bool, method: str
) -> None:
    rows = [
        Row("a", value, 1_700_000_000_000 + number, rev, kind)
        for number, value in enumerate([b"1", b"null", b'"%b"' % (b"x" * 2 * MAX_REPLY_BYTES)])
        for rev in (None, 7, 2**63 - 1)
        for kind in (RowKind.LATEST, RowKind.LATE)
    ]
    head = '"t":"req"' if is_aimx else '"jsonrpc":"2.0"'
    value = "" if method == "record.get" else f',"value":"{"v" * 900}"'
    ids = [str(n) for n in range(len(rows))]
    if not is_aimx:
        ids[:5] = ['"\\u00fc"', "null", "1.0", "", '"%s"' % ("i" * 1000)]
    texts = [f'"id":{own},' if own else "" for own in ids]
    messages = [
        f'{{{head},{text}"method":"{method}","params":{{"name":"a"{value}}}}}' for text in texts
    ]
    dialect: Dialect = (
        Aimx(Framing.LINE, max_reply_bytes=limit)
        if is_aimx
        else JsonRpc(Framing.LINE, max_reply_bytes=limit, max_batch_calls=1)
    )
    calls = dialect.decode_plain([message.encode() for message in messages])
    assert len(calls) == len(rows)

    def answer_each(results: Sequence[Result]) -> list[bytes]:
        answers = [call.answer(result) for call, result in zip(calls, results, strict=True)]
        return [answer for answer in answers if answer is not None]

    if method == "record.get":
        assert calls[0].answer_rows(calls, rows) == answer_each(rows)
    else:
        written = [Written(rev=r.rev, ts=r.ts, late=r.kind is RowKind.LATE) for r in rows]
        late = {place for place, result in enumerate(written) if result.late}
        columns = [row.rev for row in rows], [row.ts for row in rows]
        assert calls[0].answer_written(calls, *columns, late) == answer_each(written)
        some_late = [Written(rev=7, ts=row.ts, late=place == 1) for place, row in enumerate(rows)]
        answers = calls[0].answer_written(calls, [7] * len(rows), columns[1], {1})
        assert answers == answer_each(some_late)
        plain = [Written(rev=7, ts=row.ts) for row in rows]
        assert calls[0].answer_written(calls, [7] * len(rows), columns[1], ()) == answer_each(plain)


def test_plain_subscriptions_have_the_events_of_others() -> None:
    message = b'{"jsonrpc":"2.0","id":1,"method":"record.subscribe","params":{"name":"#"}}'
    (plain,), slow = JSONRPC.decode_plain([message]), decode_long(message)[1]
    assert not isinstance(slow, Malformed | bytes)
    pattern = compile_pattern("#")
    assert plain.encode_events("s", pattern).encode([ROW]) == slow.encode_events(
        "s", pattern
    ).encode([ROW])


def test_subscriptions_of_one_id_have_one_encoder() -> None:
    message = b'{"jsonrpc":"2.0","id":1,"method":"record.subscribe","params":{"name":"#"}}'
    pattern = compile_pattern("#")
    first, second = (JSONRPC.decode_plain([message])[0] for _ in range(2))
    slow = decode_long(message)[1]
    assert not isinstance(slow, Malformed | bytes)
    assert first.encode_events("s", pattern) is second.encode_events("s", pattern)
    assert first.encode_events("s", pattern) is not first.encode_events("t", pattern)
    again = decode_long(message)[1]
    assert not isinstance(again, Malformed | bytes)
    assert slow.encode_events("s", pattern) is again.encode_events("s", pattern)
