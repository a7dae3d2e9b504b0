"""Times as people write them."""

import pytest

from recordd_client.cli.times import format_time, parse_time

NOW = 1_700_000_000_000


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    monkeypatch.setenv("TZ", "UTC")
    time.tzset()


@pytest.mark.parametrize(
    ("text", "ts"),
    [
        ("now", NOW),
        ("-2h", NOW - 7_200_000),
        ("-500ms", NOW - 500),
        ("-999999999d", 0),
        ("1357040340000", 1_357_040_340_000),
        ("2013-01-31", 1_359_590_400_000),
        ("2013-01-31T12:30:00", 1_359_635_400_000),
        ("2013-01-31T12:30:00+01:00", 1_359_631_800_000),
        ("2013-01-31T12:30:00.250Z", 1_359_635_400_250),
    ],
)
def test_times_are_read(text: str, ts: int) -> None:
    assert parse_time(text, now_ms=NOW) == ts


@pytest.mark.parametrize("text", ["", "soon", "2h", "-2y", "2013-13-01", "1066-10-14", "-1"])
def test_a_text_that_is_no_time_is_refused_with_the_forms_there_are(text: str) -> None:
    with pytest.raises(ValueError, match="is no time: write -2h"):
        parse_time(text, now_ms=NOW)


@pytest.mark.parametrize(
    ("ts", "text"),
    [(1_359_635_400_000, "2013-01-31 12:30:00"), (1_359_635_400_250, "2013-01-31 12:30:00.250"), (2**62, str(2**62))],
)  # fmt: skip
def test_times_are_written(ts: int, text: str) -> None:
    assert format_time(ts) == text
