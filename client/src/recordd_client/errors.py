"""Failures of a call: one exception class per reason, and the lost connection."""

from __future__ import annotations

from typing import ClassVar, Final

from recordd_protocol.errors import REASON_BY_CODE, Reason, RecorddError

__all__ = [
    "ERROR_BY_REASON",
    "CallTimeout",
    "ClientError",
    "Conflict",
    "ConnectionFailed",
    "ConnectionLost",
    "Denied",
    "Expired",
    "InternalError",
    "InvalidParams",
    "InvalidRequest",
    "InvalidValue",
    "MethodNotFound",
    "NotConfigured",
    "NotFound",
    "Overloaded",
    "ParseError",
    "ProtocolError",
    "QueryTimeout",
    "Refused",
    "TooLarge",
    "Unauthenticated",
    "Unavailable",
    "VersionMismatch",
    "refusal_of",
]


class ClientError(RecorddError):
    """Base of everything the client raises on purpose."""


class ConnectionFailed(ClientError):
    """The daemon could not be reached."""


class ConnectionLost(ClientError):
    """The connection ended before the answer came.

    `outcome_unknown` is True where the call was a write that may have been sent: it may
    have taken effect or not. False: it did not.
    """

    def __init__(self, message: str, *, outcome_unknown: bool) -> None:
        super().__init__(message + ("; the outcome is unknown" if outcome_unknown else ""))
        self.outcome_unknown: Final = outcome_unknown


class CallTimeout(ClientError):
    """No answer came in time; `outcome_unknown` as in `ConnectionLost`."""

    def __init__(self, message: str, *, outcome_unknown: bool) -> None:
        super().__init__(message + ("; the outcome is unknown" if outcome_unknown else ""))
        self.outcome_unknown: Final = outcome_unknown


class ProtocolError(ClientError):
    """The daemon sent an answer that this protocol does not have."""


class InvalidValue(ClientError):
    """An argument that cannot be sent (and nothing was), or a value that does not fit its type.

    A value that JSON cannot hold (NaN, an infinity, bytes), a name that is no UTF-8, a row
    of another shape than (name, value, ts), a timeout that is no number of seconds.
    """


class Refused(ClientError):
    """The daemon refused the call. `retryable`: the same call may succeed later."""

    reason: ClassVar[Reason]

    @property
    def retryable(self) -> bool:
        """Whether the same call may succeed later."""
        return self.reason.retryable


class ParseError(Refused):
    """The daemon could not read the message."""

    reason = Reason.PARSE_ERROR


class InvalidRequest(Refused):
    """The message was no request."""

    reason = Reason.INVALID_REQUEST


class MethodNotFound(Refused):
    """The daemon does not know the method: it may be older than this client."""

    reason = Reason.METHOD_NOT_FOUND


class InvalidParams(Refused):
    """A parameter is missing, mistyped or out of range; the text names it."""

    reason = Reason.INVALID_PARAMS


class InternalError(Refused):
    """A bug in the daemon; its log says more."""

    reason = Reason.INTERNAL


class NotFound(Refused):
    """There is no such record, row or subscription."""

    reason = Reason.NOT_FOUND


class Denied(Refused):
    """This connection may not do that."""

    reason = Reason.DENIED


class Unauthenticated(Refused):
    """A token is needed, or the one given is wrong."""

    reason = Reason.UNAUTHENTICATED


class VersionMismatch(Refused):
    """The daemon speaks another major version of the protocol."""

    reason = Reason.VERSION_MISMATCH


class TooLarge(Refused):
    """A message, a value or an answer is over its limit."""

    reason = Reason.TOO_LARGE


class Overloaded(Refused):
    """A limit of connections, records, subscriptions or pending requests is reached."""

    reason = Reason.OVERLOADED


class NotConfigured(Refused):
    """The daemon runs without a part that the method needs, such as persistence."""

    reason = Reason.NOT_CONFIGURED


class Unavailable(Refused):
    """Storage refuses (disk full, I/O error), or the daemon is shutting down."""

    reason = Reason.UNAVAILABLE


class Conflict(Refused):
    """The condition of a conditional write does not hold."""

    reason = Reason.CONFLICT


class QueryTimeout(Refused):
    """The daemon's own deadline for the query passed."""

    reason = Reason.TIMEOUT


class Expired(Refused):
    """The rows behind a page are no longer those of its moment: ask for the first page again."""

    reason = Reason.EXPIRED


ERROR_BY_REASON: Final = {error.reason: error for error in Refused.__subclasses__()}


def refusal_of(code: int, message: str) -> ClientError:
    """Return the exception for an error answer: the one place where wire becomes exception."""
    reason = REASON_BY_CODE.get(code)
    if reason is None:
        return ProtocolError(f"unknown error code {code}: {message}")
    return ERROR_BY_REASON[reason](message)
