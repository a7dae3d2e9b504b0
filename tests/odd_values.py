r"""Odd requests to write something: values, names and times as few programs write them.

Each is made as JSON text, for much of what is odd (escapes, spellings of numbers, halves of
surrogate pairs) would not survive an encoder. Whether it is to be accepted is decided here
by the rules of docs/protocol.md, without any of recordd's code.
"""

from __future__ import annotations

import json
import random
import re
import time
from typing import NamedTuple

__all__ = ["MIN_TS", "Case", "make_case"]

MIN_TS = 946_684_800_000
_MAX_DEPTH = 100
_DAY_MS = 86_400_000

_CHARACTERS = [
    *"aZ09 .:/'<>&=-_|~$%{}[],",
    *"äßñçøłİıſΩжשע한漢字ｱ",
    *("\u0301", "\u200b", "\u200d", "\u200e", "\u202e", "\u2028", "\u2029", "\ufeff", "\ufffd"),
    *("\ufffe", "\uffff", "\ue000", "\ud7ff", "\U0001f600", "\U0001f468\u200d\U0001f469"),
    *("\U0010ffff", "\U000e0001", "\U0001f1e6\U0001f1f9", "\x7f", "\x80", "\x9f", "\xa0", "\xad"),
]
_ESCAPES = [
    *(r"\u0000", r"\u001f", r"\u007f", r"\n", r"\r\n", r"\t", r"\b", r"\f", r"\"", r"\\", r"\/"),
    *(r"\u00fc", r"\u2028", r"\u2029", r"\ufeff", r"\uFFFF", r"\uFdD0", r"\ud83d\ude00"),
    *(r"\uDBFF\uDFFF", r"\\ud800", r"\\u0000", r"\u005c", r"\u0022"),
]
_HALVES = [r"\ud800", r"\uDBFF", r"\udc00", r"\uDFFF", r"\ud800x", r"\ud83d\u0041", r"\ude00\ud83d"]
_NUMBERS = [
    *("0", "-0", "-0.0", "0.0", "1.0", "1e0", "1E+2", "10e-1", "0.1", "1.10", "100e-2"),
    *("9007199254740991", "9007199254740993", "-9007199254740993", "9223372036854775807"),
    *("9223372036854775808", "18446744073709551615", "18446744073709551616"),
    *("-9223372036854775809", "123456789012345678901234567890", "3.141592653589793238462643"),
    *("5e-324", "2e-324", "1e-400", "1e308", "1.7976931348623157e308", "-1.7976931348623157E+308"),
    *("1" + "0" * 308, "0." + "0" * 320 + "1", "1" * 300 + ".5"),
]
_INFINITE = ["1e309", "-1e400", "1.8e308", "1" + "0" * 309, "-" + "9" * 400]
_KEYS = ['""', '"t"', '"jsonrpc"', '"id"', '"__proto__"', '"constructor"', '"value"', '"ok"']
_SPACES = ["", "", "", " ", "\t", "  "]
_BREAKS = ["\n", "\r\n", " \n\t"]


class Case(NamedTuple):
    """A write: three pieces of JSON text, and whether it is to be accepted.

    `name` is the record's name where it is one; `ts` is empty where none is stated.
    """

    name_text: str
    value_text: str
    ts_text: str
    name: str
    is_accepted: bool


def make_case(chance: random.Random, number: int, *, may_break: bool) -> Case:
    """Make a case; its name is its own. With `may_break` line breaks stand between tokens."""
    name_text = _make_name(chance, number)
    value_text = _make_value(chance, may_break)
    ts_text = _make_ts(chance)
    name = _read_text(name_text)
    fits = name is not None and _is_name(name) and _is_value(value_text) and _is_ts(ts_text)
    return Case(name_text, value_text, ts_text, name or "", fits)


def _make_name(chance: random.Random, number: int) -> str:
    odd = "".join(chance.choices(_CHARACTERS, k=chance.randrange(12)))
    kind = chance.randrange(12)
    if kind == 0:
        odd += chance.choice(['"', "\\", "*", "#", "\n", "\x00"])
    elif kind == 1:
        odd = "ü" * chance.choice([120, 125, 130, 500])
    name = json.dumps(f"{odd}{number}", ensure_ascii=kind % 2 == 0)
    if kind == 2:
        name = name[:-1] + chance.choice(_HALVES) + '"'
    return '""' if kind == 3 and chance.random() < 0.3 else name


