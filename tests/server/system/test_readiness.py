"""Sockets that are waited for together: who takes a step, who is woken, and who never again."""

from __future__ import annotations

import contextlib
import errno
import os
import select
from collections.abc import AsyncIterator, Iterator

import pytest
import trio
import trio.testing

from recordd.system import readiness as readiness_module
from recordd.system.readiness import _LONE_PASSES, Readiness


class Pipe:
    """A pipe whose reader takes steps: each byte but `b"."` is something to go on with."""

    def __init__(self) -> None:
        self.reading, self.writing = os.pipe()
        os.set_blocking(self.reading, False)
        self.steps = 0

    def write(self, data: bytes) -> None:
        os.write(self.writing, data)

    def step(self) -> bytes | None:
        self.steps += 1
        try:
            data = os.read(self.reading, 1)
        except BlockingIOError:
            return None
        if data == b"!":
            raise ValueError(data)
        return None if data == b"." else data

    def close(self) -> None:
        os.close(self.reading)
        os.close(self.writing)


@pytest.fixture
def pipes() -> Iterator[list[Pipe]]:
    made = [Pipe() for _ in range(3)]
    yield made
    for pipe in made:
        pipe.close()


@contextlib.asynccontextmanager
async def running() -> AsyncIterator[tuple[Readiness, trio.Nursery]]:
    readiness = Readiness()
    async with trio.open_nursery() as nursery:
        await nursery.start(readiness.run)
        yield readiness, nursery
        nursery.cancel_scope.cancel()


def count_waiting() -> int:
    """Return how many tasks wait for a descriptor of their own, but for one of Trio's."""
    found = trio.lowlevel.current_statistics().io_statistics
    return int(getattr(found, "tasks_waiting_read", 0)) - 1


async def settle() -> None:
    await trio.testing.wait_all_tasks_blocked()


async def test_one_task_waits_for_all_and_wakes_who_has_something(pipes: list[Pipe]) -> None:
    found = dict[int, bytes]()

    async def serve(number: int) -> None:
        pipe = pipes[number]
        found[number] = await readiness.step_until(pipe.reading, pipe.step)

    async with running() as (readiness, nursery):
        for number in range(3):
            nursery.start_soon(serve, number)
        await settle()
        assert count_waiting() == 1
        for pipe in pipes[:2]:
            pipe.write(b"..")
        await settle()
        assert [pipe.steps for pipe in pipes] == [2, 2, 0]
        pipes[1].write(b".b")
        pipes[2].write(b"c!")
        await settle()
        assert found == {1: b"b", 2: b"c"}
        assert pipes[2].steps == 1, "it has not come back for the rest"


async def test_a_step_that_fails_concerns_its_own_task_alone(pipes: list[Pipe]) -> None:
    failed, found = list[ValueError](), list[bytes]()

    async def fail() -> None:
        try:
            await readiness.step_until(pipes[0].reading, pipes[0].step)
        except ValueError as error:
            failed.append(error)

    async def serve() -> None:
        found.append(await readiness.step_until(pipes[1].reading, pipes[1].step))

    async with running() as (readiness, nursery):
        nursery.start_soon(fail)
        nursery.start_soon(serve)
        await settle()
        for pipe, data in zip(pipes, (b"!x", b".y"), strict=False):
            pipe.write(data)
        await settle()
        assert (len(failed), found) == (1, [b"y"])
        assert pipes[0].steps == 1


async def test_a_cancelled_task_takes_no_more_steps_and_may_close(pipes: list[Pipe]) -> None:
    async with running() as (readiness, _):
        pipe, other = pipes[:2]
        with trio.move_on_after(0):
            await readiness.step_until(pipe.reading, pipe.step)
        pipe.write(b"x")
        with trio.fail_after(5):
            other.write(b"y")
            assert await readiness.step_until(other.reading, other.step) == b"y"
        assert pipe.steps == 0
        assert await readiness.step_until(pipe.reading, pipe.step) == b"x"


