"""JSON-RPC's events, byte for byte."""

from __future__ import annotations

import json
from typing import Any

from recordd_protocol.framing import Framing
from recordd_protocol.jsonrpc_events import JsonRpcEvents, share_events
from recordd_protocol.rows import Row, RowKind

LATEST = Row("ü", b'{"a":1}', 5, 7)
LATE = Row("b", b"1", 4, 8, RowKind.LATE)
DELETED = Row("c", b"null", 6, 9, RowKind.DELETED)


def make(framing: Framing, max_message_bytes: int = 10_000) -> JsonRpcEvents:
    return JsonRpcEvents("s1", framing, max_message_bytes)


def params_of(message: bytes) -> list[Any]:
    """Return the parameters of each notification in a message of either framing."""
    if message[:1] == b"[":
        return [event["params"] for event in json.loads(message)]
    return [json.loads(line)["params"] for line in message.split(b"\n")]


def test_on_lines_each_event_is_a_line() -> None:
    (message,) = make(Framing.LINE).encode([LATEST, LATE])
    assert (
        message
        == (
            '{"jsonrpc":"2.0","method":"record.event","params":'
            '{"subscription":"s1","name":"ü","value":{"a":1},"ts":5,"rev":7}}\n'
            '{"jsonrpc":"2.0","method":"record.event","params":'
            '{"subscription":"s1","name":"b","value":1,"ts":4,"rev":8,"late":true}}'
        ).encode()
    )


def test_in_frames_one_event_goes_alone_and_several_as_an_array() -> None:
    events = make(Framing.FRAME)
    assert events.encode([LATEST])[0].startswith(b'{"jsonrpc"')
    (several,) = events.encode([LATEST, DELETED])
    assert several.startswith(b'[{"jsonrpc"')
    assert [event.get("deleted") for event in params_of(several)] == [None, True]


def test_the_first_event_tells_how_many_were_skipped_before_it() -> None:
    for framing in Framing:
        (message,) = make(framing).encode([LATEST, LATE], skipped=3)
        assert [event.get("skipped") for event in params_of(message)] == [3, None]


def test_the_last_of_a_snapshot_says_so() -> None:
    events = make(Framing.LINE)
    (burst,) = events.encode_snapshot([LATEST, DELETED], is_last=True)
    assert [(e["snapshot"], e.get("last")) for e in params_of(burst)] == [
        (True, None),
        (True, True),
    ]
    (more_follow,) = events.encode_snapshot([LATEST], is_last=False)
    assert "last" not in params_of(more_follow)[0]


def test_a_resync_is_about_no_record() -> None:
    (message,) = make(Framing.FRAME).encode_resync(rev=9, epoch="e", oldest_rev=4, values=2)
    assert params_of(message) == [
        {
            "subscription": "s1",
            "resync": True,
            "values": 2,
            "rev": 9,
            "epoch": "e",
            "oldest_rev": 4,
        }
    ]


def test_an_array_keeps_to_the_limit_unless_one_event_is_longer() -> None:
    rows = [Row("a", b'"%b"' % (b"x" * n), 1, n) for n in (10, 60, 500, 20, 30, 40)]
    limit = 400
    messages = make(Framing.FRAME, limit).encode(rows)
    assert [e["rev"] for m in messages for e in params_of(m)] == [row.rev for row in rows]
    assert all(len(m) <= limit or len(params_of(m)) == 1 for m in messages)
    together = [len(params_of(m)) for m in messages]
    assert together == [2, 1, 2, 1]
    (pair,) = make(Framing.FRAME).encode(rows[:2])
    assert all(len(m) < len(pair) for m in make(Framing.FRAME, len(pair) - 1).encode(rows[:2]))


def test_encoders_of_one_id_and_framing_share_their_messages() -> None:
    assert make(Framing.LINE).share_key(0) == make(Framing.LINE).share_key(0)
    assert make(Framing.LINE).share_key(0) != make(Framing.FRAME).share_key(0)
    other = JsonRpcEvents("s2", Framing.LINE, 10_000)
    assert make(Framing.LINE).share_key(0) != other.share_key(0)


def test_an_id_has_one_encoder_for_all_connections_that_have_it() -> None:
    first = share_events("s1", Framing.LINE, 10_000)
    assert share_events("s1", Framing.LINE, 10_000) is first
    others = [("s2", Framing.LINE, 10_000), ("s1", Framing.FRAME, 10_000), ("s1", Framing.LINE, 9)]
    for other in others:
        assert share_events(*other) is not first
    rows = [Row("a", b"1", 1, n) for n in range(2)]
    first.advance(2)
    assert first.encode(rows) == make(Framing.LINE).encode(rows)


def test_an_encoder_that_was_forgotten_shares_its_messages_with_the_new_one() -> None:
    first = share_events("s1", Framing.LINE, 10_000)
    for number in range(2000):
        share_events(f"x{number}", Framing.LINE, 10_000)
    assert share_events("s1", Framing.LINE, 10_000).share_key(0) == first.share_key(0)
