"""The plot shows how fast peers are beside recordd."""

from __future__ import annotations

from xml.etree import ElementTree as ET

from benchmarks.wire.lines import INDEXED, LEAST, OURS, Line, at_least, at_most
from benchmarks.wire.plots import Dot, dots_of, draw_plot, limit_of

TIME = Line(name="time", title="a <time>", unit="µs", targets=(at_most(1, "Redis"),))
RATE = Line(name="rate", title="a rate", unit="/s", targets=(at_least(0.5, "Redis"),))
FIGURES = {
    "time": {OURS: [100.0], "Redis": [50.0]},
    "rate": {OURS: [100.0], "Redis": [50.0]},
    "alone": {OURS: [1.0]},
}


def test_half_the_time_is_twice_the_speed_and_half_the_rate_is_half_of_it() -> None:
    assert dots_of(TIME, FIGURES) == [Dot("Redis", 2.0)]
    assert dots_of(RATE, FIGURES) == [Dot("Redis", 0.5)]


def test_there_are_no_dots_without_our_own_figure() -> None:
    assert dots_of(TIME, {"time": {"Redis": [50.0]}}) == []


def test_every_line_with_a_peer_or_a_target_is_drawn() -> None:
    alone = Line(name="alone", title="alone", unit="s")
    drawn = ET.fromstring(draw_plot([TIME, RATE, alone], FIGURES))
    words = [element.text for element in drawn.iter("{http://www.w3.org/2000/svg}text")]
    assert {"a <time>", "a rate", "Redis"} <= set(words)
    assert "alone" not in words
    circles = list(drawn.iter("{http://www.w3.org/2000/svg}circle"))
    assert len(circles) == 2 + 1  # and the legend's
    assert float(circles[1].attrib["cx"]) > float(circles[2].attrib["cx"])


def test_the_least_server_is_a_ring_and_no_peer() -> None:
    figures = {"time": {**FIGURES["time"], LEAST: [25.0], INDEXED: [1.0]}}
    assert dots_of(TIME, figures) == [Dot("Redis", 2.0)]
    assert limit_of(TIME, figures) == Dot(LEAST, 4.0)
    assert limit_of(RATE, FIGURES) is None
    drawn = ET.fromstring(draw_plot([TIME], figures))
    circles = drawn.iter("{http://www.w3.org/2000/svg}circle")
    assert [circle.attrib["fill"] for circle in circles].count("none") == 1 + 1  # and the legend's
