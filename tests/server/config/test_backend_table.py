"""The backend's options: where each comes from, and which of two holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from recordd.config.backend_table import MOVED_OPTIONS
from recordd.config.settings import Configuration, ConfigurationError, load
from recordd.extending.options import OptionError, describe_options
from recordd.persistence.backends import describe_backend
from recordd.persistence.sqlite.options import SqliteOptions


def load_text(folder: Path, text: str, flags: Any = (), **environment: str) -> Configuration:
    path = folder / "recordd.toml"
    path.write_text(text)
    return load(dict(flags), environment, path)


def in_force(configuration: Configuration) -> dict[str, Any]:
    return {option.key: option.value for option in describe_backend(configuration)}


def sources(configuration: Configuration) -> dict[str, str]:
    return {option.key: option.source for option in describe_backend(configuration)}


def test_a_table_names_the_backend_and_has_its_options(tmp_path: Path) -> None:
    found = load_text(tmp_path, '[backend]\nname = "sqlite"\nreaders = 5\n')
    assert found.settings.backend == "sqlite"
    assert found.backend.values == {"readers": 5}
    assert in_force(found)["readers"] == 5
    assert sources(found)["readers"] == f"{tmp_path}/recordd.toml"
    assert sources(found)["tail_rows"] == "default"


@pytest.mark.parametrize(
    "text", ["", 'backend = "sqlite"', '[backend]\nname = "sqlite"', "[backend]"]
)
def test_a_name_alone_is_a_table_without_options(tmp_path: Path, text: str) -> None:
    found = load_text(tmp_path, text)
    assert (found.settings.backend, found.backend.values) == ("sqlite", {})


@pytest.mark.parametrize("text", ["readers = 3", "[backend]\nreaders = 3"])
def test_precedence_is_flag_variable_file_for_options_too(tmp_path: Path, text: str) -> None:
    assert in_force(load_text(tmp_path, text))["readers"] == 3
    for variable in ("RECORDD_READERS", "RECORDD_BACKEND_READERS"):
        found = load_text(tmp_path, text, **{variable: "4"})
        assert (in_force(found)["readers"], sources(found)["readers"]) == (4, variable)
        found = load_text(tmp_path, text, {"readers": "6"}, **{variable: "4"})
        assert (in_force(found)["readers"], sources(found)["readers"]) == (6, "--readers")
    assert found.ignored == []


@pytest.mark.parametrize(
    ("text", "environment", "complaint"),
    [
        ("readers = 2\n[backend]\nreaders = 3", {}, "readers: stated in [backend] too"),
        ("", {"RECORDD_READERS": "2", "RECORDD_BACKEND_READERS": "3"}, "both state the same"),
        ("[backend]\nname = 5", {}, "[backend] name: must be a text"),
        ("backend = 5", {}, "backend: Expected `str`"),
    ],
)
def test_what_is_stated_twice_or_is_no_name_is_refused(
    tmp_path: Path, text: str, environment: dict[str, str], complaint: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_text(tmp_path, text, **environment)
    assert complaint in str(caught.value)


@pytest.mark.parametrize(
    ("text", "environment", "complaint"),
    [
        ("[backend]\ncolor = 1", {}, "[backend] color: no option of this backend (there is: "),
        ("[backend]\nreaders = 0", {}, "[backend] readers: Expected `int` >= 1"),
        ("[backend]\nreaders = true", {}, "[backend] readers: Expected `int`"),
        ("[backend]\nsynchronous = 'off'", {}, "[backend] synchronous: Invalid enum value 'off' (allowed: full, normal)"),
        ("synchronous = 'off'", {}, "recordd.toml: synchronous: Invalid"),
        ("", {"RECORDD_READERS": "x"}, "RECORDD_READERS: Expected `int`"),
        ("", {"RECORDD_BACKEND_COLOR": "x"}, "RECORDD_BACKEND_COLOR: no option"),
        ("[backend]\ndatabase = ':memory:'", {}, "[backend] database: must be a path"),
        ("database = ''", {}, "database: must not be empty"),
        ("", {"RECORDD_DATABASE": "a\0b"}, "database: a path holds no NUL"),
        ("[backend]\nname = 'memory'\nreaders = 3", {}, "[backend] readers: no option of this backend (there is: none)"),
        ("[backend]\nname = ''\nreaders = 3", {}, "[backend] readers: no option of this backend (there is: none)"),
    ],
)  # fmt: skip
def test_a_wrong_option_says_where_and_what_is_allowed_in_one_line(
    tmp_path: Path, text: str, environment: dict[str, str], complaint: str
) -> None:
    with pytest.raises(OptionError) as caught:
        describe_backend(load_text(tmp_path, text, **environment))
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_backend_without_an_option_is_not_troubled_by_the_setting_it_was(tmp_path: Path) -> None:
    for name in ("memory", ""):
        text = f'backend = "{name}"\nreaders = 3\nsynchronous = "normal"\n'
        assert in_force(load_text(tmp_path, text, {"database": "/x"}, RECORDD_TAIL_ROWS="5")) == {}


def test_what_is_stated_for_the_backend_itself_is_never_left_out(tmp_path: Path) -> None:
    """A variable of the backend says more than the key at the top of the file that it replaces."""
    text = 'backend = "memory"\nreaders = 3\n'
    with pytest.raises(OptionError, match="RECORDD_BACKEND_READERS: no option"):
        describe_backend(load_text(tmp_path, text, RECORDD_BACKEND_READERS="4"))


def test_a_table_holds_for_the_backend_that_it_names_alone(tmp_path: Path) -> None:
    text = '[backend]\nname = "sqlite"\nreaders = 3\n'
    for found in (
        load_text(tmp_path, text, {"backend": "memory"}),
        load_text(tmp_path, text, RECORDD_BACKEND="memory"),
    ):
        assert (found.settings.backend, found.backend.values) == ("memory", {})
    assert load_text(tmp_path, text, {"backend": "sqlite"}).backend.values == {"readers": 3}


def test_every_option_that_was_a_setting_is_one_of_sqlite() -> None:
    assert set(MOVED_OPTIONS) <= {info.key for info in describe_options(SqliteOptions)}
