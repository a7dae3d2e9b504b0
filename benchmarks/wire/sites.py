"""A server that listens, as the load generator sees it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from benchmarks.wire.loadgen import Follower, Load, LoadGenerator, Measured
from benchmarks.wire.plans import NO_SETUP, Protocol, Request, Setup, write_plan

__all__ = ["Ask", "Bench", "Followers", "Site"]


class Site(msgspec.Struct, frozen=True, kw_only=True):
    """Where a server listens, what it speaks, and what opens a connection to it."""

    address: str
    protocol: Protocol
    setup: Setup = NO_SETUP
    pid: int = 0


class Followers(msgspec.Struct, frozen=True, kw_only=True):
    """Subscribers of a site, and what each of them sends when its connection is open."""

    site: str
    count: int
    subscribe: Request


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """What one contestant is asked: requests to one of its sites, again and again.

    Before each one that counts there is a rest of `rest_us`.
    `values` is the number of values that an answer has to hold; each matches `marker`.
    """

    site: str
    requests: Callable[[], Sequence[Request]]
    values: int | None = None
    marker: bytes = b'"samples":'
    rest_us: int = 0
    followers: Followers | None = None


class Bench:
    """The load generator beside sites that run; plans are written once for each question."""

    def __init__(self, generator: LoadGenerator, folder: Path, sites: dict[str, Site]) -> None:
        """Work in `folder`; `sites` may gain sites later."""
        self._generator: Final = generator
        self._folder: Final = folder
        self._loads: Final[dict[str, Load]] = {}
        self.sites: Final = sites

    def check(self, key: str, ask: Ask) -> None:
        """Send the first request once and look into the answer.

        Raises:
            RuntimeError: it holds another number of values than it has to.
        """
        if ask.values is None:
            return
        site = self.sites[ask.site]
        until = next(n for n, request in enumerate(ask.requests()) if request.counted)
        plan = write_plan(self._folder / "check.plan", site.setup, ask.requests()[: until + 1])
        load = Load(address=site.address, protocol=site.protocol, plan=str(plan))
        answer = self._generator.show(load)
        if (found := answer.count(ask.marker)) != ask.values:
            raise RuntimeError(
                f"{key}: {found} values instead of {ask.values} in {answer[-300:]!r}"
            )

    def measure(
        self, key: str, ask: Ask, *, connections: int, in_flight: int, seconds: float
    ) -> Measured:
        """Ask for so long; `key` names the question and the contestant."""
        if key not in self._loads:
            self._loads[key] = self._make_load(key, ask, connections, in_flight)
        return self._generator.run(self._loads[key], seconds)

    def load_once(self, site: Site, requests: Sequence[Request], in_flight: int) -> Measured:
        """Send each request once, so many at a time."""
        plan = write_plan(self._folder / "once.plan", site.setup, requests)
        load = Load(
            address=site.address,
            protocol=site.protocol,
            plan=str(plan),
            in_flight=in_flight,
            is_once=True,
            pid=site.pid,
        )
        measured = self._generator.run(load)
        plan.unlink()
        return measured

    def _make_load(self, key: str, ask: Ask, connections: int, in_flight: int) -> Load:
        site = self.sites[ask.site]
        number = len(self._loads)
        plan = write_plan(self._folder / f"{number}.plan", site.setup, ask.requests())
        return Load(
            address=site.address,
            protocol=site.protocol,
            plan=str(plan),
            connections=connections,
            in_flight=in_flight,
            rest_us=ask.rest_us,
            followers=self._make_follower(number, ask.followers),
            pid=site.pid,
        )

    def _make_follower(self, number: int, followers: Followers | None) -> Follower | None:
        if followers is None:
            return None
        site = self.sites[followers.site]
        setup = Setup(
            site.setup.opening + followers.subscribe.line,
            site.setup.answers + followers.subscribe.answers,
        )
        plan = write_plan(self._folder / f"{number}.subscribe", setup, [])
        return Follower(followers.count, site.address, site.protocol, str(plan))
