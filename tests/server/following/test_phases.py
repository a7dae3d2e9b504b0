"""The phases of a subscription: their transitions, and what each puts."""

from __future__ import annotations

import json
import re

import pytest

from recordd.config.rules import read_rules
from recordd.connections.outbox import Outbox, OutboxLimits
from recordd.following import phases
from recordd.following.opening import Opening
from recordd.following.phases import (
    TRANSITIONS,
    ByRev,
    ByTick,
    ClosedPhase,
    ConflatingPhase,
    LivePhase,
    OpeningPhase,
    PatchingPhase,
    Phase,
    ReadingPhase,
    ReplayingPhase,
)
from recordd.following.stream import Stream
from recordd.following.subscription import Subscription
from recordd.hub.hub import Hub
from recordd_protocol.framing import Framing
from recordd_protocol.jsonrpc_events import JsonRpcEvents
from recordd_protocol.patterns import compile_pattern
from recordd_protocol.rows import Page, Row
from tests.server.commits import publish
from tests.server.following.peers import TapSender

ROOM = 4


def label(phase: type[Phase]) -> str:
    return phase.__name__.removesuffix("Phase").upper()


def test_the_table_of_transitions_is_the_diagram() -> None:
    drawn = re.findall(r"^    ([A-Z]+) ─+► ([A-Z]+) ", phases.__doc__ or "", re.MULTILINE)
    assert len(drawn) == len(set(drawn))
    table = {(label(start), label(end)) for start, ends in TRANSITIONS.items() for end in ends}
    assert set(drawn) == table


def test_every_phase_is_in_the_table() -> None:
    assert set(TRANSITIONS) == set(Phase.__args__)


class Followed:
    """A hub, and a stream of all its records into an outbox."""

    def __init__(self, *, every: bool = False, backlog_bytes: int = 1 << 20) -> None:
        rules = read_rules([], default_retention_ms=None, max_capacity=1)
        self.hub = Hub(rules, max_records=100, backlog_bytes=backlog_bytes)
        self.sender = TapSender()
        self.outbox = Outbox(OutboxLimits(1 << 20, ROOM, 1 << 20), self.sender)
        topic = self.hub.topics.follow(compile_pattern("#"))
        encoder = JsonRpcEvents("s1", Framing.LINE, 1 << 20)
        self.stream = Stream(self.hub.catalogue, topic, self.outbox, encoder, every=every)

    def commit(self, *names: str) -> None:
        """Commit rows together; those of `t.*` are transient."""
        first = self.hub.rev + 1
        publish(
            self.hub,
            [
                Row(name, b"1", 1, None if name.startswith("t.") else rev)
                for rev, name in enumerate(names, first)
            ],
        )

    def told(self) -> list[tuple[str, int]]:
        """Let the peer take what is there; return names and how many were left out before."""
        self.sender.open(100)
        self.outbox.flush_nowait()
        lines = b"\n".join(self.sender.taken).splitlines()
        events = [json.loads(line)["params"] for line in lines]
        self.sender.taken.clear()
        return [(event["name"], event.get("skipped", 0)) for event in events]

    def feed(self, phase: Phase, *, times: int) -> Phase:
        for _ in range(times):
            following = phase.feed(self.stream, self.hub)
            assert following is not None
            phase = following
        return phase


def test_replaying_ends_live_when_nothing_is_left() -> None:
    followed = Followed()
    phase = ReplayingPhase(ByTick(0, 0))
    followed.commit("a", "b")
    assert phase.feed(followed.stream, followed.hub) is phase
    live = phase.feed(followed.stream, followed.hub)
    assert isinstance(live, LivePhase)
    assert live.untold == 0


def test_a_phase_without_room_goes_nowhere() -> None:
    followed = Followed()
    followed.commit("a", *"bcdef")
    phase = ReplayingPhase(ByTick(0, 0))
    assert phase.feed(followed.stream, followed.hub) is phase
    assert phase.feed(followed.stream, followed.hub) is None


@pytest.mark.parametrize(("every", "expected"), [(True, ReadingPhase), (False, ConflatingPhase)])
def test_who_is_behind_the_backlog_reads_or_is_conflated(
    every: bool, expected: type[Phase]
) -> None:
    followed = Followed(every=every, backlog_bytes=0)
    followed.commit("a")
    followed.commit("b")
    assert isinstance(ReplayingPhase(ByTick(0, 0)).feed(followed.stream, followed.hub), expected)


def test_who_resumes_reads_up_to_the_opening_and_is_conflated_from_there() -> None:
    followed = Followed(backlog_bytes=0)
    followed.commit("a")
    followed.commit("b")
    followed.stream.promise_all()
    reading = ReplayingPhase(ByRev(0, 0)).feed(followed.stream, followed.hub)
    assert isinstance(reading, ReadingPhase)
    for name in "cd":
        followed.commit(name)
    replaying = reading.take(Page([], rev=2, epoch="e"), followed.stream, followed.hub)
    assert isinstance(replaying.feed(followed.stream, followed.hub), ConflatingPhase)


def test_a_page_is_taken_as_far_as_there_is_room_and_the_rest_asked_for_again() -> None:
    followed = Followed(every=True, backlog_bytes=0)
    followed.commit(*"abcdefgh")
    rows = [Row(name, b"1", 1, rev) for rev, name in enumerate("abcdefgh", 1)]
    reading = ReadingPhase(ByRev(0, 0))
    following = reading.take(
        Page(rows, rev=8, epoch="e", next="cursor"), followed.stream, followed.hub
    )
    assert isinstance(following, ReplayingPhase)
    assert following._position == ByRev(ROOM, ROOM)
    assert followed.stream.page_rows == 16


