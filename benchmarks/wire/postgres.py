"""PostgreSQL: a history with an index by record and time, and a side table of latest values.

Statements are prepared when a connection opens; each request is Bind, Execute and Sync.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
import time
from collections.abc import Iterable, Iterator
from glob import glob
from pathlib import Path
from typing import Final

from benchmarks.daemon import run_until_left
from benchmarks.wire.data import Row
from benchmarks.wire.plans import Request, Setup
from benchmarks.wire.sites import Site

__all__ = ["ask", "execute", "fill", "running_postgres", "site_of"]

_READY_TIMEOUT_S: Final = 30.0
_USER: Final = "bench"
_UNPRIVILEGED: Final = ("postgres", "nobody")
_PROGRAMS: Final = "/usr/lib/postgresql/*/bin"
_SETTINGS: Final = {
    "listen_addresses": "",
    "max_connections": "200",
    "shared_buffers": "256MB",
    "max_wal_size": "8GB",
    "synchronous_commit": "on",
    "fsync": "on",
}
_TABLES: Final = """
CREATE SCHEMA {schema};
CREATE TABLE {schema}.record (id int PRIMARY KEY, name text NOT NULL UNIQUE);
CREATE TABLE {schema}.history (
    rev bigserial PRIMARY KEY, record int NOT NULL, ts bigint NOT NULL, value json NOT NULL
);
CREATE TABLE {schema}.latest (
    name text PRIMARY KEY, ts bigint NOT NULL, rev bigint NOT NULL, value json NOT NULL
);
"""
_INDEX: Final = """
CREATE TEMPORARY TABLE incoming (name text, ts bigint, value json);
COPY incoming FROM stdin;
{rows}\\.
INSERT INTO {schema}.record SELECT row_number() OVER (ORDER BY name), name
    FROM (SELECT DISTINCT name FROM incoming) AS names;
INSERT INTO {schema}.history (record, ts, value)
    SELECT id, ts, value FROM incoming JOIN {schema}.record USING (name) ORDER BY ts;
CREATE INDEX ON {schema}.history (record, ts, rev);
INSERT INTO {schema}.latest SELECT DISTINCT ON (record) name, ts, rev, value
    FROM {schema}.history JOIN {schema}.record ON record = id ORDER BY record, ts DESC, rev DESC;
