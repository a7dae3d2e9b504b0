"""The gate: whether a caller may make a call. It decides before a handler runs, and alone."""

from __future__ import annotations

from typing import Final, get_args

import msgspec

from recordd_protocol.errors import Reason, RequestError
from recordd_protocol.methods import Access, Method

__all__ = ["FULL_GRANTS", "Grants", "check_grants", "is_granted"]


class Grants(msgspec.Struct, frozen=True):
    """What a caller may do, with every record."""

    accesses: frozenset[Access]


FULL_GRANTS: Final = Grants(frozenset(get_args(Access)))


def check_grants(grants: Grants, method: Method) -> None:
    """Let a call pass that the caller has the grants for.

    Of which records that is asked, `method.records` says: grants for some of them alone
    would be compared here with that parameter.

    Raises:
        RequestError: `denied`.
    """
    if not is_granted(grants, method):
        raise RequestError(Reason.DENIED, f"{method.name} needs {method.access} access")


def is_granted(grants: Grants, method: Method) -> bool:
    """Tell whether a caller has the grants for a method."""
    return method.access in grants.accesses
