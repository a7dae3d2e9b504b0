"""`recordctl` as people and pipes use it, against a real daemon."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import StartDaemon
from tests.daemon_process import DaemonProcess
from tests.wire import Wire


class Ctl:
    """Runs the command against a daemon."""

    def __init__(self, url: str) -> None:
        self.url = url

    def __call__(
        self, *arguments: str, input: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        code = "import sys; from recordd_client.cli import main; sys.exit(main())"
        return subprocess.run(
            [sys.executable, "-c", code, *arguments],
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


@pytest.fixture
def ctl(daemon: DaemonProcess) -> Ctl:
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
    assert ctl.out("set", "a.b", '{"x": [1, 2]}').startswith("rev 7, ")
    assert ctl.out("get", "a.b") == '{"x": [1, 2]}\n'
    ctl.out("set", "a.text", "plain words", "--string")
    assert ctl.out("get", "a.text") == '"plain words"\n'
    ctl.out("set", "a.b", "-", input="[1,\n2]")
    assert ctl.out("get", "a.b") == "[1,2]\n"
    assert "late" in ctl.out("set", "a.b", "0", "--ts", "1000")
    infos = json.loads(ctl.out("ls", "a.*", "--format", "json"))
    assert [info["name"] for info in infos] == ["a.b", "a.text"]
    assert "a.text" in ctl.out("ls")


def test_replay_stats_and_ping(ctl: Ctl) -> None:
    replayed = ctl.out("replay", "--after", "4", "--format", "ndjson").splitlines()
    assert [json.loads(line)["rev"] for line in replayed] == [5, 6]
    assert json.loads(ctl.out("stats", "--format", "json"))["rows"] == 6
    assert "rows_committed" in ctl.out("stats")
    assert "rev 6, " in ctl.out("ping")


def test_what_was_exported_is_imported_again(ctl: Ctl, tmp_path: Path) -> None:
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


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("nonsense", "line 2"),
        ('{"name":"a"}', "line 2"),
        ('{"name":"a b","value":1}', "records[1].name"),
    ],
)
def test_a_bad_line_is_named_and_what_came_before_is_told(
    ctl: Ctl, tmp_path: Path, line: str, complaint: str
) -> None:
    path = tmp_path / "bad.ndjson"
    path.write_text('{"name":"ok","value":1}\n' + line + "\n")
    done = ctl("import", str(path))
    assert done.returncode == 1
    assert complaint in done.stderr
    assert done.stderr.count("\n") == 1


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
        (("--connect", "unix:///no/such", "ping"), 69, "/no/such"),
        (("--connect", "ftp://x", "ping"), 69, "not an address"),
    ],
)
def test_a_mistake_is_said_in_a_line_and_an_exit_code(
    ctl: Ctl, arguments: tuple[str, ...], code: int, complaint: str
) -> None:
    done = ctl(*arguments)
    assert done.returncode == code
    assert complaint in done.stderr
    assert "Traceback" not in done.stderr


def test_a_reader_that_has_enough_ends_it_quietly(ctl: Ctl, daemon: DaemonProcess) -> None:
    with Wire(daemon.socket_path) as wire:
        wire.call(
            "record.set_many",
            records=[{"name": "many", "value": "x" * 100, "ts": n} for n in range(5000)],
        )
    code = "import sys; from recordd_client.cli import main; sys.exit(main())"
    pipe = f"{sys.executable} -c '{code}' --connect {daemon.url} export many | head -1"
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
