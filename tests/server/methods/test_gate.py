"""Who may call what: every method of the table, under every set of grants."""

from __future__ import annotations

import itertools
import typing

import pytest

from recordd.methods.gate import FULL_GRANTS, Grants, check_grants
from recordd_protocol.errors import Reason, RequestError
from recordd_protocol.methods import METHODS, Access, Method

ACCESSES: tuple[Access, ...] = typing.get_args(Access)
SUBSETS = [
    frozenset(chosen) for size in range(4) for chosen in itertools.combinations(ACCESSES, size)
]


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_a_method_passes_with_its_own_access_and_with_no_other(method: Method) -> None:
    for accesses in SUBSETS:
        if method.access in accesses:
            check_grants(Grants(accesses), method)
            continue
        with pytest.raises(RequestError) as refused:
            check_grants(Grants(accesses), method)
        assert refused.value.reason is Reason.DENIED
        assert str(refused.value) == f"{method.name} needs {method.access} access"


def test_full_grants_pass_everything() -> None:
    assert FULL_GRANTS.accesses == frozenset(ACCESSES)
