"""The questions fit together: targets name lines and contestants, data has the rows asked for."""

from __future__ import annotations

import struct

import pytest

from benchmarks.wire.data import (
    FLIGHT_RECORDS,
    Scale,
    count_newest,
    flight_rows,
    made_up_rows,
    make_ts,
)
from benchmarks.wire.limit_jobs import JOBS
from benchmarks.wire.lines import LEAST, OURS
from benchmarks.wire.plans import Request, Setup, encode_plan
from benchmarks.wire.questions import make_questions
from benchmarks.wire.specials import make_specials
from benchmarks.wire.stage import keys_of, rows_of, sites_of

SCALE = Scale(
    rounds=1,
    seconds=0.1,
    rows_each=200,
    wide_records=10,
    wide_rows=20,
    load_rows=10,
    load_rounds=1,
    starts=1,
    flights=50_000,
)


def test_every_target_is_of_a_line_and_a_contestant_that_there_are() -> None:
    questions = make_questions(SCALE)
    asks = {question.name: question.asks for question in questions}
    names = [line.name for line in (*questions, *make_specials(SCALE))]
    assert len(set(names)) == len(names)
    for question in questions:
        assert OURS in question.asks
        for target in question.targets:
            assert not target.peer or target.peer in asks[target.line or question.name]


def test_every_question_has_requests_of_which_some_count() -> None:
    for question in make_questions(SCALE):
        for ask in question.asks.values():
            assert any(request.counted for request in ask.requests())


def test_behind_a_rest_the_same_is_asked_as_without() -> None:
    asks = {question.name: question.asks for question in make_questions(SCALE)}
    for records in (100, 1000):
        rested = asks[f"latest-{records}-after-rest"]
        for peer, ask in rested.items():
            without = asks[f"latest-{records}"][peer]
            assert (ask.site, ask.values) == (without.site, without.values)
            assert ask.requests() == without.requests()
            assert ask.rest_us > 0 == without.rest_us


def test_the_sites_of_recordd_have_data() -> None:
    keys = keys_of(sites_of(make_questions(SCALE)), OURS)
    assert keys == {"flights", "hundred", "many", "wide", "writes"}
    assert len(rows_of("hundred", SCALE)) == 20_000
    assert len(rows_of("wide", SCALE)) == 20
    assert sites_of(make_questions(SCALE), ["NATS"]) == {"nats"}


def test_the_least_servers_have_jobs_and_data() -> None:
    sites = sites_of(make_questions(SCALE), [LEAST])
    names = {site.split(",")[0].split(" ", 1)[1] for site in sites}
    assert names == {
        "get writes",
        "latest hundred",
        "latest writes",
        "read many",
        "read wide",
        "write writes",
    }
    for name in names:
        job, key = name.split()
        assert job in JOBS
        assert rows_of(key, SCALE)


def test_made_up_rows_go_on_where_they_ended() -> None:
    rows = [*made_up_rows(3, 6), *made_up_rows(3, 6, 2)]
    assert rows == list(made_up_rows(3, 12))
    assert [ts for _, ts, _ in rows[::3]] == [make_ts(step) for step in range(4)]


def test_flights_have_their_records_and_as_many_rows_as_are_asked_for() -> None:
    rows = flight_rows(50_000)
    assert len(rows) == 50_000
    assert len({name for name, _, _ in rows}) == FLIGHT_RECORDS


@pytest.mark.parametrize(("each", "rows"), [(1, 2), (2, 3), (9, 4)])
def test_the_newest_of_each_record_are_counted(each: int, rows: int) -> None:
    assert count_newest([("a", n, b"") for n in range(3)] + [("b", 1, b"")], each) == rows


def test_a_plan_is_what_the_load_generator_reads() -> None:
    plan = encode_plan(Setup(b"hi", 2), [Request(b"abc", 3, counted=False)])
    assert plan == (
        b"PLAN" + struct.pack("<II", 2, 2) + b"hi" + struct.pack("<IIII", 1, 3, 0, 3) + b"abc"
    )
