"""Which dialects a connection may speak, and what the settings bound in each."""

from __future__ import annotations

import pytest

from recordd.connections.dialects import DIALECTS, make_aimx, make_dialects
from recordd_protocol.aimx import Aimx
from recordd_protocol.framing import Framing
from recordd_protocol.jsonrpc import JsonRpc
from tests.core_in_memory import configure

SETTINGS = configure(max_reply_bytes=1_000_000, max_aimx_reply_bytes=2_000_000).settings


@pytest.mark.parametrize("framing", Framing)
def test_a_message_is_offered_to_aimx_before_json_rpc(framing: Framing) -> None:
    dialects = make_dialects(SETTINGS)[framing]
    assert [dialect.name for dialect in dialects] == [Aimx.name, JsonRpc.name]


@pytest.mark.parametrize("message", [b"", b"\xff", b"nonsense", b'{"t":"hello"}', b"[]"])
def test_the_last_dialect_takes_every_message(message: bytes) -> None:
    last = DIALECTS[-1](Framing.LINE, SETTINGS)
    assert last.claims(message)
    assert not make_aimx(Framing.LINE, SETTINGS).claims(b"nonsense")


def test_aimx_answers_are_longer_on_the_unix_socket_alone() -> None:
    limits = {}
    for framing in Framing:
        dialect = make_aimx(framing, SETTINGS)
        assert isinstance(dialect, Aimx)
        limits[framing] = dialect.max_reply_bytes
    assert limits == {Framing.LINE: 2_000_000, Framing.FRAME: 1_000_000}
