"""The stream beside the read model's checkpoints: what was read of each shard, and how long the rest is kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cqrsctl.change import ShardState
from cqrsctl.diagnosis.facts import Facts, outcome
from cqrsctl.errors import CqrsctlError, DatabaseError, StreamGap
from cqrsctl.stream import followers
from cqrsctl.stream.lineage import oldest_first

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cqrsctl.change import Position
    from cqrsctl.diagnosis.backlog import Backlog
    from cqrsctl.stream.lineage import Shard


@dataclass(frozen=True, slots=True)
class StreamStatus:
    """The stream and its shards, ready to be shown."""

    stream: dict[str, Any]
    shards: list[dict[str, Any]]


def status(facts: Facts, note: Callable[[str], None]) -> StreamStatus:
    """The stream with every shard's checkpoint; without the database, which is said, the shards alone."""
    stream = facts.existing_stream()
    facts.ask(Facts.backlog, Facts.positions)
    positions, backlog = _positions(facts, note), _backlog(facts, note)
    return StreamStatus(
        stream={
            "stream_arn": stream.arn,
            "status": stream.status,
            "view_type": stream.view_type,
            "created_at": stream.created_at,
            "open_shards": sum(shard.is_open for shard in stream.shards.values()),
            "closed_shards": sum(not shard.is_open for shard in stream.shards.values()),
        },
        shards=[_shard(shard, positions, backlog) for shard in oldest_first(stream.shards.values())]
        + [
            _gone(position)
            for position in (positions or {}).values()
            if position.shard_id not in stream.shards and position.state is not ShardState.FINISHED
        ],
    )


def _positions(facts: Facts, note: Callable[[str], None]) -> Mapping[str, Position] | None:
    """How far each shard was read by whoever is furthest behind; empty if nobody reads it, None if it is unknown."""
    found = outcome(facts.positions)
    if isinstance(found, StreamGap):
        return None  # it is one of the reported gaps
    if isinstance(found, CqrsctlError):
        note(f"No checkpoints: {found}" if isinstance(found, DatabaseError) else str(found))
        return None
    if facts.made() is None:
        note("No checkpoints: there is no read model yet.")
    return followers.merged(found, facts.existing_stream().shards, facts.now) if found else {}


def _backlog(facts: Facts, note: Callable[[str], None]) -> Backlog | None:
    """What is unread; None if changes were lost, or if it is unknown."""
    gaps = outcome(facts.gaps)
    for gap in [] if isinstance(gaps, CqrsctlError) else gaps:
        note(f"Gap: {gap} {gap.hint}")
    found = outcome(facts.backlog)
    if not isinstance(found, CqrsctlError):
        return found
    if not isinstance(found, StreamGap) and found is not outcome(facts.positions):
        note(f"What is unread is unknown: {found}")
    return None


def _shard(shard: Shard, positions: Mapping[str, Position] | None, backlog: Backlog | None) -> dict[str, Any]:
    position = (positions or {}).get(shard.shard_id)
    never_read = "unknown" if positions is None else "unread"
    return {
        "shard": shard.shard_id,
        "parent": shard.parent_id,
        "state": "open" if shard.is_open else "closed",
        "read": position.state.value if position else never_read,
        "sequence_number": str(position.sequence_number) if position and position.sequence_number else None,
        "record_time": position.record_time if position else None,
        "hours_left": backlog.hours_left_in(shard.shard_id) if backlog else None,
    }


def _gone(position: Position) -> dict[str, Any]:
    return {
        "shard": position.shard_id,
        "parent": position.parent_id,
        "state": "gone",
        "read": position.state.value,
        "sequence_number": str(position.sequence_number) if position.sequence_number else None,
        "record_time": position.record_time,
        "hours_left": None,
    }
