"""Settings: where a value comes from, and what a bad one says."""

from __future__ import annotations

from pathlib import Path

import pytest

from recordd.config.rules import format_age, parse_age
from recordd.config.settings import ConfigurationError, describe_settings, load


def write(folder: Path, text: str) -> Path:
    path = folder / "recordd.toml"
    path.write_text(text)
    return path


def test_precedence_is_flag_environment_file_default(tmp_path: Path) -> None:
    path = write(tmp_path, 'retention = "1d"\nlog_level = "error"\nmax_records = 7\n')
    found = load(
        {"retention": "3d"}, {"RECORDD_RETENTION": "2d", "RECORDD_LOG_LEVEL": "debug"}, path
    )
    assert found.settings.retention_ms == 3 * 86_400_000
    assert found.settings.log_level == "debug"
    assert found.settings.max_records == 7
    assert found.settings.page_rows == 10_000
    sources = found.sources
    assert (sources["retention"], sources["log_level"]) == ("--retention", "RECORDD_LOG_LEVEL")
    assert (sources["max_records"], sources["page_rows"]) == (str(path), "default")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("nonsense", "Expected"),
        ("color = 1", "unknown setting 'color'"),
        ("max_records = 0", "max_records"),
        ('max_records = "many"', "max_records"),
        ("max_records = true", "max_records"),
        ('retention = "soon"', "is not an age"),
        ("retention = 30", "is not an age"),
        ('retention = "0s"', "would delete everything"),
        ('listen = "localhost"', "HOST:PORT"),
        ('listen = "localhost:99999"', "HOST:PORT"),
        ('listen = ""\nsocket = ""', "nobody could connect"),
        ('log_level = "loud"', "log_level"),
        ("max_value_bytes = 2000000", "max_value_bytes"),
        ('socket = "%s"' % ("/x" * 60), "107 bytes"),
        ("record = 1", "[[record]]"),
        ("[[record]]\nnam = 'x'", "number 1"),
        ("[[record]]\nname = 'a b'", "number 1"),
        ("[[record]]\nname = 'a'\n[[record]]\nname = 'b'\nbuffer = 'spmc_ring'", "number 2"),
        ("[[record]]\nname = 'a'\ncapacity = 5", "takes no capacity"),
        ("[[record]]\nname = 'a'\nbuffer = 'queue'", "buffer"),
        ("[[record]]\nname = 'a'\nmax_rows = 0", "max_rows"),
        ("[[record]]\nname = 'a'\nschema_type = ''", "schema_type"),
        ("[[record]]\nname = 'a'\nschema_type = 7", "schema_type"),
        ("[[record]]\nname = 'a'\nbuffer='spmc_ring'\ncapacity = 99999999", "max_ring_capacity"),
    ],
)
def test_a_bad_file_says_where_and_what_in_one_line(
    tmp_path: Path, text: str, complaint: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load({}, {}, write(tmp_path, text))
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_a_bad_variable_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"nope\.toml"):
        load({}, {}, tmp_path / "nope.toml")
    with pytest.raises(ConfigurationError, match="RECORDD_PAGE_ROWS"):
        load({}, {"RECORDD_PAGE_ROWS": "x"}, None)


def test_switches_and_lists_come_from_the_environment() -> None:
    environment = {"RECORDD_KEEP_LATEST": "false", "RECORDD_ALLOWED_ORIGINS": "http://a, http://b"}
    settings = load({}, environment, None).settings
    assert settings.keep_latest is False
    assert settings.allowed_origins == ["http://a", "http://b"]


def test_the_first_rule_that_matches_holds_and_the_default_is_last(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        'retention = "10d"\n[[record]]\nname = "a.b"\nretention = "1h"\n'
        '[[record]]\nname = "a.*"\npersist = false\nretention = "off"\nmax_rows = 5\n',
    )
    rules = load({}, {}, path).rules
    assert rules.rule_for("a.b").retention_ms == 3_600_000
    assert rules.rule_for("a.c").retention_ms is None
    assert (rules.rule_for("a.c").persist, rules.rule_for("a.c").max_rows) == (False, 5)
    assert rules.rule_for("z").retention_ms == 10 * 86_400_000


def test_a_rule_with_a_ring_has_its_capacity(tmp_path: Path) -> None:
    path = write(tmp_path, '[[record]]\nname = "a"\nbuffer = "spmc_ring"\ncapacity = 9\n')
    assert load({}, {}, path).rules.rule_for("a").capacity == 9


@pytest.mark.parametrize("text", ["7d", "24h", "90m", "30s", "1500ms", "off"])
def test_ages_are_written_as_they_are_read(text: str) -> None:
    assert parse_age(format_age(parse_age(text))) == parse_age(text)


def test_every_setting_has_a_unit_and_a_reason_and_is_documented() -> None:
    text = (Path(__file__).parents[3] / "docs" / "settings.md").read_text()
    for info in describe_settings():
        assert info.unit
        assert info.reason
        assert f"`{info.key}`" in text, f"{info.key} is missing from docs/settings.md"
