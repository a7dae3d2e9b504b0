"""Lanes: bytes go past an outbox where nothing is before them, and nowhere else."""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
from collections.abc import Iterator

import pytest

from recordd.connections.lane import CLOSED, Lane, write_to_all


@contextlib.contextmanager
def make_lanes(count: int) -> Iterator[tuple[list[Lane], list[socket.socket]]]:
    """Give open lanes, and the other ends, which have to be read."""
    with contextlib.ExitStack() as stack:
        lanes, peers = [], []
        for _ in range(count):
            near, far = map(stack.enter_context, socket.socketpair())
            near.setblocking(False)
            far.setblocking(False)
            lanes.append(Lane(near.fileno()))
            lanes[-1].set_free(True)
            peers.append(far)
        yield lanes, peers


@pytest.mark.parametrize("order", list(itertools.permutations([0, 1, 2, 3])))
def test_a_lane_is_open_where_it_has_a_way_and_is_free(order: tuple[int, ...]) -> None:
    lane, way, is_free = Lane(7), 7, False
    assert lane.descriptor == CLOSED
    for step in order:
        if step < 2:
            is_free = step == 0
            lane.set_free(is_free)
        else:
            way = 9 if step == 2 else CLOSED
            lane.set_way(way)
        assert lane.descriptor == (way if is_free else CLOSED)


def test_bytes_go_to_all_that_are_open_and_the_others_are_told() -> None:
    with make_lanes(5) as (lanes, peers):
        lanes[1].set_free(False)
        lanes[2].set_way(CLOSED)
        peers[3].close()
        assert write_to_all(lanes, b"event") == {lanes[1]: 0, lanes[2]: 0, lanes[3]: 0}
        assert [peers[number].recv(100) for number in (0, 4)] == [b"event"] * 2
        for number in (1, 2):
            with pytest.raises(BlockingIOError):
                peers[number].recv(1)


def test_a_full_socket_is_left_and_one_that_takes_a_part_says_how_much(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with make_lanes(3) as (lanes, peers):
        while not write_to_all(lanes[:1], b"x" * 10_000):
            pass
        write, narrow = os.write, lanes[1].descriptor
        monkeypatch.setattr(
            os, "write", lambda fd, data: write(fd, data[: 2 if fd == narrow else 9])
        )
        assert write_to_all(lanes, b"event") == {lanes[0]: 0, lanes[1]: 2}
        assert [peer.recv(100) for peer in peers[1:]] == [b"ev", b"event"]
