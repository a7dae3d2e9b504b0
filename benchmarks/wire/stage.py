"""The sites of a run: servers filled with the data that the questions ask for."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final

from benchmarks.peers import running_echo_server
from benchmarks.wire import limit_data, nats, postgres, recordd, redis
from benchmarks.wire.data import Row, Scale, flight_rows, made_up_rows
from benchmarks.wire.echo import running_websocket_echo
from benchmarks.wire.limits import running_limit
from benchmarks.wire.questions import Question
from benchmarks.wire.sites import Bench, Site

__all__ = ["Stage", "keys_of", "rows_of", "sites_of"]

_LOADS_IN_FLIGHT: Final = 4
_WORDS_IN_FLIGHT: Final = 500
_RECORDS: Final = {"many": 1000, "hundred": 100, "writes": 1000}


def rows_of(key: str, scale: Scale) -> list[Row]:
    """Return the rows of a site's data."""
    if key == "flights":
        return flight_rows(scale.flights)
    if key == "wide":
        return list(made_up_rows(scale.wide_records, scale.wide_rows))
    rows_each = 1 if key == "writes" else scale.rows_each
    return list(made_up_rows(_RECORDS[key], _RECORDS[key] * rows_each))


def sites_of(questions: Iterable[Question], contestants: Sequence[str] | None = None) -> set[str]:
    """Return the names of the sites that the questions need, of these contestants or all."""
    sites = set()
    for question in questions:
        for contestant, ask in question.asks.items():
            if contestants is None or contestant in contestants:
                sites.add(ask.site)
                if ask.followers is not None:
                    sites.add(ask.followers.site)
    return sites


def keys_of(sites: Iterable[str], build: str) -> set[str]:
    """Return the keys of the data that a build's sites are over."""
    return {
        site.removeprefix(f"{build} ").split(",")[0]
        for site in sites
        if site.startswith(f"{build} ")
    }


class Stage:
    """Opens sites, each once, and closes them all at its end."""

    def __init__(self, bench: Bench, folder: Path, scale: Scale) -> None:
        """Keep all servers' files below `folder`."""
        self._bench: Final = bench
        self._folder: Final = folder
        self._scale: Final = scale
        self._stack: Final = contextlib.ExitStack()

    def __enter__(self) -> Stage:
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def fill_recordd(self, key: str, program: Sequence[str], build: str = "recordd") -> float:
        """Write the data of a site with a daemon that stops then; return the rows a second."""
        rows = rows_of(key, self._scale)
        return self.load_recordd(self._folder / f"{build}-{key}", program, rows)

    def load_recordd(self, folder: Path, program: Sequence[str], rows: Sequence[Row]) -> float:
        """Write rows to a daemon on `folder`, from one client; return the rows a second."""
        requests = recordd.encode_load(rows)
        with recordd.running_recordd(folder, program) as (unix, _):
            measured = self._bench.load_once(unix, requests, _LOADS_IN_FLIGHT)
        return len(rows) / measured.seconds

    def open_recordd(self, key: str, program: Sequence[str], build: str = "recordd") -> Site:
        """Run a daemon on data that was written before."""
        folder = self._folder / f"{build}-{key}"
        unix, websocket = self._stack.enter_context(recordd.running_recordd(folder, program))
        self._bench.sites[f"{build} {key}"] = unix
        self._bench.sites[f"{build} {key}, WebSocket"] = websocket
        return unix

    def open_peers(self, sites: set[str]) -> list[str]:
        """Run the peers that have these sites, and fill them; return those not installed."""
        openers: list[tuple[str, Callable[[set[str]], None]]] = [
            ("redis", self._open_redis),
            ("pg", self._open_postgres),
            ("nats", self._open_nats),
            ("echo", self._open_echo),
            ("websocket echo", self._open_websocket_echo),
            ("least", self._open_limits),
        ]
        missing = []
        for prefix, opener in openers:
            wanted = {site for site in sites if site.startswith(prefix)}
            try:
                if wanted:
                    opener(wanted)
            except FileNotFoundError as error:
                missing.append(str(error))
        return missing

    def _open_redis(self, _: set[str]) -> None:
        site = self._stack.enter_context(redis.running_redis(self._folder / "redis"))
        self._bench.sites["redis"] = site
        for key in ("many", "hundred"):
            rows = rows_of(key, self._scale)
            latest = rows[-_RECORDS[key] :]
            requests = redis.encode_history(key, rows) + redis.encode_latest(key, latest)
            self._bench.load_once(site, requests, _WORDS_IN_FLIGHT)
        self._bench.load_once(site, [redis.commit_always()], 1)

    def _open_postgres(self, sites: set[str]) -> None:
        site = self._stack.enter_context(postgres.running_postgres(self._folder / "pg"))
        for name in sorted(sites):
            key = name.removeprefix("pg ")
            postgres.fill(site, key, rows_of(key, self._scale))
            self._bench.sites[name] = postgres.site_of(site, key)

    def _open_nats(self, _: set[str]) -> None:
        self._bench.sites["nats"] = self._stack.enter_context(
            nats.running_nats(self._folder / "nats")
        )

    def _open_echo(self, _: set[str]) -> None:
        path = self._stack.enter_context(running_echo_server(self._folder))
        self._bench.sites["echo"] = Site(address=f"unix:{path}", protocol="lines")

    def _open_websocket_echo(self, _: set[str]) -> None:
        site = self._stack.enter_context(running_websocket_echo(self._folder))
        self._bench.sites["websocket echo"] = site

    def _open_limits(self, sites: set[str]) -> None:
        """Run the least servers: a name is `least`, the job, the data."""
        for name in sorted({site.split(",")[0] for site in sites}):
            _, job, key = name.split()
            folder = self._folder / name.replace(" ", "-")
            limit_data.fill(folder, rows_of(key, self._scale))
            site, followers, websocket = self._stack.enter_context(running_limit(job, folder))
            self._bench.sites[name] = site
            self._bench.sites[f"{name}, followers"] = followers
            self._bench.sites[f"{name}, WebSocket"] = websocket
