"""Output of the commands: tables for people, NDJSON and CSV for pipes."""

from __future__ import annotations

import msgspec
import pytest

from recordd_client.cli.output import print_objects, print_rows, print_updates
from recordd_client.following import Update
from recordd_client.rows import Row

ROWS = [
    Row("a", msgspec.Raw(b'{"x":1.50}'), 1000, 7),
    Row("b", msgspec.Raw(b'"two, three"'), 2001, None),
]


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")


@pytest.mark.parametrize(
    ("format", "text"),
    [
        (
            "ndjson",
            '{"name":"a","value":{"x":1.50},"ts":1000,"rev":7}\n'
            '{"name":"b","value":"two, three","ts":2001,"rev":null}\n',
        ),
        (
            "csv",
            'name,value,ts,rev\na,"{""x"":1.50}",1000,7\nb,"""two, three""",2001,\n',
        ),
    ],
)
def test_values_reach_a_pipe_as_they_were_written(
    capsys: pytest.CaptureFixture[str], format: str, text: str
) -> None:
    print_rows(ROWS, format)
    assert capsys.readouterr().out == text


def test_nothing_is_an_empty_list_in_json_and_no_header_in_csv(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_rows([], "json")
    assert capsys.readouterr().out == "[]\n"
    print_rows([], "csv")
    assert capsys.readouterr().out == ""


def test_a_table_shows_times_and_escapes_control_characters(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_rows([Row("a", msgspec.Raw('"\u009b1m[b]"'.encode()), 1001, 7)], "table")
    assert "a" in (out := capsys.readouterr().out)
    assert '"\\u009b1m[b]"   1970-01-01 00:00:01.001     7' in out


def test_arrays_in_csv_are_json(capsys: pytest.CaptureFixture[str]) -> None:
    print_objects([{"key": "a", "value": [1, None], "more": None}], "csv")
    assert capsys.readouterr().out == 'key,value,more\na,"[1,null]",\n'


@pytest.mark.parametrize(
    ("update", "line"),
    [
        (Update("a", msgspec.Raw(b"1"), 1000, 7), "a  1"),
        (Update("a", msgspec.Raw(b"1"), 1000, 7, snapshot=True, last=True), "a  1  (snapshot)"),
        (Update("a", msgspec.Raw(b"1"), 1000, 7, late=True, skipped=2), "a  1  (late, 2 skipped)"),
        (Update[msgspec.Raw]("a", None, 1000, 7, deleted=True), "a  -  (deleted)"),
    ],
)
def test_an_update_is_a_line_with_its_flags(
    capsys: pytest.CaptureFixture[str], update: Update[msgspec.Raw], line: str
) -> None:
    print_updates([update], "text")
    assert capsys.readouterr().out == f"1970-01-01 00:00:01  {line}\n"
