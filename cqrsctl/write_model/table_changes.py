"""Changes of a table one after the other: DynamoDB takes the next one only when the last one is done."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from cqrsctl import polling
from cqrsctl.aws import error_code
from cqrsctl.errors import AwsError, TransientAwsError
from cqrsctl.write_model import table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cqrsctl.aws import ApiCall
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
