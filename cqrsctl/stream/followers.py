"""Where the projections that follow a stream stand: each has its own position in every shard. Pure.

They are read together, from the position of the one that is furthest behind; what the others have is stale for them.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING

from cqrsctl.change import Position, ShardState
from cqrsctl.stream.retention import may_be_trimmed, read_through

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from cqrsctl.change import Checkpoints, Followers
    from cqrsctl.stream.lineage import Shard

NOBODY = ""
"""The follower of a reading for which no projection has checkpoints, as when a stream is only shown."""
_NEVER = datetime.min.replace(tzinfo=UTC)


def start_of(shard: Shard, checkpoints: Checkpoints, now: datetime, since: datetime | None = None) -> Position:
    """The position of a projection that stands nowhere in a shard: its start.

    Of a child all is promised that comes after what was read of its parent; of another shard, what comes from now on.
    """
    parent = checkpoints.get(shard.parent_id or "")
    promised = read_through(now) if parent is None else parent.read_through
    return Position(shard.shard_id, shard.parent_id, record_time=now, since=since, read_through=promised)


def furthest_behind(positions: Iterable[Position]) -> Position:
    """The position from which a shard has to be read so that nobody misses a change."""
    return min(positions, key=lambda each: (each.progress, each.since or _NEVER, each.read_through or _NEVER))


def in_shard(followers: Followers, shard_id: str) -> dict[str, Position]:
    """The followers that have a position in a shard, each with it."""
    return {name: positions[shard_id] for name, positions in followers.items() if shard_id in positions}


def merged(followers: Followers, shards: Mapping[str, Shard], now: datetime) -> dict[str, Position]:
    """The position to read each listed shard from; who stands nowhere in it stands at its start.

    Shards that are not listed keep the position of whoever is furthest behind in them.
    """
    found = {
        shard_id: furthest_behind(
            positions.get(shard_id) or start_of(shard, positions, now) for positions in followers.values()
        )
        for shard_id, shard in shards.items()
        if followers
    }
    for positions in followers.values():
        for shard_id in positions.keys() - found.keys():
            found[shard_id] = furthest_behind(in_shard(followers, shard_id).values())
    return found


def behind(followers: Followers, lost: Position, now: datetime) -> frozenset[str]:
    """The followers that need the changes after a position that were lost: those that are not further than it.

    One that has just begun at the shard's start was promised none of them.
    """
    progress = replace(lost, state=ShardState.OPEN).progress
    return frozenset(
        name
        for name, each in in_shard(followers, lost.shard_id).items()
        if each.progress <= progress and may_be_trimmed(each, now)
    )


class Absent(StrEnum):
    """What it means that a shard that a follower needs neither is listed nor exists."""

    LOST = "lost"
    NEEDLESS = "needless"
    DOUBTFUL = "doubtful"
    LATE = "late"


def why_absent(shard_id: str, position: Position, checkpoints: Checkpoints, now: datetime) -> Absent:
    """Judge a shard that a listing leaves out and that is said not to exist, as `lineage.unlisted` names it.

    A parent that nobody knew was a generation that passed unread. Of a shard that was read lately AWS keeps the changes
    for 24 hours, so the answer is wrong. One of which nothing was read, and whose parent is not ours, may have been
    gone when it was listed: then nobody promised it. If its parent is ours, either the answer is wrong, or all that it
    held was older than what is promised of it: it was closed long before it was registered.
    """
    if position.shard_id != shard_id or may_be_trimmed(position, now):
        return Absent.LOST
    if position.sequence_number is not None:
        return Absent.LATE
    return Absent.DOUBTFUL if position.parent_id in checkpoints else Absent.NEEDLESS
