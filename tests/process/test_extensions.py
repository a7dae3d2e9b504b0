"""Extensions of another distribution, in a real daemon that finds them by entry point."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from recordd.config.settings import load
from recordd.core import build_core
from recordd.daemon import configured_extensions
from recordd_protocol.errors import RecorddError
from tests.conftest import StartDaemon
from tests.distributions import install_distribution
from tests.wire import Wire

MODULE = """
import logging
from typing import Any

import msgspec

from recordd.extending.extensions import ExtensionError
from recordd.extending.points import QueryHandler
from recordd_protocol.rows import Page, Row


class Answer(msgspec.Struct, forbid_unknown_fields=True):
    answer: int = 0


class Oracle(QueryHandler):
    def __init__(self, answer: int) -> None:
        self._answer = answer

    def query(self, query: Any) -> Page:
        return Page([Row("oracle", b"%d" % self._answer, 1, 1)], rev=1, epoch="delphi")

    def replay(self, params: Any) -> Page:
        return self.query(params)

    def at(self, rev: int) -> Row:
        return Row("oracle", b"%d" % self._answer, 1, rev)


def make_oracle(table):
    oracle = Oracle(msgspec.convert(dict(table), Answer).answer)
    return lambda builder: builder.extensions.insert(QueryHandler, oracle)


def make_herald(table):
    if "silent" in table:
        raise ExtensionError("silent: a herald is not")

    async def tell() -> None:
        logging.getLogger("herald").warning("persistence %s", builders[0].settings.backend)

    builders = []

    def install(builder):
        builders.append(builder)
        builder.extensions.on_start(tell)

    return install


def make_clumsy(table):
    return table["what nobody stated"]


def make_idle(table):
    return None
"""
ENTRY_POINTS = """[recordd.extensions]
oracle = delphi:make_oracle
herald = delphi:make_herald
broken = delphi:nothing
clumsy = delphi:make_clumsy
idle = delphi:make_idle
ruined = ruins:make
"""


@pytest.fixture
def site(short_path: Path) -> Path:
    """A folder with the distribution, to be on the path of a daemon."""
    folder = short_path / "site"
    install_distribution(folder, "delphi", ENTRY_POINTS)
    (folder / "delphi.py").write_text(MODULE)
    (folder / "ruins.py").write_text("raise RuntimeError('ruins')")
    return folder


def test_a_daemon_runs_the_named_extensions_with_their_tables(
    start_daemon: StartDaemon, short_path: Path, site: Path
) -> None:
    config = short_path / "recordd.toml"
    config.write_text(
        'backend = ""\nextensions = ["herald", "oracle"]\n[extension.oracle]\nanswer = 42\n'
    )
    daemon = start_daemon("--config", str(config), PYTHONPATH=str(site))
    with Wire(daemon.socket_path) as wire:
        assert wire.call("record.at", rev=7)["value"] == 42
    assert daemon.stop() == 0
    assert "herald" in daemon.log


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('extensions = ["nope"]', "extension 'nope' is not installed (there is: broken, clumsy, herald, idle, oracle, ruined)"),
        ('extensions = ["broken"]', "extension 'broken' cannot be loaded"),
        ('extensions = ["ruined"]', "extension 'ruined' cannot be loaded: RuntimeError: ruins"),
        ('extensions = ["clumsy"]', "extension 'clumsy' fails: KeyError: 'what nobody stated' (log_level debug"),
        ('extensions = ["idle"]', "extension 'idle' fails: TypeError: 'NoneType' object is not callable"),
        ('extensions = ["oracle"]\n[extension.oracle]\nanswr = 1', "[extension.oracle] Object contains unknown field `answr`"),
        ('extensions = ["herald"]\n[extension.herald]\nsilent = 1', "[extension.herald] silent: a herald is not"),
    ],
)  # fmt: skip
def test_an_extension_that_cannot_be_used_is_named_in_one_line(
    short_path: Path, site: Path, monkeypatch: pytest.MonkeyPatch, text: str, complaint: str
) -> None:
    monkeypatch.syspath_prepend(site)
    monkeypatch.delitem(sys.modules, "delphi", raising=False)
    (short_path / "recordd.toml").write_text(text)
    configuration = load({}, {}, short_path / "recordd.toml")
    with pytest.raises(RecorddError) as caught:
        build_core(configuration, configured_extensions(configuration))
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_extension_whose_place_is_taken_ends_the_start_with_78(
    short_path: Path, site: Path
) -> None:
    (short_path / "recordd.toml").write_text('extensions = ["oracle"]')
    done = subprocess.run(
        [
            *(sys.executable, "-m", "recordd", "--config", str(short_path / "recordd.toml")),
            *("--socket", str(short_path / "s"), "--listen", ""),
            *("--database", str(short_path / "r.db")),
        ],
        env={**os.environ, "PYTHONPATH": str(site), "RECORDD_LOG_LEVEL": "error"},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    told = "recordd: an extension for QueryHandler is there already\n"
    assert (done.returncode, done.stderr) == (78, told)
