"""Plain requests: a call of one method whose message is as the documentation writes it.

Nearly every message is one. It is decoded in one pass, envelope and typed parameters together:
a tagged union tells the methods apart. Whatever is not plain (unknown members, a batch, a
mistake) raises in the decoder and goes the long way, which knows what is wrong and says so. The
union takes no member that it does not know, so no text passes it unread but what is `Raw`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar, Union

import msgspec

from recordd_protocol.dialect import Call, Result
from recordd_protocol.mending import UNREADABLE
from recordd_protocol.methods import Written

__all__ = ["answer_each", "decode_leading", "make_decoder", "written_of"]

C = TypeVar("C", bound=msgspec.Struct)


def make_decoder(
    base: type[C], methods: Mapping[str, type[msgspec.Struct]], attributes: Mapping[str, Any]
) -> Callable[[bytes], C]:
    """Return the decoder of a dialect's plain requests: one class for each method.

    The classes derive from `base`; their `params` are of the method's type, and may be left out
    where all of them may. `attributes`, and the name as `method`, are attributes of the class,
    which cost nothing for each call.
    """
    classes = [
        msgspec.defstruct(
            f"Plain_{name}",
            [_params_field(params)],
            bases=(base,),
            namespace={**attributes, "method": name},
            tag_field="method",
            tag=name,
            forbid_unknown_fields=True,
            kw_only=True,
            gc=False,
        )
        for name, params in methods.items()
    ]
    union: Any = Union[tuple(classes)]  # noqa: UP007 - of as many as there are
    return msgspec.json.Decoder(union).decode


def decode_leading(decode: Callable[[bytes], C], messages: Sequence[bytes]) -> list[C]:
    """Decode messages up to the first that is not plain.

    `map` within `extend` spares a third of what a loop takes, and keeps what came before an
    error.
    """
    calls: list[C] = []
    try:
        calls.extend(map(decode, messages))
    except UNREADABLE:
        messages = messages[: len(calls)]
    if not all(map(bytes.isascii, messages)):
        del calls[_count_readable(messages) :]
    return calls


def answer_each(calls: Iterable[Call], results: Iterable[Result]) -> list[bytes]:
    """Return the answers of calls, each made for itself."""
    answers = [call.answer(result) for call, result in zip(calls, results, strict=True)]
    return [answer for answer in answers if answer is not None]


def written_of(
    revs: Iterable[int | None], times: Iterable[int], late: Collection[int]
) -> Iterator[Written]:
    """Yield the result of the write of each row; `late` has the places of those that are late."""
    for place, (rev, ts) in enumerate(zip(revs, times, strict=True)):
        yield Written(rev=rev, ts=ts, late=place in late)


def _count_readable(messages: Iterable[bytes]) -> int:
    """Count messages up to the first that is no UTF-8: the decoder does not look into `Raw`."""
    count = 0
    for message in messages:
        try:
            message.decode()
        except UnicodeDecodeError:
            break
        count += 1
    return count


def _params_field(params: type[msgspec.Struct]) -> tuple[str, Any] | tuple[str, Any, Any]:
    """Return the field of a method's parameters, with a default where none is needed.

    They are frozen: all calls without parameters share one.
    """
    try:
        return ("params", params, params())
    except TypeError:
        return ("params", params)
