"""How well the write model's table is, its stream, and whoever projects it: judged from what was found."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC
from typing import TYPE_CHECKING, Any

from cqrsctl.diagnosis.health import Health, Part, broken, span
from cqrsctl.diagnosis.lag import hours_left
from cqrsctl.errors import AwsError, CqrsctlError, StreamGap
from cqrsctl.functions.mapping import DISABLED, ENABLED

if TYPE_CHECKING:
    from cqrsctl.diagnosis.backlog import Backlog
    from cqrsctl.functions.function import Function
    from cqrsctl.functions.mapping import Mapping
    from cqrsctl.read_model.traces import ProjectorTraces
    from cqrsctl.stream.shards import Stream
    from cqrsctl.write_model.table import Table

WAITING_SECONDS = 30.0
"""A change that waits longer is late; a projector whose checkpoints do not move for as long meanwhile is stuck."""
_FEW_HOURS = 12.0
_LAST_HOURS = 4.0
_TABLE_AT_WORK = {"CREATING", "UPDATING"}


def of_table(table: Table) -> Part:
    facts = {"table": table.name, "status": table.status, "items": table.items, "bytes": table.bytes}
    summary = f"{table.name}, {table.status.lower()}, about {table.items} items"
    if table.status == "ACTIVE":
        return Part("table", Health.OK, summary, None, facts)
    at_work = table.status in _TABLE_AT_WORK
    return Part("table", Health.WARNING if at_work else Health.FAILING, summary, f"it is {table.status}", facts)


def of_stream(stream: Stream) -> Part:
    since = f", since {stream.created_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC" if stream.created_at else ""
    facts = {"stream_arn": stream.arn, "view_type": stream.view_type, "status": stream.status}
    summary = f"{stream.view_type}{since}"
    if stream.status == "ENABLED":
        return Part("stream", Health.OK, summary, None, facts)
    at_work = stream.status == "ENABLING"
    return Part("stream", Health.WARNING if at_work else Health.FAILING, summary, f"it is {stream.status}", facts)


def of_shards(stream: Stream, found: Backlog | CqrsctlError) -> Part:
    """The shards, and how long what is unread in them is kept."""
    opened = sum(shard.is_open for shard in stream.shards.values())
    summary = f"{opened} open, {len(stream.shards) - opened} closed"
    facts: dict[str, Any] = {"open": opened, "closed": len(stream.shards) - opened, "hours_left": None}
    if isinstance(found, (StreamGap, AwsError)):
        part = broken("shards", found)
        return Part("shards", part.health, summary, part.reason, facts)
    if isinstance(found, CqrsctlError):
        told = "how far they are read is not known without the database"
        return Part("shards", Health.UNKNOWN, summary, told, facts)
    if found.unread is None:
        return Part("shards", Health.OK, f"{summary}; AWS keeps their positions for the Lambda function", None, facts)
    if found.oldest is None:
        return _nothing_unread(found, summary, facts)
    age = found.age_seconds(found.oldest)
    left = facts["hours_left"] = hours_left(age)
    waiting = sum(moment is not None for moment in found.unread.values())
    summary += f"; unread changes in {waiting}, the oldest {span(age)} old"
    if left > _FEW_HOURS:
        return Part("shards", Health.OK, summary, None, facts)
    health = Health.FAILING if left <= _LAST_HOURS else Health.WARNING
    return Part("shards", health, summary, f"unread changes are trimmed in {left:.1f} h", facts)


def _nothing_unread(found: Backlog, summary: str, facts: dict[str, Any]) -> Part:
    if found.childless:
        told = f"shard {min(found.childless)} ended, and no child of it is listed yet: look again in a minute"
        return Part("shards", Health.UNKNOWN, summary, told, facts)
    return Part("shards", Health.OK, f"{summary}; nothing unread", None, facts)


@dataclass(frozen=True, slots=True)
class Projecting:
    """What the projector is judged by. `rows_per_second` None: not measured, which takes two looks."""

    traces: ProjectorTraces
    backlog: Backlog | CqrsctlError
    mapping: Mapping | None
    rows_per_second: float | None

    @property
    def waiting_seconds(self) -> float | None:
        """How long the oldest change waits, 0 where none does; None where that is not known."""
        return None if isinstance(self.backlog, CqrsctlError) else self.backlog.waiting_seconds

    @property
    def mapped(self) -> bool:
        return self.mapping is not None and self.mapping.state == ENABLED


def of_projector(found: Projecting) -> Part:
    """The projector, judged by its progress and not by being there."""
    traces, waiting = found.traces, found.waiting_seconds
    facts = {
        "held": traces.held,
        "holder": traces.holder,
        "last_progress_seconds": traces.progress_seconds,
        "waiting_seconds": waiting,
        "rows_per_second": found.rows_per_second,
    }
    summary = _progress(traces, found.rows_per_second)
    if traces.held:
        health, reason = _judged_holder(found)
        return Part("projector", health, f"{traces.holder}; {summary}", reason, facts)
    if found.mapped:
        return Part("projector", Health.OFF, "the Lambda function projects", None, facts)
    if waiting is None:
        told = f"nobody projects, and {_why_unknown(found)}"
        return Part("projector", Health.UNKNOWN, summary, told, facts)
    if not waiting:
        return Part("projector", Health.OFF, f"nobody projects, and nothing waits; {summary}", None, facts)
    health = Health.FAILING if waiting > WAITING_SECONDS else Health.WARNING
    reason = f"stopped: changes wait for {span(waiting)}, and nobody projects. Start it: cqrsctl project"
    return Part("projector", health, summary, reason, facts)


def _judged_holder(found: Projecting) -> tuple[Health, str | None]:
    waiting, progress = found.waiting_seconds, found.traces.progress_seconds
    if waiting is None:
        return Health.UNKNOWN, _why_unknown(found)
    if waiting <= WAITING_SECONDS:
        return Health.OK, None
    if progress is None or progress > WAITING_SECONDS:
        since = "ever" if progress is None else f"for {span(progress)}"
        return Health.FAILING, f"stuck: changes wait for {span(waiting)}, but its checkpoints did not move {since}"
    return Health.WARNING, f"behind: changes wait for {span(waiting)}, and it gets on"


def _why_unknown(found: Projecting) -> str:
    if isinstance(found.backlog, StreamGap):
        return "changes were lost: see shards"
    if isinstance(found.backlog, CqrsctlError):
        return "what waits is not known: see shards"
    return "what waits is not known: the Lambda function projected last, and AWS keeps its position"


def _progress(traces: ProjectorTraces, rows_per_second: float | None) -> str:
    if traces.progress_seconds is None:
        return "no progress yet"
    rate = "" if rows_per_second is None else f", {rows_per_second:.0f} rows/s"
    return f"last progress {span(traces.progress_seconds)} ago{rate}"


def of_mapping(function: Function | None, mapping: Mapping | None, age: float | None, waiting: float | None) -> Part:
    """The Lambda side. `age` is the iterator age in seconds, `waiting` how long changes wait; None: not known."""
    if function is None or mapping is None:
        return Part("mapping", Health.OFF, "no Lambda function projects this table")
    facts = {
        "state": mapping.state,
        "function_state": function.state,
        "last_result": mapping.last_result or None,
        "iterator_age_seconds": age,
    }
    summary = f"{function.name}, {mapping.state.lower()}" + (f", iterator age {span(age)}" if age is not None else "")
    health, reason = _judged_mapping(function, mapping, age, waiting)
    return Part("mapping", health, summary, reason, facts)


def _judged_mapping(
    function: Function, mapping: Mapping, age: float | None, waiting: float | None
) -> tuple[Health, str | None]:
    if function.state == "Failed":
        return Health.FAILING, f"the function has failed: {function.reason}"
    if mapping.state == DISABLED:
        return Health.OFF, "paused; it goes on with: cqrsctl function resume"
    if mapping.state != ENABLED:
        return Health.WARNING, mapping.reason or f"it is {mapping.state}"
    if mapping.last_result.startswith("PROBLEM"):
        return Health.FAILING, mapping.last_result
    late = max(age or 0.0, waiting or 0.0)
    if late <= WAITING_SECONDS:
        return Health.OK, None
    told = f"changes wait for {span(late)}. See why: cqrsctl function logs projector"
    return Health.FAILING if age is None else Health.WARNING, told
