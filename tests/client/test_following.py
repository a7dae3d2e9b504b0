"""A follower's updates and position, with connections cut off at any point."""

from __future__ import annotations

from typing import Any

import msgspec

from recordd_client.following import Follower, Resync
from recordd_client.requests import Incoming
from recordd_protocol.methods import Event, Subscribe, Subscribed


def make(as_type: Any = Any, **params: Any) -> tuple[Follower[Any], list[Any]]:
    resyncs: list[Any] = []
    return Follower(Subscribe("#", **params), as_type, resyncs.append), resyncs


def tell(follower: Follower[Any], *events: dict[str, Any]) -> list[Any]:
    """Hand events over; return the updates as (value, last, skipped)."""
    answers = [
        Incoming(
            params=msgspec.convert(
                {"subscription": "s1", **event, "value": msgspec.Raw(b"%d" % event.get("rev", 0))},
                Event,
            )
        )
        for event in events
    ]
    return [(update.value, update.last, update.skipped) for update in follower.read(answers)]


def params_of(follower: Follower[Any]) -> Any:
    return follower.subscribe().params


def test_it_resumes_behind_the_last_update() -> None:
    follower, resyncs = make()
    follower.note_subscribed(Subscribed("s1", 5, "e", values=1), 0)
    assert params_of(follower).after is None
    tell(follower, {"rev": 3, "snapshot": True, "last": True})
    assert params_of(follower).after == 5
    tell(follower, {"rev": 6}, {"rev": 9})
    assert params_of(follower) == Subscribe("#", after=9, epoch="e")
    follower.note_subscribed(Subscribed("s1", 12, "e", values=0), 0)
    assert follower.rev == 9
    assert resyncs == []


def test_without_values_it_stands_where_the_answer_says() -> None:
    follower, _ = make(snapshot=False)
    assert params_of(follower).snapshot is False
    follower.note_subscribed(Subscribed("s1", 5, "e", values=0), 0)
    assert params_of(follower) == Subscribe("#", after=5, epoch="e")


def test_a_burst_that_is_cut_off_comes_again_whole_and_is_told_as_a_resync() -> None:
    follower, resyncs = make()
    follower.note_subscribed(Subscribed("s1", 5, "e", values=2), 0)
    tell(follower, {"rev": 3, "snapshot": True})
    assert params_of(follower) == Subscribe("#")
    follower.note_subscribed(Subscribed("s1", 7, "e", values=2), 0)
    assert resyncs == [Resync(7, "e", 0)]
    values = tell(
        follower, {"rev": 3, "snapshot": True}, {"rev": 7, "snapshot": True, "last": True}
    )
    assert values == [(3, False, 0), (7, True, 0)]
    assert follower.rev == 7


def test_a_burst_cut_off_before_its_first_value_comes_again_without_a_resync() -> None:
    follower, resyncs = make()
    follower.note_subscribed(Subscribed("s1", 5, "e", values=2), 0)
    follower.note_subscribed(Subscribed("s1", 7, "e", values=2), 0)
    assert resyncs == []


def test_a_resync_to_nothing_leaves_a_position() -> None:
    follower, resyncs = make()
    follower.note_subscribed(Subscribed("s1", 5, "e", values=0), 0)
    tell(follower, {"resync": True, "rev": 8, "epoch": "e", "oldest_rev": 8, "values": 0})
    assert resyncs == [Resync(8, "e", 8)]
    assert params_of(follower) == Subscribe("#", after=8, epoch="e")


def test_the_flags_of_an_unfit_update_go_to_the_next() -> None:
    follower, _ = make(as_type=str)
    follower.note_subscribed(Subscribed("s1", 5, "e", values=1), 0)
    assert tell(follower, {"rev": 3, "snapshot": True, "last": True, "skipped": 2}) == []
    assert tell(follower, {"rev": 6, "deleted": True, "skipped": 1}) == [(None, True, 3)]
    assert follower.unfit == 1
