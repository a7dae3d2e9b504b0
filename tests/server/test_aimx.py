"""AimX transcripts against the core in memory."""

from __future__ import annotations

import pytest
import trio

from tests.core_in_memory import running_core
from tests.golden import LINES, generalize, pieces_of, read_transcript


@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize("name", LINES)
async def test_golden_transcripts(name: str, split: bool) -> None:
    async with running_core() as core:
        peer = core.connect()
        for exchange in read_transcript(name):
            for piece in pieces_of(exchange.as_lines(), split=split):
                await peer.stream.send_all(piece)
            with trio.fail_after(5):
                found = [generalize(await peer.receive_raw()) for _ in exchange.expected]
            assert found == exchange.expected
