"""Waiting for Lambda and IAM, which continue their work even if nobody waits."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from cqrsctl import polling
from cqrsctl.aws import error_code
from cqrsctl.errors import AwsError, TransientAwsError
from cqrsctl.functions import function as functions
from cqrsctl.functions import mapping as mappings

if TYPE_CHECKING:
    from collections.abc import Callable

    from cqrsctl.aws import ApiCall
    from cqrsctl.clock import Clock
    from cqrsctl.functions.function import Function
    from cqrsctl.functions.mapping import Mapping
    from cqrsctl.polling import Looked

_PATIENCE = timedelta(minutes=10)
"""A function's first network interfaces take a minute or two, a mapping's switching up to one."""
_ROLE_PATIENCE = timedelta(minutes=2)
_NOT_YET = (
    "cannot be assumed",
    "does not have permissions to call",
    "ensure the role can perform",
    "KMS key is invalid for CreateGrant",
)
"""Lambda's messages while a new role, or a policy of it, has not spread everywhere yet."""
_BUSY = {"ResourceConflictException", "ResourceInUseException"}
_ANOTHER_UPDATE = "in progress"
_JUST_DELETED = {"AWS.SimpleQueueService.QueueDeletedRecently", "QueueDeletedRecently"}


def make(call: ApiCall, client: Any, clock: Clock) -> Any:
    """Make a call of Lambda's or SQS's; again, for two minutes, while what refuses it passes.

    Lambda does not know a new role yet, or is busy with a change; SQS refuses a queue's name for 60 seconds after a
    queue of that name was deleted (Amazon SQS API, CreateQueue).
    """
    return _until(
        lambda: call.make(client), lambda _: True, clock, f"{call.operation} was not made", _ROLE_PATIENCE, _passes
    )


def until_ready(client: Any, name: str, clock: Clock, progress: Callable[[str], None]) -> Function:
    """Wait until a function is active and its last update is done. Raises AwsError if it failed."""

    def done(found: Function) -> bool:
        progress(f"{name} {found.state}, last update {found.last_update}")
        if "Failed" in {found.state, found.last_update}:
            raise AwsError(
                f"Function {name!r} failed: {found.reason or 'AWS does not say why'}.",
                hint="Fix that, then: cqrsctl function deploy",
                code="failed",
            )
        # A function that nobody invoked for weeks is Inactive, and comes back as it is invoked.
        return found.state in {functions.ACTIVE, "Inactive"} and found.last_update == functions.SUCCESSFUL

    return _until(lambda: functions.describe(client, name), done, clock, f"Function {name!r} was not active")


def until_idle(client: Any, name: str, clock: Clock, progress: Callable[[str], None]) -> Function:
    """Wait until no change of a function is under way, whether it failed or not: then it takes another one."""

    def done(found: Function) -> bool:
        progress(f"{name} {found.state}, last update {found.last_update}")
        return found.state != "Pending" and found.last_update != "InProgress"

    return _until(lambda: functions.describe(client, name), done, clock, f"Function {name!r} was not ready")


def until_unmapped(client: Any, function: str, stream_arn: str, clock: Clock, progress: Callable[[str], None]) -> None:
    """Wait until no mapping of a stream to a function is being deleted any more."""

    def done(leaving: bool) -> bool:
        if leaving:
            progress("mapping Deleting")
        return not leaving

    not_reached = f"The former mapping of {function!r} was not deleted"
    _until(lambda: mappings.is_leaving(client, function, stream_arn), done, clock, not_reached)


def until_settled(
    client: Any, function: str, uuid: str | None, wanted: str | None, clock: Clock, progress: Callable[[str], None]
) -> Mapping:
    """Wait until a mapping is in the wanted state, or with None until it changes no more.

    `uuid` None: the function's only one. Raises AwsError if there is none, or if it ended in another state.
    """

    def look() -> Mapping:
        found = mappings.of_function(client, function)
        return mappings.require(function, [each for each in found if uuid in {None, each.uuid}])

    def done(found: Mapping) -> bool:
        progress(f"mapping {found.state}")
        return found.settled if wanted is None else found.state == wanted

    return _until(look, done, clock, f"The mapping of {function!r} was not {(wanted or 'settled').lower()}")


def all_settled(client: Any, function: str, clock: Clock, progress: Callable[[str], None]) -> list[Mapping]:
    """The function's mappings once none of them changes any more: before that, whether one is paused is unknown."""

    def done(found: list[Mapping]) -> bool:
        for each in found:
            progress(f"mapping {each.state}")
        return all(each.settled for each in found)

    def look() -> list[Mapping]:
        return mappings.of_function(client, function)

    return _until(look, done, clock, f"The mapping of {function!r} was not settled")


def _passes(error: AwsError) -> bool:
    code = error_code(error)
    if code in _JUST_DELETED:
        return True
    if code == "InvalidParameterValueException":
        return any(said in error.message for said in _NOT_YET)
    return _throttled(error) or code == "ResourceInUseException" or (code in _BUSY and _ANOTHER_UPDATE in error.message)


def _throttled(error: AwsError) -> bool:
    return isinstance(error, TransientAwsError) or error_code(error) == "TooManyRequestsException"


def _until(
    look: Callable[[], Looked],
    done: Callable[[Looked], bool],
    clock: Clock,
    not_reached: str,
    patience: timedelta = _PATIENCE,
    passes: Callable[[AwsError], bool] = _throttled,
) -> Looked:
    return polling.until(look, done, clock, patience, not_reached, "cqrsctl function status", passes)
