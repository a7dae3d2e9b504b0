"""The one table of refusals, from the reason a caller sees to each dialect's wire form.

Every error that crosses the wire has a `Reason`. A dialect turns it into its own code;
the client turns it back into an exception. No other module holds a code.
"""

from __future__ import annotations

import enum
from typing import Final

__all__ = ["REASON_BY_CODE", "Reason", "RecorddError", "RequestError"]


class Reason(enum.Enum):
    """Why a request was refused.

    Each member carries its JSON-RPC 2.0 `code`, its AimX 3.0 word, and whether the
    same request may succeed later (`retryable`). Codes -32700 to -32603 are those of
    JSON-RPC 2.0 §5.1; the rest lie in the range that section leaves to servers.
    """

    PARSE_ERROR = ("parse_error", -32700, "internal", False)
    INVALID_REQUEST = ("invalid_request", -32600, "internal", False)
    METHOD_NOT_FOUND = ("method_not_found", -32601, "not_found", False)
    INVALID_PARAMS = ("invalid_params", -32602, "internal", False)
    INTERNAL = ("internal", -32603, "internal", False)
    NOT_FOUND = ("not_found", -32001, "not_found", False)
    DENIED = ("denied", -32002, "denied", False)
    UNAUTHENTICATED = ("unauthenticated", -32003, "denied", False)
    VERSION_MISMATCH = ("version_mismatch", -32004, "version_mismatch", False)
    TOO_LARGE = ("too_large", -32005, "internal", False)
    OVERLOADED = ("overloaded", -32006, "denied", True)
    NOT_CONFIGURED = ("not_configured", -32007, "internal", False)
    UNAVAILABLE = ("unavailable", -32008, "internal", True)
    CONFLICT = ("conflict", -32009, "denied", False)
    TIMEOUT = ("timeout", -32010, "internal", True)
    EXPIRED = ("expired", -32011, "internal", True)

    def __init__(self, word: str, code: int, aimx: str, retryable: bool) -> None:
        self.word: Final = word
        self.code: Final = code
        self.aimx: Final = aimx
        self.retryable: Final = retryable


REASON_BY_CODE: Final = {reason.code: reason for reason in Reason}


class RecorddError(Exception):
    """Base of every exception that recordd's distributions raise on purpose."""


class RequestError(RecorddError):
    """A request refused for a stated reason; the text is meant for the caller."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason: Final = reason
        self.message: Final = message
