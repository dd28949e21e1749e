"""The functions' logs: the group with its retention, and the lines as they come."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from cqrsctl.aws import ApiCall, error_code
from cqrsctl.errors import AwsError
from cqrsctl.functions.parts import MANAGED_BY, Part, log_group, updated

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cqrsctl.clock import Clock

RETENTION_DAYS = 30
_MISSING = "ResourceNotFoundException"
_POLL_SECONDS = 2.0
_OVERLAP_MILLISECONDS = 60_000
"""Lines can arrive late: so far back each look reaches, beyond the newest line seen."""


@dataclass(frozen=True, slots=True)
class LogGroup:
    """A log group as CloudWatch describes it. `retention_days` None: kept for ever."""

    name: str
    retention_days: int | None


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line of a log."""

    at: datetime
    stream: str
    message: str


def find(client: Any, name: str) -> LogGroup | None:
    """The log group, or None if there is none."""
    pages = ApiCall("logs", "DescribeLogGroups", {"logGroupNamePrefix": name}).pages(client)
    groups = (group for page in pages for group in page["logGroups"])
    found = next((group for group in groups if group["logGroupName"] == name), None)
    return found and LogGroup(name, found.get("retentionInDays"))


def part(function: str, found: LogGroup | None) -> Part:
    """What makes the log group as it shall be. One that Lambda made by itself is taken over."""
    name = log_group(function)
    retention = ApiCall("logs", "PutRetentionPolicy", {"logGroupName": name, "retentionInDays": RETENTION_DAYS})
    if found is None:
        create = ApiCall("logs", "CreateLogGroup", {"logGroupName": name, "tags": MANAGED_BY})
        return Part(f"log group {name}", "created", (create, retention))
    if found.retention_days == RETENTION_DAYS:
        return Part(f"log group {name}")
    before = "for ever" if found.retention_days is None else f"{found.retention_days} days"
    return updated(f"log group {name}", {"retention": f"{before} → {RETENTION_DAYS} days"}, (retention,))


def delete_call(name: str) -> ApiCall:
    return ApiCall("logs", "DeleteLogGroup", {"logGroupName": name})


def lines(client: Any, function: str, since: datetime, clock: Clock, *, follow: bool) -> Iterator[LogLine]:
    """The lines of a function's log, each once, in the order of their times as far as they are known by then.

    Raises AwsError (`log_missing`) if there is no log yet.
    """
    seen: dict[str, int] = {}
    start = int(since.timestamp() * 1_000)
    while True:
        events = [event for event in _events(client, log_group(function), start) if _identity(event) not in seen]
        for event in sorted(events, key=lambda event: event["timestamp"]):
            seen[_identity(event)] = event["timestamp"]
            at = datetime.fromtimestamp(event["timestamp"] / 1_000, UTC)
            yield LogLine(at, event.get("logStreamName", ""), event["message"].rstrip("\n"))
        if not follow:
            return
        start = max(start, max(seen.values(), default=start) - _OVERLAP_MILLISECONDS)
        seen = {event_id: timestamp for event_id, timestamp in seen.items() if timestamp >= start}
        clock.sleep(_POLL_SECONDS)


def _identity(event: dict[str, Any]) -> str:
    """What distinguishes a line from others; some emulators give no id."""
    return event.get("eventId") or f"{event.get('logStreamName')} {event['timestamp']} {event['message']}"


def _events(client: Any, group: str, start: int) -> Iterator[dict[str, Any]]:
    """Pages may be empty before the last one."""
    try:
        for page in ApiCall("logs", "FilterLogEvents", {"logGroupName": group, "startTime": start}).pages(client):
            yield from page["events"]
    except AwsError as error:
        if error_code(error) == _MISSING:
            raise AwsError(
                f"There is no log group {group}.",
                hint="Deploy the functions first: cqrsctl function deploy",
                code="log_missing",
            ) from error
        raise