async def test_a_lone_socket_waits_by_itself_until_there_is_another(pipes: list[Pipe]) -> None:
    async def serve(pipe: Pipe) -> None:
        await readiness.step_until(pipe.reading, pipe.step)

    async with running() as (readiness, nursery):
        for pipe in pipes[:2]:
            nursery.start_soon(serve, pipe)
        for _ in range(_LONE_PASSES + 1):
            assert count_waiting() <= 1
            pipes[0].write(b".")
            await settle()
        assert count_waiting() == 2
        pipes[0].write(b"." * 3)
        await settle()
        assert count_waiting() == 2
        pipes[1].write(b".")
        await settle()
        pipes[0].write(b".")
        await settle()
        assert count_waiting() == 1
        assert [pipe.steps for pipe in pipes] == [_LONE_PASSES + 5, 1, 0]


async def test_two_that_take_turns_wait_together(pipes: list[Pipe]) -> None:
    async def serve(pipe: Pipe) -> None:
        await readiness.step_until(pipe.reading, pipe.step)

    async with running() as (readiness, nursery):
        for pipe in pipes[:2]:
            nursery.start_soon(serve, pipe)
        for number in range(6 * _LONE_PASSES):
            await settle()
            pipes[number % 3 == 0].write(b".")  # twice the one, once the other
        await settle()
        assert count_waiting() == 1


async def test_others_run_between_two_steps_that_take_a_turn(
    pipes: list[Pipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readiness_module, "TURN_S", -1.0)
    at_once = list[int]()

    async def serve(pipe: Pipe) -> None:
        await readiness.step_until(pipe.reading, pipe.step)

    async def watch() -> None:
        seen = 0
        while seen < 3:
            await trio.lowlevel.checkpoint()
            steps = sum(pipe.steps for pipe in pipes)
            at_once.append(steps - seen)
            seen = steps

    async with running() as (readiness, nursery):
        for pipe in pipes:
            nursery.start_soon(serve, pipe)
        await settle()
        for pipe in pipes:
            pipe.write(b".")
        await watch()
    assert max(at_once) < 3, "the tasks of a pass run in any order"
    assert sum(at_once) == 3


async def test_a_socket_that_is_gone_meanwhile_takes_no_step(
    pipes: list[Pipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readiness_module, "TURN_S", -1.0)
    scopes = [trio.CancelScope() for _ in pipes]

    def step(number: int) -> None:
        pipes[number].step()
        for scope in scopes:
            if scope is not scopes[number]:
                scope.cancel()

    async def serve(number: int) -> None:
        with scopes[number]:
            await readiness.step_until(pipes[number].reading, lambda: step(number))

    async with running() as (readiness, nursery):
        for number in range(3):
            nursery.start_soon(serve, number)
        await settle()
        for pipe in pipes:
            pipe.write(b".")
        await settle()
    assert sorted(pipe.steps for pipe in pipes) == [0, 0, 1]


class FullPoll:
    """A system that has no room for another socket."""

    def __init__(self) -> None:
        self._poll = _epoll()

    def register(self, descriptor: int, events: int) -> None:
        raise OSError(errno.ENOSPC, "max_user_watches")

    def fileno(self) -> int:
        return self._poll.fileno()

    def close(self) -> None:
        self._poll.close()


_epoll = select.epoll


def refuse_poll() -> select.epoll:
    raise OSError(errno.EMFILE, "too many")


@pytest.mark.parametrize("poll", [None, FullPoll, refuse_poll])
async def test_without_a_common_wait_each_takes_the_same_steps(
    pipes: list[Pipe], monkeypatch: pytest.MonkeyPatch, poll: object
) -> None:
    if poll is None:
        monkeypatch.delattr(select, "epoll")
    else:
        monkeypatch.setattr(select, "epoll", poll)
    pipe, failing = pipes[:2]
    async with running() as (readiness, _):
        pipe.write(b"..x")
        with trio.fail_after(5):
            assert await readiness.step_until(pipe.reading, pipe.step) == b"x"
        assert pipe.steps == 3
        failing.write(b"!")
        with pytest.raises(ValueError, match="!"):
            await readiness.step_until(failing.reading, failing.step)
