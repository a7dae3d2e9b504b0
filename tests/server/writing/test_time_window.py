"""The window that a write's `ts` has to lie in, and what a refusal says."""

from __future__ import annotations

import time

import pytest

from recordd.config.settings import Settings
from recordd.writing.time_window import check_ts
from recordd_protocol.errors import RequestError
from tests.core_in_memory import configure, running_core

NOW_MS = 1_700_000_000_000
MIN_TS = Settings().min_ts
DAY_MS = 86_400_000


def check(ts: int) -> None:
    check_ts(ts, now_ms=NOW_MS, min_ts=MIN_TS, max_future_ms=DAY_MS)


def test_the_window_starts_with_the_year_2000() -> None:
    assert time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(MIN_TS / 1000)) == "2000-01-01 00:00:00"


@pytest.mark.parametrize("ts", [MIN_TS, MIN_TS + 1, NOW_MS, NOW_MS + DAY_MS])
def test_both_ends_of_the_window_are_in_it(ts: int) -> None:
    check(ts)


@pytest.mark.parametrize(
    ("ts", "complaint"),
    [
        (1353500000, "looks like seconds: 1353500000 is 1970-01-16 in milliseconds, before min_ts"),
        (946684800, "looks like seconds"),
        (NOW_MS // 1000 + DAY_MS // 1000, "looks like seconds"),
        (NOW_MS * 1000, "looks like microseconds: 1700000000000000 is in the year 55840"),
        (NOW_MS * 1_000_000, "looks like nanoseconds"),
        (0, "ts: 0 is 1970-01-01 in milliseconds, before min_ts (2000-01-01)"),
        (MIN_TS - 1, "ts: 946684799999 is 1999-12-31 in milliseconds, before min_ts"),
        (NOW_MS + DAY_MS + 1, "2023-11-15 in milliseconds, more than max_future (86400000 ms)"),
        (2**63 - 1, "ahead of the daemon's clock"),
        (-1, "-1 is not between 0 and 2^63 - 1"),
        (2**63, "is not between"),
    ],
)
def test_a_refusal_names_the_bound_and_the_unit(ts: int, complaint: str) -> None:
    with pytest.raises(RequestError) as refused:
        check(ts)
    assert refused.value.message.startswith("ts: ")
    assert complaint in refused.value.message


async def test_every_way_to_write_a_ts_is_checked() -> None:
    async with running_core(configuration=configure(min_ts=MIN_TS)) as core:
        peer = core.connect()
        one = await peer.call("record.set", name="a", value=1, ts=1353500000)
        assert one["error"]["data"]["reason"] == "invalid_params"
        assert "ts: looks like seconds" in one["error"]["message"]
        rows = [{"name": "a", "value": 1}, {"name": "b", "value": 2, "ts": 1353500000}]
        many = await peer.call("record.set_many", records=rows)
        assert many["error"]["message"].startswith("records[1].ts: looks like seconds")
        frame = b'{"t":"req","id":1,"method":"record.set","params":{"name":"a","value":1,"ts":7}}'
        await peer.send(frame)
        assert (await peer.receive())["msg"].startswith("ts: 7 is 1970-01-01")
        assert await peer.call("record.count") == {"records": 0, "rows": 0}
