"""`recordctl` as people and pipes use it, against a real daemon."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from recordd_client import connect
from tests.conftest import StartDaemon
from tests.daemon_process import DaemonProcess
from tests.wire import Wire

CODE = "import sys; from recordd_client.cli import main; sys.exit(main())"


class Ctl:
    """Runs the command against a daemon."""

    def __init__(self, url: str) -> None:
        self.url = url

    def __call__(
        self, *arguments: str, input: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", CODE, *arguments],
            env={**os.environ, "RECORDD_CONNECT": self.url, "TZ": "UTC"},
            input=input,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    def out(self, *arguments: str, input: str | None = None) -> str:
        done = self(*arguments, input=input)
        assert done.returncode == 0, done.stderr
        return done.stdout


def fill(daemon: DaemonProcess) -> Ctl:
    """Write two rows of each of three cities."""
    with Wire(daemon.socket_path) as wire:
        for n, city in enumerate(["vienna", "graz", "linz"]):
            wire.call(
                "record.set",
                name=f"temp.{city}",
                value={"celsius": 20 + n},
                ts=1_359_635_400_000 + n,
            )
            wire.call(
                "record.set",
                name=f"temp.{city}",
                value={"celsius": 30 + n},
                ts=1_359_639_000_000 + n,
            )
    return Ctl(daemon.url)


@pytest.fixture(scope="module")
def ctl(shared_daemon: DaemonProcess) -> Ctl:
    """The command against a daemon with records `temp.…`, which are the first and stay so."""
    return fill(shared_daemon)


def count_rows(ctl: Ctl) -> int:
    with connect(ctl.url) as db:
        return db.stats().rows


def test_query_prints_a_table_for_people(ctl: Ctl) -> None:
    out = ctl.out("query", "temp.*")
    lines = out.splitlines()
    assert any(line.split()[:1] == ["record"] for line in lines)
    row = next(line for line in lines if "temp.graz" in line)
    assert '{"celsius": 31}' in row
    assert "2013-01-31 13:30:00.001" in row


def test_query_feeds_pipes(ctl: Ctl) -> None:
    rows = json.loads(ctl.out("query", "temp.*", "--format", "json"))
    assert [row["name"] for row in rows] == ["temp.vienna", "temp.graz", "temp.linz"]
    ndjson = ctl.out("query", "temp.graz", "--limit", "all", "--format", "ndjson").splitlines()
    assert [json.loads(line)["value"]["celsius"] for line in ndjson] == [21, 31]
    table = list(csv.DictReader(io.StringIO(ctl.out("query", "--format", "csv"))))
    assert table[0]["name"] == "temp.vienna"
    assert json.loads(table[0]["value"]) == {"celsius": 30}


def test_query_takes_human_times(ctl: Ctl) -> None:
    early = ctl.out("query", "temp.*", "--end", "2013-01-31T13:00", "--format", "ndjson")
    assert len(early.splitlines()) == 3
    assert ctl.out("query", "temp.*", "--start", "-2h", "--format", "ndjson") == ""
    one = ctl.out(
        "query", "temp.linz", "--start", "2013-01-01", "--limit", "1", "--format", "ndjson"
    )
    assert json.loads(one)["value"] == {"celsius": 32}


def test_get_set_and_ls(ctl: Ctl) -> None:
    assert re.match(r"rev \d+, ", ctl.out("set", "a.b", '{"x": [1, 2]}'))
    assert ctl.out("get", "a.b") == '{"x": [1, 2]}\n'
    ctl.out("set", "a.text", "plain words", "--string")
    assert ctl.out("get", "a.text") == '"plain words"\n'
    ctl.out("set", "a.b", "-", input="[1,\n2]")
    assert ctl.out("get", "a.b") == "[1,2]\n"
    assert "late" in ctl.out("set", "a.b", "0", "--ts", "1000")
    infos = json.loads(ctl.out("ls", "a.*", "--format", "json"))
    assert [info["name"] for info in infos] == ["a.b", "a.text"]
    assert "a.text" in ctl.out("ls")


@pytest.mark.parametrize("value", ["-5", "-0.25", "-1e3"])
def test_numbers_below_zero_are_values(ctl: Ctl, value: str) -> None:
    assert ctl.out("set", f"below{value}", value, "--ts", "-2h").startswith("rev ")
    assert ctl.out("get", f"below{value}") == value + "\n"


def test_behind_two_dashes_nothing_is_an_option(ctl: Ctl) -> None:
    ctl.out("set", "--string", "--", "-name", "--text")
    assert ctl.out("get", "--", "-name") == '"--text"\n'


def test_rows_ahead_of_now_are_shown_and_mended(start_daemon: StartDaemon) -> None:
    ctl = Ctl(start_daemon(RECORDD_MAX_FUTURE="36500d").url)
    ctl.out("set", "a", "1", "--ts", "-1h")
    ctl.out("set", "a", "2", "--ts", "2090-01-01")
    ctl.out("set", "b", "1")
    assert "late" in ctl.out("set", "a", "3", "--ts", "now")
    assert ctl.out("future", "--format", "csv") == "record,latest\na,3786912000000\n"
    assert ctl.out("future", "--beyond", "2091-01-01", "--format", "csv") == ""
    assert "2090-01-01 00:00:00" in ctl.out("future", "--mend")
    assert ctl.out("future", "--format", "csv") == ""
    assert ctl.out("get", "a") == "3\n"
    assert ctl.out("query", "a", "--limit", "all", "--format", "csv").count("\n") == 4


def test_replay_stats_and_ping(daemon: DaemonProcess) -> None:
    ctl = fill(daemon)
    replayed = ctl.out("replay", "--after", "4", "--format", "ndjson").splitlines()
    assert [json.loads(line)["rev"] for line in replayed] == [5, 6]
    assert json.loads(ctl.out("stats", "--format", "json"))["rows"] == 6
    assert "rows_committed" in ctl.out("stats")
    assert "rev 6, " in ctl.out("ping")


def test_an_export_is_imported_again(ctl: Ctl, tmp_path: Path) -> None:
    exported = ctl.out("export", "temp.*")
    assert len(exported.splitlines()) == 6
    path = tmp_path / "temp.ndjson.gz"
    path.write_bytes(gzip.compress(exported.replace('"temp.', '"copy.').encode()))
    assert ctl.out("import", str(path)).startswith("6 rows in ")
    latest = json.loads(ctl.out("query", "copy.*", "--format", "json"))
    assert [row["value"]["celsius"] for row in latest] == [30, 31, 32]
    limited = ctl.out("import", str(path), "--rate", "1000")
    assert limited.startswith("6 rows in ")


def test_an_import_of_rows_past_their_rule_says_so_first(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    daemon = start_daemon(RECORDD_RETENTION="30d")
    path = tmp_path / "old.ndjson"
    path.write_text('{"name":"a","ts":1000,"value":1}\n{"name":"a","value":2}\n')
    done = Ctl(daemon.url)("import", str(path))
    assert done.returncode == 0
    assert "1 of 2 rows are older than the daemon's retention" in done.stderr


def lines_of(count: int, *more: str) -> str:
    return "".join(
        f'{{"name":"n","ts":{NEW_MS + n},"value":{n}}}\n' for n in range(count)
    ) + "".join(more)


NEW_MS = 1_359_635_400_000
PIPES = {
    "pipe": "cat {path} | {ctl} import /dev/stdin",
    "dash": "cat {path} | {ctl} import -",
    "substitution": "{ctl} import <(cat {path})",
    "redirected file": "{ctl} import - <{path}",
    "gzip": "gzip -c {path} | {ctl} import -",
    "byte by byte": "dd if={path} bs=1 count=90 status=none | {ctl} import -",
}


def pipe_into(ctl: Ctl, how: str, path: Path) -> subprocess.CompletedProcess[str]:
    """Run a shell command in which `ctl` and `path` are filled in."""
    command = f"{sys.executable} -c '{CODE}' --connect {ctl.url}"
    return subprocess.run(
        ["bash", "-c", how.format(path=path, ctl=command)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.mark.parametrize("how", PIPES)
def test_an_import_reads_a_pipe_as_it_reads_a_file(ctl: Ctl, tmp_path: Path, how: str) -> None:
    path = tmp_path / "rows.ndjson"
    path.write_text(lines_of(1 if how == "byte by byte" else 1200).rstrip("\n"))
    before = count_rows(ctl)
    done = pipe_into(ctl, PIPES[how], path)
    rows = path.read_text().count("name")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{rows:,} rows in ")
    assert count_rows(ctl) == before + rows


def test_rows_of_a_slow_pipe_are_in_as_they_come(ctl: Ctl) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", CODE, "--connect", ctl.url, "import", "-"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process, connect(ctl.url) as db, db.subscribe("n", snapshot=False) as updates:  # fmt: skip
        assert process.stdin is not None
        for n in range(3):
            process.stdin.write(f'{{"name":"n","value":{n}}}\n')
            process.stdin.flush()
            update = updates.wait(30)
            assert update is not None
            assert update.value == n
        out, _ = process.communicate(timeout=30)
    assert out.startswith("3 rows in ")


def test_an_import_from_a_pipe_says_at_its_end_how_many_rows_are_past_their_rule(
    start_daemon: StartDaemon,
) -> None:
    daemon = start_daemon(RECORDD_RETENTION="30d")
    done = Ctl(daemon.url)("import", "-", input=lines_of(3, '{"name":"a","value":2}\n'))
    assert done.returncode == 0
    assert "3 of 4 rows are older than the daemon's retention" in done.stderr


BAD_LINES = [
    ("nonsense", "line 1202: "),
    ('{"name":"a"}', "line 1202: "),
    ('{"name":"a b","value":1}', "records[1].name"),
    ('{"name":"a","value":"\udcff"}', "line 1202"),
    ('{"name":"a","value":%s}' % ("[" * 2000 + "]" * 2000), "line"),
]


@pytest.mark.parametrize(("line", "complaint"), BAD_LINES)
@pytest.mark.parametrize("is_pipe", [False, True])
def test_a_bad_line_is_named_with_the_rows_that_are_in(
    ctl: Ctl, tmp_path: Path, line: str, complaint: str, is_pipe: bool
) -> None:
    before = count_rows(ctl)
    good = 1201 if "line 1202" in complaint else 1
    path = tmp_path / "bad.ndjson"
    path.write_bytes(lines_of(good, line, "\n").encode(errors="surrogateescape"))
    done = pipe_into(ctl, "cat {path} | {ctl} import -" if is_pipe else "{ctl} import {path}", path)
    assert done.returncode == 1
    assert complaint in done.stderr
    assert done.stderr.count("\n") == 1
    rows = count_rows(ctl) - before
    assert rows == (good if is_pipe and "records[" not in complaint else 0)
    told = f"{rows:,} rows are in, all up to line {rows:,}" if rows else "nothing is in"
    assert told in done.stderr


def test_an_import_cut_off_says_how_much_is_in(daemon: DaemonProcess) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", CODE, "--connect", daemon.url, "import", "-"],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process, connect(daemon.url) as db, db.subscribe("n") as updates:  # fmt: skip
        assert process.stdin is not None
        process.stdin.write('\n{"name":"n","value":1}\n')
        process.stdin.flush()
        assert updates.wait(30) is not None
        daemon.stop()
        _, err = process.communicate('{"name":"n","value":2}\n', timeout=30)
    assert process.returncode == 69
    assert err.endswith("lines 3 to 3; 1 rows are in, all up to line 2\n")
    assert "unknown" not in err


def test_half_a_gzip_file_is_no_success(ctl: Ctl, tmp_path: Path) -> None:
    path = tmp_path / "half.gz"
    whole = gzip.compress(lines_of(2000).encode())
    path.write_bytes(whole[: len(whole) // 2])
    done = ctl("import", str(path))
    assert done.returncode == 1
    assert "behind line" in done.stderr
    assert done.stderr.endswith("nothing is in\n")


def test_an_import_fits_a_daemon_that_takes_little_at_once(start_daemon: StartDaemon) -> None:
    daemon = start_daemon(RECORDD_MAX_ROWS_PER_WRITE="7", RECORDD_MAX_MESSAGE_BYTES="3000")
    assert Ctl(daemon.url).out("import", "-", input=lines_of(100)).startswith("100 rows in ")


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        (("get", "nope"), 1, "record 'nope' does not exist"),
        (("set", "a b", "1"), 1, "name: character ' '"),
        (("set", "a", "plain words"), 2, "needs --string"),
        (("set", "a", "1", "--if-rev", "9"), 1, "not 9"),
        (("query", "--start", "soon"), 2, "is no time"),
        (("query", "a.#b"), 1, "'#' must be a whole segment"),
        (("query", "--limit", "few"), 2, "neither a number nor 'all'"),
        (("import", "/no/such/file"), 2, "does not exist"),
        (("--timeout", "-1", "ping"), 2, "--timeout"),
        (("--timeout", "nan", "ping"), 1, "timeout_s"),
        (("ping", "--count", "-1"), 2, "--count"),
        (("replay", "--limit", "-1"), 2, "--limit"),
        (("set", "a", "-x"), 2, "No such option"),
        (("set", "-a", "1"), 2, "No such option"),
        (("get", "a\udcff"), 1, "record.get"),
        (("--connect", "unix:///a\udcff", "ping"), 69, "/a"),
        (("--connect", "unix:///no/such", "ping"), 69, "/no/such"),
        (("--connect", "ftp://x", "ping"), 69, "not an address"),
    ],
)
def test_a_mistake_is_one_line_and_an_exit_code(
    ctl: Ctl, arguments: tuple[str, ...], code: int, complaint: str
) -> None:
    done = ctl(*arguments)
    assert done.returncode == code
    assert complaint in done.stderr
    assert "Traceback" not in done.stderr


def test_a_reader_that_has_enough_ends_it_quietly(ctl: Ctl, shared_daemon: DaemonProcess) -> None:
    with Wire(shared_daemon.socket_path) as wire:
        wire.call(
            "record.set_many",
            records=[{"name": "many", "value": "x" * 100, "ts": n} for n in range(5000)],
        )
    pipe = f"{sys.executable} -c '{CODE}' --connect {ctl.url} export many | head -1"
    done = subprocess.run(
        ["sh", "-c", pipe], capture_output=True, text=True, timeout=30, check=False
    )
    assert (len(done.stdout.splitlines()), done.stderr) == (1, "")


def test_a_value_cannot_style_the_table_or_move_the_cursor(ctl: Ctl) -> None:
    ctl.out("set", "evil", json.dumps("[red]\x9b2J"))
    out = ctl.out("query", "evil")
    assert "[red]" in out
    assert "\x9b" not in out
    ctl.out("set", "evil", "-", input='"\x9b2J"')
    assert "\\u009b" in ctl.out("query", "evil")


def test_the_command_line_does_without_trio(ctl: Ctl) -> None:
    code = (
        "import sys; from recordd_client.cli import main; code = main();"
        "assert 'trio' not in sys.modules; assert 'rich' not in sys.modules; sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "--connect", ctl.url, "get", "temp.graz"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
