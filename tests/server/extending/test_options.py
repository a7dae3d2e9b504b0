"""A table that is read into a Struct of the backend's own."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import pytest

from recordd.extending.backend import BackendOptions
from recordd.extending.options import (
    OptionError,
    OptionInfo,
    describe_options,
    option,
    read_options,
)


class Options(msgspec.Struct, frozen=True):
    sync: Annotated[bool, option("switch", "wait for the disk")] = True
    depth: Annotated[int, option("levels", "how deep", ge=1)] = 1
    plain: str = "x"


def read(**table: Any) -> Options:
    return read_options(Options, BackendOptions(table))


def test_a_text_is_read_as_what_it_has_to_be_and_nothing_else_is_turned() -> None:
    assert read(sync="false", depth="3") == Options(sync=False, depth=3)
    assert read() == Options()
    for table in ({"sync": 1}, {"depth": 2.5}, {"depth": True}, {"depth": "0"}, {"plain": 5}):
        with pytest.raises(OptionError):
            read(**table)


def test_an_option_is_called_as_it_was_stated() -> None:
    with pytest.raises(OptionError, match=r"^\[backend\] depth: Expected `int` >= 1"):
        read(depth=0)
    options = BackendOptions({"deep": 1}, {"deep": "HERE"})
    with pytest.raises(OptionError, match=r"^HERE: no option .*\(there is: depth, plain, sync\)$"):
        read_options(Options, options)


def test_options_are_described_in_their_order_those_without_a_word_too() -> None:
    assert describe_options(Options) == [
        OptionInfo("sync", "switch", "wait for the disk"),
        OptionInfo("depth", "levels", "how deep"),
        OptionInfo("plain", "", ""),
    ]