VACUUM ANALYZE;
"""
_NOW: Final = "(extract(epoch FROM clock_timestamp()) * 1000)::bigint"
_STATEMENTS: Final = {
    "get": "SELECT name, ts, rev, value FROM {schema}.latest WHERE name = $1::text",
    "latest": "SELECT name, ts, rev, value FROM {schema}.latest",
    "last_of_each": (
        "SELECT name, h.ts, h.rev, h.value FROM {schema}.record, LATERAL (SELECT ts, rev, value"
        " FROM {schema}.history WHERE record = id ORDER BY ts DESC, rev DESC LIMIT $1::int) h"
    ),
    "last": (
        "SELECT ts, rev, value FROM {schema}.history WHERE record ="
        " (SELECT id FROM {schema}.record WHERE name = $1::text)"
        " ORDER BY ts DESC, rev DESC LIMIT $2::int"
    ),
    "range": (
        "SELECT ts, rev, value FROM {schema}.history WHERE record ="
        " (SELECT id FROM {schema}.record WHERE name = $1::text)"
        " AND ts BETWEEN $2::bigint AND $3::bigint ORDER BY ts, rev"
    ),
    "write": (
        f"INSERT INTO {{schema}}.history (record, ts, value) SELECT id, {_NOW}, $2::json"
        " FROM {schema}.record WHERE name = $1::text RETURNING rev, ts"
    ),
    "write_both": (
        "WITH row AS (INSERT INTO {schema}.history (record, ts, value)"
        f" SELECT id, {_NOW}, $2::json FROM {{schema}}.record WHERE name = $1::text"
        " RETURNING rev, ts, value)"
        " UPDATE {schema}.latest AS l SET ts = row.ts, rev = row.rev, value = row.value"
        " FROM row WHERE l.name = $1::text AND l.ts <= row.ts RETURNING row.rev, row.ts"
    ),
}


def _prepare(schema: str) -> Setup:
    """Return what opens a connection: its start, and the statements of `schema`."""
    start = b"\x00\x03\x00\x00user\x00%b\x00database\x00postgres\x00\x00" % _USER.encode()
    opening = (len(start) + 4).to_bytes(4, "big") + start
    for name, statement in _STATEMENTS.items():
        text = statement.format(schema=schema)
        opening += _message(b"P", _text(name) + _text(text) + b"\x00\x00")
    return Setup(opening + _message(b"S", b""), 2)


def execute(statement: str, *parameters: str | int | bytes, counted: bool = True) -> Request:
    """Return the request that executes a prepared statement."""
    bind = b"\x00" + _text(statement) + b"\x00\x00" + len(parameters).to_bytes(2, "big")
    for parameter in parameters:
        word = parameter if isinstance(parameter, bytes) else str(parameter).encode()
        bind += len(word).to_bytes(4, "big") + word
    line = _message(b"B", bind + b"\x00\x00") + _message(b"E", b"\x00" + bytes(4))
    return Request(line + _message(b"S", b""), 1, counted)


def fill(site: Site, schema: str, rows: Iterable[Row]) -> None:
    """Make the tables of `schema` and write the rows."""
    lines = "".join(f"{name}\t{ts}\t{value.decode()}\n" for name, ts, value in rows)
    script = _TABLES.format(schema=schema) + _INDEX.format(schema=schema, rows=lines)
    ask(site, script)


def ask(site: Site, script: str) -> str:
    """Run a script and return its output.

    Raises:
        RuntimeError: the server refuses it.
    """
    folder = site.address.removeprefix("unix:").rsplit("/", 1)[0]
    command = [_find("psql"), "-h", folder, "-U", _USER, "-d", "postgres"]
    command += ["-q", "-X", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-f", "-"]
    done = subprocess.run(command, input=script, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return done.stdout


def _text(word: str) -> bytes:
    return word.encode() + b"\x00"


def _message(kind: bytes, body: bytes) -> bytes:
    return kind + (len(body) + 4).to_bytes(4, "big") + body


@contextlib.contextmanager
def running_postgres(folder: Path) -> Iterator[Site]:
    """Run PostgreSQL on a Unix socket in `folder`, as another user where we are root.

    Raises:
        FileNotFoundError: it is not installed.
    """
    initdb, server = _find("initdb"), _find("postgres")
    as_whom = _unprivileged_user()
    folder.mkdir()
    if as_whom is not None:
        os.chown(folder, as_whom, -1)
    data = folder / "data"
    command = [initdb, "-D", str(data), "-U", _USER, "-A", "trust", "-E", "UTF8", "--locale=C"]
    subprocess.run([*command, "--no-sync"], check=True, capture_output=True, user=as_whom, cwd="/")
    command = [server, "-D", str(data), "-c", f"unix_socket_directories={folder}"]
    for key, value in _SETTINGS.items():
        command += ["-c", f"{key}={value}"]
    path = str(folder / ".s.PGSQL.5432")
    with run_until_left(command, path, user=as_whom):
        site = Site(address=f"unix:{path}", protocol="pg")
        _wait_until_ready(site)
        yield site


def site_of(site: Site, schema: str) -> Site:
    """Return the site whose connections know the statements of `schema`."""
    return Site(address=site.address, protocol="pg", setup=_prepare(schema))


def _wait_until_ready(site: Site) -> None:
    """Wait until it answers; its socket listens before that."""
    deadline = time.monotonic() + _READY_TIMEOUT_S
    while True:
        try:
            ask(site, "SELECT 1")
        except RuntimeError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


def _find(program: str) -> str:
    """Return the path of a program of PostgreSQL: Debian keeps most out of the way."""
    beside = [*sorted(glob(_PROGRAMS), reverse=True), os.environ.get("PATH", "")]
    found = shutil.which(program, path=os.pathsep.join(beside))
    if found is None:
        raise FileNotFoundError(program)
    return found


def _unprivileged_user() -> int | None:
    """Return whom to run as where we are root, whom PostgreSQL refuses."""
    if os.geteuid():
        return None
    for name in _UNPRIVILEGED:
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name).pw_uid
    raise FileNotFoundError(f"a user to run PostgreSQL as: {' or '.join(_UNPRIVILEGED)}")
