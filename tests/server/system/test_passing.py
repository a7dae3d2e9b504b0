"""Which errors may pass by themselves, and what the system's words come to."""

from __future__ import annotations

import errno
import os

import apsw
import pytest

from recordd.config.settings import ConfigurationError, refusal_to_use
from recordd.extending.backend import BackendError, PassingBackendError, refusal_of
from recordd.persistence.sqlite.worker import translate_error
from recordd.system.passing import PassingError


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EMFILE, errno.ENOMEM])
def test_what_may_pass_by_itself_is_told_apart(number: int) -> None:
    error = OSError(number, os.strerror(number))
    assert isinstance(refusal_of("a.db", error), PassingError)
    assert isinstance(refusal_to_use("socket", error), PassingError)


@pytest.mark.parametrize("number", [errno.EACCES, errno.ENOTDIR, errno.ELOOP, errno.EROFS])
def test_what_only_a_person_can_mend_is_not(number: int) -> None:
    error = OSError(number, os.strerror(number))
    assert not isinstance(refusal_of("a.db", error), PassingError)
    assert isinstance(refusal_to_use("socket", error), ConfigurationError)


def test_sqlite_errors_are_told_apart_too() -> None:
    for code, is_passing in (
        (apsw.SQLITE_FULL, True),
        (apsw.SQLITE_BUSY, True),
        (apsw.SQLITE_NOMEM, True),
        (apsw.SQLITE_IOERR_READ, True),
        (apsw.SQLITE_IOERR_DATA, False),
        (apsw.SQLITE_CORRUPT, False),
        (apsw.SQLITE_NOTADB, False),
    ):
        refusal = translate_error(apsw.exception_for(code), "a.db")  # type: ignore[arg-type]
        assert isinstance(refusal, BackendError)
        assert isinstance(refusal, PassingBackendError) is is_passing, code
