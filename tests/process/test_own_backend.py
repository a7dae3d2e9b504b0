"""The backend that docs/persistence.md shows: built from the page, tested, and run by a daemon."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.conftest import StartDaemon
from tests.distributions import install_distribution
from tests.wire import Wire

PAGE = Path(__file__).parents[2] / "docs" / "persistence.md"
FILES = dict(
    re.findall(r"^`([\w.]+)`:\n\n```\w+\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
)


@pytest.fixture
def site(short_path: Path) -> Path:
    """A folder with the distribution as it stands on the page, installed."""
    folder = short_path / "site"
    project = tomllib.loads(FILES["pyproject.toml"])["project"]
    groups = project["entry-points"].items()
    lines = [f"[{group}]\n{name} = {value}" for group, points in groups for name, value in points.items()]  # fmt: skip
    install_distribution(folder, project["name"].replace("-", "_"), "\n".join(lines))
    for name, text in FILES.items():
        (folder / name).write_text(text)
    return folder


def run(site: Path, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *command],
        cwd=site,
        env={**os.environ, "PYTHONPATH": str(site), **environment},
        capture_output=True,
        text=True,
        timeout=40,
        check=False,
    )


def test_it_passes_the_suite_which_says_what_was_left_out(site: Path) -> None:
    done = run(site, "pytest", "-q", "-rs", "-p", "no:cacheprovider", "-W", "error")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^\d\d passed, \d+ skipped", done.stdout, re.MULTILINE)
    assert "LinesBackend has no CleansUp (Delete rows" in done.stdout


def test_a_daemon_runs_on_it_and_finds_its_rows_again(
    start_daemon: StartDaemon, short_path: Path, site: Path
) -> None:
    rows = short_path / "rows.lines"
    (site / "recordd.toml").write_text(FILES["recordd.toml"].replace("rows.lines", str(rows)))
    config = ("--config", str(site / "recordd.toml"))
    daemon = start_daemon(*config, PYTHONPATH=str(site))
    with Wire(daemon.socket_path) as wire:
        wire.call("record.set", name="a.b", value={"x": 1.5})
        wire.call("record.set", name="gone", value=2)
        wire.call("record.delete", name="gone")
    assert daemon.stop() == 0
    daemon.start()
    with Wire(daemon.socket_path) as wire:
        found = wire.call("record.query", limit=None)["records"]
        assert [(row["name"], row["value"]) for row in found] == [("a.b", {"x": 1.5})]
    assert daemon.stop() == 0
    shown = run(site, "recordd", "config", *config, RECORDD_BACKEND_SYNC="false").stdout
    assert re.search(rf"^backend\.path += {rows} +# .*recordd\.toml$", shown, re.MULTILINE)
    assert re.search(r"^backend\.sync += false +# RECORDD_BACKEND_SYNC$", shown, re.MULTILINE)
