"""Changes of a table one after the other: DynamoDB takes the next one only when the last one is done."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from cqrsctl import polling
from cqrsctl.aws import ApiCall, error_code
from cqrsctl.errors import AwsError, TransientAwsError, UsageError
from cqrsctl.write_model import table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cqrsctl.clock import Clock
    from cqrsctl.write_model.table import Table

_PATIENCE = timedelta(minutes=10)
_PASSING = {"CREATING", "UPDATING"}


def settled(client: Any, name: str, clock: Clock) -> Table:
    """The table once no change of it is under way. Raises AwsError (`table_missing`) if there is none."""
    found = table.describe(client, name)
    if found.status in _PASSING:
        table.wait_until_active(client, name, clock)
        found = table.describe(client, name)
    return found


def enable_stream_calls(found: Table) -> list[ApiCall]:
    """The calls that switch the stream on; none if it is on. Raises UsageError if its view type is another one."""
    if found.view_type == table.VIEW_TYPE:
        return []
    if found.view_type:
        raise UsageError(
            f"The stream of table {found.name!r} is on with view type {found.view_type}, which cannot be changed.",
            hint="Switch it off first: cqrsctl table disable-stream",
        )
    return [ApiCall("dynamodb", "UpdateTable", {"TableName": found.name, "StreamSpecification": table.STREAM_ON})]


def disable_stream_calls(found: Table) -> list[ApiCall]:
    """The calls that switch the stream off; none if it is off."""
    if found.stream_arn is None:
        return []
    parameters = {"TableName": found.name, "StreamSpecification": {"StreamEnabled": False}}
    return [ApiCall("dynamodb", "UpdateTable", parameters)]


def delete_calls(found: Table, *, unprotect: bool) -> list[ApiCall]:
    """The calls that delete the table. Raises UsageError if it is protected and stays so."""
    deletion = ApiCall("dynamodb", "DeleteTable", {"TableName": found.name})
    if not found.deletion_protection:
        return [deletion]
    if not unprotect:
        raise UsageError(
            f"Table {found.name!r} is protected from deletion.", hint="Take the protection off with --unprotect."
        )
    parameters = {"TableName": found.name, "DeletionProtectionEnabled": False}
    return [ApiCall("dynamodb", "UpdateTable", parameters), deletion]


def make_in_turn(client: Any, name: str, calls: Sequence[ApiCall], clock: Clock) -> None:
    """Make changes of a table, each when DynamoDB takes it. Raises AwsError, after ten minutes too."""
    for call in calls:
        polling.until(
            partial(call.make, client),
            lambda _: True,
            clock,
            _PATIENCE,
            f"Table {name!r} did not take {call.operation}",
            "cqrsctl table status",
            passes=_passes,
        )


def _passes(error: AwsError) -> bool:
    """A table that is UPDATING refuses changes (DynamoDB API reference, UpdateTable and DeleteTable)."""
    return isinstance(error, TransientAwsError) or error_code(error) == "ResourceInUseException"
