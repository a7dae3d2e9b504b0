"""AimX's events, byte for byte."""

from __future__ import annotations

import json

from recordd_protocol.aimx_events import AimxEvents
from recordd_protocol.framing import Framing
from recordd_protocol.patterns import compile_pattern
from tests.protocol.test_aimx import ROWS


def test_events_are_numbered_through_and_a_loss_is_a_gap() -> None:
    events = AimxEvents("4", Framing.LINE, compile_pattern("*"))
    burst = events.encode_snapshot(ROWS, is_last=True)
    assert burst == [
        (
            '{"t":"snap","seq":1,"topic":"wien-süd","sub":"4","data":{"a":1},"rev":7,"ts":5}\n'
            '{"t":"snap","seq":2,"last":true,"topic":"b","sub":"4","data":null,"ts":6}'
        ).encode()
    ]
    events.advance(2)
    first_key = events.share_key(3)
    (after_loss,) = events.encode(ROWS[:1], 5)
    assert json.loads(after_loss)["seq"] == 8
    events.advance(5)
    events.advance(1)
    assert events.share_key(4) != first_key  # five were left out
    assert events.fork().share_key(9) == first_key
    assert json.loads(events.encode(ROWS[:1])[0])["seq"] == 9


def test_an_exact_topic_over_lines_goes_unnamed() -> None:
    events = AimxEvents("4", Framing.LINE, compile_pattern("wien-süd"))
    value = b'{"t":"event","seq":1,"sub":"4","data":{"a":1},"rev":7,"ts":5}'
    assert events.encode_snapshot(ROWS[:1], is_last=True) == [value]
    in_frames = AimxEvents("4", Framing.FRAME, compile_pattern("wien-süd"))
    assert json.loads(in_frames.encode(ROWS[:1])[0])["topic"] == "wien-süd"
    assert json.loads(in_frames.encode_snapshot(ROWS[:1], is_last=True)[0])["t"] == "snap"