def _make_value(chance: random.Random, may_break: bool) -> str:
    kind = chance.randrange(25)
    if kind == 0:
        depth = chance.choice([98, 99, 100, 101, 128, 480, 600, 900, 1500, 5000])
        opening, closing = chance.choice([("[", "]"), ('{"a":', "}"), ('[0,{"]":', "}]")])
        return opening * depth + "1" + closing * depth
    if kind == 1:
        return _wrap(chance, chance.choice(_INFINITE))
    if kind == 2:
        return _wrap(chance, _make_text(chance, [*_ESCAPES, *_HALVES]))
    if kind == 3:
        return _make_text(chance, _CHARACTERS[:40], length=chance.randrange(20_000))
    return _make_tree(chance, chance.randrange(5), [*_SPACES, *_BREAKS * may_break])


def _wrap(chance: random.Random, text: str) -> str:
    return chance.choice([text, f"[1,{text}]", f'{{"a":[{text}],"b":2}}'])


def _make_tree(chance: random.Random, depth: int, spaces: list[str]) -> str:
    def space() -> str:
        return chance.choice(spaces)

    if not depth or chance.random() < 0.2:
        return _make_scalar(chance)
    items = [_make_tree(chance, depth - 1, spaces) for _ in range(chance.randrange(4))]
    if chance.random() < 0.5:
        return f"{space()}[{space()}" + f"{space()},".join(items) + f"{space()}]{space()}"
    keys = [chance.choice([*_KEYS, _make_text(chance, _ESCAPES, length=2)]) for _ in items]
    members = [f"{k}{space()}:{space()}{v}" for k, v in zip(keys, items, strict=True)]
    return f"{{{space()}" + f",{space()}".join(members) + f"{space()}}}"


def _make_scalar(chance: random.Random) -> str:
    kind = chance.randrange(6)
    if kind < 2:
        return chance.choice(_NUMBERS)
    if kind == 2:
        return repr(chance.uniform(-1, 1) * 10 ** chance.randrange(-300, 300))
    if kind == 3:
        return chance.choice(["true", "false", "null"])
    return _make_text(chance, [*_CHARACTERS, *_ESCAPES], length=chance.randrange(20))


def _make_text(chance: random.Random, parts: list[str], length: int = 6) -> str:
    return '"' + "".join(p for p in chance.choices(parts, k=length) if p != '"') + '"'


def _make_ts(chance: random.Random) -> str:
    now_ms = int(time.time() * 1000)
    if chance.random() < 0.5:
        return ""
    return chance.choice(
        [
            "null",
            *(str(MIN_TS), str(MIN_TS + 1), str(now_ms), str(now_ms + _DAY_MS // 2)),
            *(str(MIN_TS - 1), str(now_ms // 1000), str(now_ms * 1000), str(now_ms + 2 * _DAY_MS)),
            *("0", "-1", "9223372036854775807", "9223372036854775808", str(2**70)),
            *("1.5", "1e400", '"1700000000000"', "true", "[]"),
        ]
    )


def _read_text(text: str) -> str | None:
    """Return what a JSON string says; None where it has half a surrogate pair."""
    said: str = json.loads(text)
    try:
        said.encode()
    except UnicodeEncodeError:
        return None
    return said


def _is_name(name: str) -> bool:
    if not 1 <= len(name.encode()) <= 255:
        return False
    return not any(
        c in '"\\*#' or c.isspace() or ord(c) < 0x20 or 0x7F <= ord(c) <= 0x9F for c in name
    )


def _is_value(text: str) -> bool:
    if _depth_of(text) > _MAX_DEPTH:
        return False
    halves = re.sub(r"\\\\|\\u[dD][89abAB]..\\u[dD][c-fC-F]..", "", text)
    if re.search(r"\\u[dD][89a-fA-F]", halves):
        return False
    try:
        json.loads(text, parse_int=_finite, parse_float=_finite)
    except OverflowError:
        return False
    return True


def _finite(number: str) -> float:
    read = float(int(number)) if number.lstrip("-").isdecimal() else float(number)
    if read in (float("inf"), float("-inf")):
        raise OverflowError
    return read


def _depth_of(text: str) -> int:
    depth = deepest = 0
    for token in re.findall(r'"(?:[^"\\]|\\.)*"|[\[{\]}]', text):
        depth += (token in "[{") - (token in "]}")
        deepest = max(deepest, depth)
    return deepest


def _is_ts(text: str) -> bool:
    if text in ("", "null"):
        return True
    if not text.isdecimal():
        return False
    return MIN_TS <= int(text) <= time.time() * 1000 + _DAY_MS - 60_000
