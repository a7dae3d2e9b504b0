"""The least servers answer what recordd answers, byte for byte where the data is the same."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from pathlib import Path

import apsw
import msgspec
import pytest

from benchmarks.observations import make_name, make_value
from benchmarks.wire import recordd
from benchmarks.wire.data import made_up_rows, make_ts
from benchmarks.wire.limit_data import DATABASE, fill, open_database
from benchmarks.wire.limit_jobs import JOBS, Call, Job
from benchmarks.wire.plans import Request
from tests.core_in_memory import running_core

ROWS = [*made_up_rows(4, 20), (make_name(1), make_ts(3) + 5, b"7")]
"""The last one came late."""
SET = recordd.set_value(make_name(1), make_value(9))
LOAD = recordd.encode_load([("new", 5, b"1"), (make_name(0), 6, b"2"), ("new", 7, b"3")])[0]
ASKED: list[tuple[str, Request]] = [
    ("get", recordd.get(make_name(2))),
    ("read", recordd.query(make_name(1), limit=3)),
    ("read", recordd.query(make_name(1), limit=100)),
    ("read", recordd.query(make_name(3), limit=None, start=make_ts(1), end=make_ts(2))),
    ("read", recordd.query("*", limit=2)),
    ("latest", recordd.query("*")),
    ("latest", SET),
    ("write", SET),
    ("load", LOAD),
]


@pytest.fixture
def db(tmp_path: Path) -> Iterator[apsw.Connection]:
    """A database of 4 records with 5 rows each, and 1 late one."""
    fill(tmp_path / "a", ROWS)
    db = open_database(tmp_path / "a" / DATABASE)
    yield db
    db.close()


def answer(job: Job, *requests: Request) -> bytes:
    calls = msgspec.json.Decoder(Call).decode_lines(b"".join(r.line for r in requests))
    with socket.socket() as sock:
        return b"".join([text for _, text in job.answer([(sock, calls)])])


def mask(line: bytes) -> bytes:
    """Leave the epoch out, and the times at which things were written."""
    return re.sub(rb'"epoch":"\w+"|"ts":179\d+', b"", line)


@pytest.mark.parametrize(("job", "request_"), ASKED)
async def test_an_answer_is_that_of_recordd(
    db: apsw.Connection, job: str, request_: Request
) -> None:
    async with running_core() as core:
        peer = core.connect()
        await peer.send(recordd.encode_load(ROWS)[0].line.rstrip())
        await peer.receive_raw()
        await peer.send(request_.line.rstrip())
        expected = await peer.receive_raw() + b"\n"
    assert mask(answer(JOBS[job](db), request_)) == mask(expected)


def test_the_writes_of_a_pass_are_one_commit_before_the_first_answer(db: apsw.Connection) -> None:
    commits: list[int] = []

    def note_commit() -> bool:
        commits.append(1)
        return False

    db.set_commit_hook(note_commit)
    calls = msgspec.json.Decoder(Call).decode_lines(SET.line * 3)
    job = JOBS["write"](db)
    with socket.socket() as one, socket.socket() as other:
        answers = job.answer([(one, calls), (other, calls[:1])])
        assert b'"rev":22' in next(answers)[1]
        assert commits == [1]
        assert db.execute("SELECT count(*) FROM log").get == 25
        sock, text = next(answers)
        assert (sock, text.count(b"\n"), b'"rev":25' in text) == (other, 1, True)
    assert b'"rev":26' in answer(job, SET)


def test_a_write_is_the_newest_of_the_latest(db: apsw.Connection) -> None:
    job = JOBS["latest"](db)
    before = answer(job, recordd.query("*"))
    answer(job, SET)
    page = answer(job, recordd.query("*"))
    assert (before.count(b'"samples"'), page.count(b'"samples"')) == (4, 4)
    assert page.endswith(b'"rev":22}],"rev":22,"epoch":"0123456789abcdef"}}\n')
    assert before.index(make_name(1).encode()) < before.index(make_name(2).encode())
    assert page.index(make_name(1).encode()) > page.index(make_name(3).encode())


def test_a_load_numbers_its_rows_and_the_records_that_are_new(db: apsw.Connection) -> None:
    text = answer(JOBS["load"](db), LOAD, LOAD)
    assert [line[line.index(b"first_rev") :] for line in text.splitlines()] == [
        b'first_rev":22,"last_rev":24}}',
        b'first_rev":25,"last_rev":27}}',
    ]
    rows = db.execute("SELECT rev, name, ts FROM log JOIN record ON id = record WHERE rev > 24")
    assert rows.fetchall() == [(25, "new", 5), (26, make_name(0), 6), (27, "new", 7)]
