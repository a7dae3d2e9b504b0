"""The generated block of a page is replaced, and nothing around it."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.wire.publishing import replace_block

ROOT = Path(__file__).parents[2]

PAGE = (
    "before\n<!-- begin: written by make bench-peers -->\nold\n"
    "<!-- end: written by make bench-peers -->\nafter\n"
)


def test_what_is_between_the_marks_is_replaced() -> None:
    page = replace_block(PAGE, "new")
    assert page == PAGE.replace("old", "new")
    assert replace_block(page, "newer") == PAGE.replace("old", "newer")


@pytest.mark.parametrize("page", ["", "<!-- begin: written by make bench-peers -->"])
def test_a_page_without_both_marks_is_refused(page: str) -> None:
    with pytest.raises(ValueError, match="has no"):
        replace_block(page, "new")


def test_the_page_of_the_documentation_has_the_block() -> None:
    assert "new" in replace_block((ROOT / "docs" / "performance.md").read_text(), "new")
