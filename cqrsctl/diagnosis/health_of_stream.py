"""How well the write model's table is, its stream, and whoever projects it: judged from what was found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cqrsctl import words
from cqrsctl.diagnosis.backlog import FEW_HOURS, LAST_HOURS, hours_left
from cqrsctl.diagnosis.health import Health, PartHealth, broken
from cqrsctl.errors import AwsError, ConfigurationError, CqrsctlError, StreamGap
from cqrsctl.functions.mapping import DISABLED, ENABLED
from cqrsctl.write_model.table import PROJECTABLE

if TYPE_CHECKING:
    from datetime import datetime

    from cqrsctl.diagnosis.backlog import Backlog
    from cqrsctl.functions.function import Function
    from cqrsctl.functions.mapping import Mapping
    from cqrsctl.read_model.inventory import Inventory
    from cqrsctl.stream.shards import Stream
    from cqrsctl.write_model.table import Table

WAITING_SECONDS = 30.0
"""A change that waits longer is late; a projector whose checkpoints do not move for as long meanwhile is stuck."""
_TABLE_AT_WORK = {"CREATING", "UPDATING"}
_UNDER_WAY = {"Creating": "being created", "Enabling": "being enabled", "Updating": "being updated"}
"""What Lambda does with a mapping that will bring changes, by its state."""


def of_table(table: Table) -> PartHealth:
    facts = {"table": table.name, "status": table.status, "items": table.items, "bytes": table.bytes}
    summary = f"{table.name}, {table.status.lower()}, about {words.count(table.items, 'item')}"
    if table.status == "ACTIVE":
        return PartHealth("table", Health.OK, summary, None, facts)
    at_work = table.status in _TABLE_AT_WORK
    return PartHealth("table", Health.WARNING if at_work else Health.FAILING, summary, f"it is {table.status}", facts)


def of_stream(stream: Stream, now: datetime) -> PartHealth:
    since = f", since {words.moment(stream.created_at, now)}" if stream.created_at else ""
    facts = {"stream_arn": stream.arn, "view_type": stream.view_type, "status": stream.status}
    summary = f"{stream.view_type}{since}"
    if stream.view_type not in PROJECTABLE:
        return PartHealth("stream", Health.FAILING, summary, "it has no new images: see cqrsctl doctor", facts)
    if stream.status == "ENABLED":
        return PartHealth("stream", Health.OK, summary, None, facts)
    at_work = stream.status == "ENABLING"
    return PartHealth("stream", Health.WARNING if at_work else Health.FAILING, summary, f"it is {stream.status}", facts)


def of_shards(stream: Stream, found: Backlog | CqrsctlError) -> PartHealth:
    """The shards, and how long what is unread in them is kept."""
    opened = sum(shard.is_open for shard in stream.shards.values())
    summary = f"{opened} open, {len(stream.shards) - opened} closed"
    facts: dict[str, Any] = {"open": opened, "closed": len(stream.shards) - opened, "hours_left": None}
    if isinstance(found, (StreamGap, AwsError, ConfigurationError)):
        part = broken("shards", found)
        return PartHealth("shards", part.health, summary, part.reason, facts)
    if isinstance(found, CqrsctlError):
        reason = "how far they are read is unknown without the database"
        return PartHealth("shards", Health.UNKNOWN, summary, reason, facts)
    if found.unread is None:
        summary += "; AWS keeps their positions for the Lambda function"
        return PartHealth("shards", Health.OK, summary, None, facts)
    if found.oldest is None:
        return _nothing_unread(found, summary, facts)
    age = found.age_seconds(found.oldest)
    left = facts["hours_left"] = hours_left(age)
    waiting = sum(moment is not None for moment in found.unread.values())
    summary += f"; unread changes in {waiting}, the oldest {words.duration(age)} old"
    if left > FEW_HOURS:
        return PartHealth("shards", Health.OK, summary, None, facts)
    health = Health.FAILING if left <= LAST_HOURS else Health.WARNING
    return PartHealth("shards", health, summary, f"unread changes are trimmed in {words.duration(left * 3_600)}", facts)


def _nothing_unread(found: Backlog, summary: str, facts: dict[str, Any]) -> PartHealth:
    if found.childless:
        reason = f"shard {min(found.childless)} ended, and no child of it is listed yet: look again in a minute"
        return PartHealth("shards", Health.UNKNOWN, summary, reason, facts)
    return PartHealth("shards", Health.OK, f"{summary}; nothing unread", None, facts)


@dataclass(frozen=True, slots=True)
class Projecting:
    """What the projector is judged by. `rows_per_second` None: not measured, which takes two looks."""

    traces: Inventory
    backlog: Backlog | CqrsctlError
    mapping: Mapping | None
    rows_per_second: float | None

    @property
    def waiting_seconds(self) -> float | None:
        """How long the oldest change waits, 0 if none does; None if that is unknown."""
        return None if isinstance(self.backlog, CqrsctlError) else self.backlog.waiting_seconds

    @property
    def by_function(self) -> str | None:
        """What the Lambda function does, or will soon; None if no mapping, or a paused one, brings it changes."""
        if self.mapping is None or self.mapping.paused:
            return None
        if self.mapping.state == ENABLED:
            return "the Lambda function projects"
        under_way = _UNDER_WAY.get(self.mapping.state, self.mapping.state)
        return f"the Lambda function will project: its mapping is {under_way}"


def of_projector(found: Projecting) -> PartHealth:
    """The projector, judged by its progress and not by being there."""
    traces, waiting = found.traces, found.waiting_seconds
    facts = {
        "held": traces.holder is not None,
        "holder": traces.holder or (traces.last and traces.last.holder),
        "last_progress_seconds": traces.progress_seconds,
        "waiting_seconds": waiting,
        "rows_per_second": found.rows_per_second,
    }
    summary = _progress(traces, found.rows_per_second)
    if traces.holder:
        health, reason = _judged_holder(found)
        return PartHealth("projector", health, f"{traces.holder}; {summary}", reason, facts)
    if found.by_function:
        return PartHealth("projector", Health.OFF, found.by_function, None, facts)
    if waiting is None:
        reason = f"nobody projects, and {_why_unknown(found)}"
        return PartHealth("projector", Health.UNKNOWN, summary, reason, facts)
    if not waiting:
        return PartHealth("projector", Health.OFF, f"nobody projects, and nothing waits; {summary}", None, facts)
    health = Health.FAILING if waiting > WAITING_SECONDS else Health.WARNING
    reason = f"stopped: changes wait for {words.duration(waiting)}, and nobody projects. Start it: cqrsctl project"
    return PartHealth("projector", health, summary, reason, facts)


def _judged_holder(found: Projecting) -> tuple[Health, str | None]:
    waiting, progress = found.waiting_seconds, found.traces.progress_seconds
    if waiting is None:
        return Health.UNKNOWN, _why_unknown(found)
    if waiting <= WAITING_SECONDS:
        return Health.OK, None
    if progress is None or progress > WAITING_SECONDS:
        since = "ever" if progress is None else f"for {words.duration(progress)}"
        return (
            Health.FAILING,
            f"stuck: changes wait for {words.duration(waiting)}, but its checkpoints did not move {since}",
        )
    return Health.WARNING, f"behind: changes wait for {words.duration(waiting)}, and it gets on"


def _why_unknown(found: Projecting) -> str:
    if isinstance(found.backlog, StreamGap):
        return "changes were lost: see shards"
    if isinstance(found.backlog, CqrsctlError):
        return "what waits is unknown: see shards"
    return "what waits is unknown: the Lambda function projected last, and AWS keeps its position"


def _progress(traces: Inventory, rows_per_second: float | None) -> str:
    if traces.progress_seconds is None:
        return "no progress yet"
    rate = "" if rows_per_second is None else f", {rows_per_second:.0f} rows/s"
    return f"last progress {words.ago(traces.progress_seconds)}{rate}"


@dataclass(frozen=True, slots=True)
class Mapped:
    """What the Lambda side is judged by: None if there is none, or if it is unknown.

    `age` is the iterator age in seconds, `waiting` how long changes wait, `stream_arn` the table's stream now. `runs`:
    the endpoint runs functions, `elsewhere`: the function reads streams of other tables.
    """

    function: Function | None = None
    mapping: Mapping | None = None
    age: float | None = None
    waiting: float | None = None
    stream_arn: str | None = None
    runs: bool = True
    elsewhere: bool = False


def of_mapping(found: Mapped) -> PartHealth:
    """What brings the stream's records to the Lambda function."""
    function, mapping, age = found.function, found.mapping, found.age
    if function is None or found.elsewhere:
        return PartHealth("mapping", Health.OFF, "no Lambda function projects this table")
    if not found.runs:
        return PartHealth("mapping", Health.OFF, f"{function.name} is deployed, but this endpoint runs no functions")
    if mapping is None:
        missing = "no stream is mapped to it: cqrsctl function deploy"
        return PartHealth("mapping", Health.WARNING, f"{function.name} is deployed", missing)
    facts = {
        "state": mapping.state,
        "function_state": function.state,
        "last_result": mapping.last_result or None,
        "iterator_age_seconds": age,
    }
    summary = f"{function.name}, {mapping.state.lower()}" + (
        f", iterator age {words.duration(age)}" if age is not None else ""
    )
    health, reason = _judged_mapping(function, mapping, found)
    return PartHealth("mapping", health, summary, reason, facts)


