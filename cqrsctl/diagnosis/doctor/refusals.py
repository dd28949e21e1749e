"""What an error says of what could not be looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING

from botocore.exceptions import ClientError
from botocore.parsers import ResponseParserError

if TYPE_CHECKING:
    from cqrsctl.errors import CqrsctlError

_UNKNOWN = {"UnknownOperationException", "UnknownOperation", "InvalidAction", "NotImplemented"}
_NOT_IMPLEMENTED = 501


def unknown_operation(error: CqrsctlError) -> bool:
    """Whether an endpoint, an emulator's, does not know what it was asked."""
    cause = error.__cause__
    if isinstance(cause, ResponseParserError):
        return True
    if not isinstance(cause, ClientError):
        return False
    status = cause.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    return status == _NOT_IMPLEMENTED or cause.response["Error"].get("Code") in _UNKNOWN


def alike(error: CqrsctlError) -> tuple[str, str]:
    """The same for errors that say the same: without credentials every service does."""
    return error.code, "" if error.code == "credentials" else error.message