def test_behind_a_whole_page_reading_goes_on_at_its_cursor() -> None:
    followed = Followed(every=True)
    followed.commit("a", "b")
    page = Page([Row("a", b"1", 1, 1)], rev=2, epoch="e", next="cursor")
    following = ReadingPhase(ByRev(0, 0)).take(page, followed.stream, followed.hub)
    assert isinstance(following, ReplayingPhase)
    assert following._position == ByRev(1, "cursor")


def test_a_value_that_found_no_room_is_put_though_those_behind_it_have_changed() -> None:
    followed = Followed()
    followed.commit(*"abcdef")
    hub = followed.hub
    captured = phases.Captured(hub.catalogue.snapshot(followed.stream.topic), hub.catalogue.tick)
    phase = OpeningPhase(captured, ByTick(hub.catalogue.tick, hub.rev))
    assert phase.values == 6
    assert phase.feed(followed.stream, followed.hub) is phase
    assert phase.values == 2
    followed.commit("e", "f")
    followed.sender.open(100)
    followed.outbox.flush_nowait()
    assert isinstance(phase.feed(followed.stream, followed.hub), ReplayingPhase)
    followed.outbox.flush_nowait()
    *_, last = followed.sender.taken
    assert (b'"name":"e"' in last, b'"last":true' in last) == (True, True)


def test_a_change_that_has_become_another_is_missed_and_told_so() -> None:
    followed = Followed()
    followed.commit("a")
    followed.commit("b")
    followed.stream.begin_account()
    changes = followed.hub.changes.changes_after(0, followed.stream.topic) or ()
    captured = phases.Captured(changes, followed.hub.catalogue.tick)
    followed.commit("a")
    assert captured.put(followed.stream, followed.hub)
    assert followed.told() == [("b", 1)]


def test_a_transient_update_before_a_rev_is_replayed_with_what_came_after_it() -> None:
    followed = Followed()
    for name in ("t.a", "a", "b"):
        followed.commit(name)
    followed.feed(ReplayingPhase(ByRev(1, 1)), times=2)
    assert followed.told() == [("t.a", 0), ("b", 0)]


def test_a_transient_update_that_was_replayed_is_not_patched() -> None:
    followed = Followed(every=True, backlog_bytes=0)
    followed.commit("t.a", "a")
    replaying = followed.feed(ReplayingPhase(ByTick(0, 0)), times=1)
    assert followed.told() == [("t.a", 0), ("a", 0)]
    for name in ("b", "t.b", "c"):
        followed.commit(name)
    reading = followed.feed(replaying, times=1)
    assert isinstance(reading, ReadingPhase)
    rev = followed.hub.rev
    page = Page([Row("b", b"1", 1, rev - 1), Row("c", b"1", 1, rev)], rev=rev, epoch="e")
    patching = followed.feed(reading.take(page, followed.stream, followed.hub), times=1)
    assert isinstance(patching, PatchingPhase)
    assert isinstance(followed.feed(patching, times=3), LivePhase)
    assert followed.told() == [("b", 0), ("c", 0), ("t.b", 0)]


def test_what_was_read_from_storage_is_not_conflated_again() -> None:
    followed = Followed(backlog_bytes=0)
    followed.commit("a", "b")
    followed.stream.promise_all()
    for name in "cdef":
        followed.commit(name)
    page = Page([Row(name, b"1", 1, rev) for rev, name in enumerate("abcdef", 1)], rev=6, epoch="")
    replaying = ReadingPhase(ByRev(0, 0)).take(page, followed.stream, followed.hub)
    assert len(followed.told()) == ROOM
    conflating = followed.feed(replaying, times=1)
    assert isinstance(conflating, ConflatingPhase)
    assert isinstance(followed.feed(conflating, times=3), LivePhase)
    assert followed.told() == [("e", 0), ("f", 0)]


def test_what_was_patched_is_not_conflated_again() -> None:
    followed = Followed(backlog_bytes=2 * 513)
    followed.commit("a", "b")
    followed.stream.promise_all()
    for name in ("t.x", "c", "t.a"):
        followed.commit(name)
    replaying = followed.feed(ReplayingPhase(ByRev(2, 2)), times=3)
    assert followed.told() == [("t.x", 0), ("t.a", 0)]
    for name in "de":
        followed.commit(name)
    conflating = followed.feed(replaying, times=1)
    assert isinstance(conflating, ConflatingPhase)
    assert isinstance(followed.feed(conflating, times=3), LivePhase)
    assert followed.told() == [("c", 0), ("d", 0), ("e", 0)]


def test_a_subscription_enters_no_phase_that_the_table_does_not_have() -> None:
    followed = Followed()
    opening = Opening(compile_pattern("#"), True, None, None, False)
    subscription = Subscription(
        followed.hub,
        followed.outbox,
        JsonRpcEvents("s2", Framing.LINE, 1 << 20),
        opening,
        on_behind=lambda subscription: None,
    )
    subscription.feed_nowait()
    assert not subscription.is_behind
    with pytest.raises(AssertionError, match="see phases"):
        subscription._enter(ReadingPhase(ByRev(0, 0)))
    subscription.close()
    with pytest.raises(AssertionError, match="see phases"):
        subscription._enter(ReplayingPhase(ByTick(0, 0)))
    assert isinstance(subscription._phase, ClosedPhase)