def _judged_mapping(function: Function, mapping: Mapping, found: Mapped) -> tuple[Health, str | None]:
    if reason := _failure(function, mapping, found.stream_arn):
        return Health.FAILING, reason
    if mapping.state == DISABLED:
        return Health.OFF, "paused; resume it with: cqrsctl function resume"
    if mapping.state != ENABLED:
        return Health.WARNING, mapping.reason or f"it is {_UNDER_WAY.get(mapping.state, mapping.state)}"
    late = max(found.age or 0.0, found.waiting or 0.0)
    if late <= WAITING_SECONDS:
        return Health.OK, None
    reason = f"changes wait for {words.duration(late)}. See why: cqrsctl function logs projector"
    return Health.FAILING if found.age is None or hours_left(late) <= LAST_HOURS else Health.WARNING, reason


def _failure(function: Function, mapping: Mapping, stream_arn: str | None) -> str | None:
    """Why no change arrives by a mapping, as far as Lambda reports it."""
    if function.state == "Failed":
        return f"the function has failed: {function.reason}"
    if stream_arn is not None and mapping.stream_arn != stream_arn:
        return "it reads an earlier stream of the table: cqrsctl function deploy, then cqrsctl rebuild"
    return mapping.last_result if mapping.state == ENABLED and mapping.has_problem else None
