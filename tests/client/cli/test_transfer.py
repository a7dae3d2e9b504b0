"""Import and export."""

from __future__ import annotations

import gzip
import io
import itertools
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import pytest

from recordd_client import Client
from recordd_client.cli import transfer
from recordd_client.cli.transfer import Importer, Source, Survey
from recordd_client.errors import InvalidValue, TooLarge
from recordd_protocol.methods import RetentionStats, RuleInfo
from tests.client.servers import (
    StartServer,
)
from tests.client.test_clients import Pages


def test_an_export_never_ends_short_in_silence(start_server: StartServer, short_path: Path) -> None:
    start_server(Pages(1))
    code = "import sys; from recordd_client.cli import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", code, "--connect", f"unix://{short_path}/s", "export"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.endswith(
        "rows behind the page are gone; what was exported is not whole: export again\n"
    )


def make_source(data: bytes, *, seekable: bool = True) -> Source:
    return Source("x", io.BytesIO(data) if seekable else Pipe(data))


class Pipe(io.BytesIO):
    """Bytes that can be read once."""

    def seekable(self) -> bool:
        return False


def names_in(source: Source) -> list[tuple[int, str]]:
    return [(number, line.name) for lines in source.read() for number, line in lines]


LINES = b'{"name":"a","value":1}\n\n{"name":"b","value":2,"ts":5}'


@pytest.mark.parametrize("data", [LINES, gzip.compress(LINES, mtime=0)])
@pytest.mark.parametrize("seekable", [True, False])
def test_lines_are_read_with_their_numbers_from_gzip_too(data: bytes, seekable: bool) -> None:
    source = make_source(data, seekable=seekable)
    assert names_in(source) == [(1, "a"), (3, "b")]
    assert names_in(source) == ([(1, "a"), (3, "b")] if seekable else [])


@pytest.mark.parametrize("bad", [b"nonsense", b'{"name":"a"}', b'{"name":"a","value":"\xff"}'])
def test_the_lines_before_a_bad_one_come_first_and_it_is_named(bad: bytes) -> None:
    read = make_source(LINES + b"\n" + bad + b"\n").read()
    assert [line.name for _, line in next(read)] == ["a", "b"]
    with pytest.raises(InvalidValue, match=r"^x, line 4: "):
        next(read)


def test_half_a_gzip_file_is_named_as_such() -> None:
    with pytest.raises(InvalidValue, match=r"^x, behind line \d+: "):
        names_in(make_source(gzip.compress(LINES)[:-6]))


def test_rows_past_their_retention_are_counted_by_the_first_rule_that_matches() -> None:
    rules = [RuleInfo("a", True, True, None, None), RuleInfo("#", True, True, 1000, None)]
    stats = RetentionStats(rules, True, 0, None, None, 0, None)
    survey = Survey(stats)
    old = b'{"name":"a","value":1,"ts":5}\n{"name":"c","value":1,"ts":5}\n'
    for lines in make_source(old + LINES).read():
        survey.count(lines)
    assert (survey.rows, survey.expired) == (4, 2)


def test_a_line_that_no_daemon_takes_does_not_fill_the_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(transfer, "_MAX_LINE_BYTES", 100)
    assert names_in(make_source(b'{"name":"a","value":"%b"}\n' % (b"x" * 75))) == [(1, "a")]
    with pytest.raises(InvalidValue, match="a line of more than 100 bytes"):
        names_in(make_source(b"x" * 101))


class Taker:
    """Takes batches, up to a number of rows."""

    def __init__(self, max_rows: int = 10_000) -> None:
        self.batches: list[list[str]] = []
        self._max_rows = max_rows

    def set_many(self, items: list[Any]) -> None:
        if len(items) > self._max_rows:
            raise TooLarge("too many")
        self.batches.append([name for name, _, _ in items])


def write(taker: Any, count: int, first: bytes = b"1") -> Importer:
    importer = Importer(taker, None)
    values = [first] + [b"1"] * (count - 1)
    data = b"".join(b'{"name":"r%d","value":%b}\n' % item for item in enumerate(values))
    for lines in make_source(data).read():
        assert sum(importer.write(lines)) == len(lines)
    return importer


def test_rows_go_in_batches_in_order_and_it_is_told_how_far() -> None:
    importer = write(taker := Taker(), 1002)
    assert [len(batch) for batch in taker.batches] == [500, 500, 2]
    assert list(itertools.chain(*taker.batches)) == [f"r{n}" for n in range(1002)]
    assert importer.standing == "1,002 rows are in, all up to line 1,002"
    assert Importer(cast("Client", taker), None).standing == "nothing is in"


def test_a_batch_ends_past_half_a_mebibyte() -> None:
    write(taker := Taker(), 3, first=b'"%b"' % (b"x" * 600_000))
    assert taker.batches == [["r0"], ["r1", "r2"]]


def test_a_batch_that_is_too_large_for_the_daemon_goes_in_halves() -> None:
    importer = write(taker := Taker(max_rows=2), 5)
    assert [len(batch) for batch in taker.batches] == [2, 1, 2]
    assert importer.rows == 5


def test_a_row_that_is_too_large_is_named_with_what_is_in() -> None:
    with pytest.raises(TooLarge) as caught:
        write(Taker(max_rows=0), 2)
    assert caught.value.__notes__ == ["line 1"]
