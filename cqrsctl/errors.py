"""What can go wrong, in the words of the person who has to fix it.

Every error says what failed and on what; the hint names the command or setting that fixes it. `code` is the
stable name in JSON output, `exit_code` what the shell sees (the table stands in the README).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cqrsctl.change import Position


class CqrsctlError(Exception):
    """The root of all errors that cqrsctl raises on purpose."""

    code = "failed"
    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        if code is not None:
            self.code = code

    def __str__(self) -> str:
        return self.message


class Interrupted(CqrsctlError):
    """The command was asked to stop while it waited for AWS, or for the database."""

    code = "interrupted"
    exit_code = 130

    def __init__(self, operation: str = "", who: str = "AWS") -> None:
        super().__init__(f"Stopped before {who} answered {operation}".rstrip() + ".")


class UsageError(CqrsctlError):
    """The command line is wrong, or a confirmation could not be asked."""

    code = "usage"
    exit_code = 2


class ConfigurationError(CqrsctlError):
    """A setting or a credential is missing or wrong."""

    code = "configuration"
    exit_code = 3


class AwsError(CqrsctlError):
    """AWS refused, did not answer, or a resource is not in the state that the command needs."""

    code = "aws"
    exit_code = 4


class TransientAwsError(AwsError):
    """AWS throttled, failed or could not be reached: the same call later may succeed."""

    code = "aws_unavailable"


class DatabaseError(CqrsctlError):
    """The read model's database refused or did not answer."""

    code = "database"
    exit_code = 5


UNEXPECTED_ANSWER = "unexpected_answer"
"""The code of a TransientAwsError whose cause is an answer that is none of AWS's, as a proxy's page."""
ACCESS_DENIED = "access_denied"
"""The code of an AwsError whose cause is a missing permission."""
BAD_CREDENTIALS = "credentials"
"""The code of a ConfigurationError whose cause is that AWS does not accept the credentials, or that there are none."""
LOGIN_REFUSED = "database_login"
"""The code of a DatabaseError whose cause is the user or the password."""


class TransientDatabaseError(DatabaseError):
    """A hiccup of the database: the transaction's outcome is read from the checkpoint, then work resumes."""

    code = "database_unavailable"


class TransactionConflict(TransientDatabaseError):
    """A deadlock, or a lock that was waited for too long: the same transaction may succeed when it is run again."""

    code = "transaction_conflict"


class ValueRejected(DatabaseError):
    """The database refused a row's values. `reason` is what it said, `projection` the one whose row it was, and
    `building` whether the row was one of the table that a rebuild fills."""

    code = "value_rejected"

    def __init__(self, message: str, reason: str, *, projection: str = "", building: bool = False) -> None:
        super().__init__(message)
        self.reason = reason
        self.projection = projection
        self.building = building


class TablesChanged(DatabaseError):
    """A rebuild began or ended: changes become rows of other tables now, and have to be mapped again."""

    code = "tables_changed"


class StreamGap(CqrsctlError):
    """Changes left the stream before they were read; the read model cannot be brought up to date from it.

    `position` is the last one known of the shard that lost them, None if the whole stream was changed. `followers`
    are the projections that needed them; if none is named, all that follow the stream did.
    """

    code = "stream_gap"
    exit_code = 6

    def __init__(
        self, message: str, *, position: Position | None = None, followers: frozenset[str] = frozenset()
    ) -> None:
        super().__init__(message, hint="Rebuild the read model, while the old one serves: `cqrsctl rebuild`.")
        self.position = position
        self.followers = followers


class Drift(CqrsctlError):
    """The read model differs from the write model, and not because changes are still under way."""

    code = "drift"
    exit_code = 7


class TooSlow(CqrsctlError):
    """What was waited for did not come in time, or the lag is over the limit."""

    code = "too_slow"
    exit_code = 8


class Busy(CqrsctlError):
    """Another projector or rebuild holds the read model. `projection` is the one whose lock it has, if it is one."""

    code = "busy"
    exit_code = 9

    def __init__(self, message: str, *, hint: str | None = None, projection: str = "") -> None:
        super().__init__(message, hint=hint)
        self.projection = projection
