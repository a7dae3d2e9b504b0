"""Which extensions are named, and the table of each."""

from __future__ import annotations

from pathlib import Path

import pytest

from recordd.config.settings import Configuration, ConfigurationError, load


def load_text(folder: Path, text: str, **environment: str) -> Configuration:
    path = folder / "recordd.toml"
    path.write_text(text)
    return load({}, environment, path)


def test_each_that_is_named_has_its_table_in_that_order(tmp_path: Path) -> None:
    text = 'extensions = ["b", "a"]\n[extension.a]\nx = 1\n'
    assert list(load_text(tmp_path, text).extensions.items()) == [("b", {}), ("a", {"x": 1})]
    assert load({}, {"RECORDD_EXTENSIONS": "c, d"}, None).extensions == {"c": {}, "d": {}}
    assert load({}, {}, None).extensions == {}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("extension = 5", "must be tables"),
        ("[extension]\na = 5", "must be tables"),
        ("[extension.a]", "[extension.a]: not one of extensions"),
        ('extensions = ["a", "b", "a"]', "named twice (a, b, a)"),
        ('extensions = "a, a"', "named twice"),
        ("extensions = 5", "extensions: Expected `array`"),
    ],
)
def test_what_names_none_is_refused(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_text(tmp_path, text)
    assert complaint in str(caught.value)


def test_a_variable_that_names_one_twice_is_told_without_a_file() -> None:
    with pytest.raises(ConfigurationError, match=r"^extensions: one is named twice \(a, a\)$"):
        load({}, {"RECORDD_EXTENSIONS": "a,a"}, None)
