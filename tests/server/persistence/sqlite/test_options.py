"""SQLite's own options."""

from __future__ import annotations

from pathlib import Path

from recordd.extending.backend import BackendOptions
from recordd.extending.options import describe_options
from recordd.persistence.sqlite.backend import SqliteBackend
from recordd.persistence.sqlite.options import SqliteOptions, read_open_options

DOCS = Path(__file__).parents[4] / "docs" / "settings.md"


def test_every_option_has_a_unit_and_a_reason_and_is_documented_with_its_default() -> None:
    text = DOCS.read_text().split("## The backend")[1].split("\n## ")[0]
    defaults = SqliteOptions(database="`recordd.db` in the state directory")
    for info in describe_options(SqliteOptions):
        assert info.unit
        default = str(getattr(defaults, info.key))
        shown = default if info.key == "database" else f"`{default}`"
        row = f"| `{info.key}` | {info.unit} | {shown} | {info.reason} |"
        assert row in text, row


def test_the_database_goes_by_its_real_name(tmp_path: Path) -> None:
    (tmp_path / "link.db").symlink_to(tmp_path / "real.db")
    options = BackendOptions({"database": f"{tmp_path}/link.db"}, query_timeout_s=3.0)
    found = read_open_options(options)
    assert (found.database, found.query_timeout_s) == (f"{tmp_path}/real.db", 3.0)
    assert not found.accept_loss


def test_readers_and_tail_say_how_much_is_read_at_a_time_and_held() -> None:
    backend = SqliteBackend(
        BackendOptions({"database": "x.db", "readers": 3, "tail_rows": 1000, "recent_bytes": 9})
    )
    assert backend.parallel_reads == 3
    parts = backend.estimate_memory(max_value_bytes=100, max_reply_bytes=1000)
    reads = 3 * 3 * (32 * 100 + 1000)
    assert parts == {
        "index tail": 2 * 1000 * 200,
        "sorted run": 1000 * 32,
        "page caches": (64 + (3 + 1) * 16) << 20,
        "recent rows": 9,
        "reads": reads,
    }
