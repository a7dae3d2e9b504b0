"""Record names."""

import pytest

from recordd_protocol.errors import Reason, RequestError
from recordd_protocol.names import check_name, entity_of


@pytest.mark.parametrize("name", ["a", "accuracy::vienna", "temp.wien.außen", "x" * 255, "ü" * 127])
def test_a_name_may_hold_any_visible_character(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize(
    "name",
    ["", "a b", "a\tb", "a\nb", "a\x00", "a\x7f", "a\x9b", 'a"', "a\\b", "a*", "a.#", "a\u2028b",
     "a\u00a0b", "x" * 256, "ü" * 128],
)  # fmt: skip
def test_a_name_that_cannot_be_written_everywhere_is_refused(name: str) -> None:
    with pytest.raises(RequestError) as caught:
        check_name(name)
    assert caught.value.reason is Reason.INVALID_PARAMS
    assert caught.value.message.startswith("name: ")


@pytest.mark.parametrize(
    ("name", "entity"),
    [
        ("temp.vienna", "vienna"),
        ("sensors/temp/vienna", "vienna"),
        ("a/b.c", "c"),
        ("a.b/c", "c"),
        ("server::Config", "server::Config"),
        ("app.server::Config", "server::Config"),
        ("solo", "solo"),
        ("a.", ""),
    ],
)
def test_the_entity_is_the_last_part(name: str, entity: str) -> None:
    assert entity_of(name) == entity
