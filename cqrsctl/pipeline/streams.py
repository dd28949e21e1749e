"""The stream beside the read model's checkpoints: what was read of it, and what is left to read, for how long."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from cqrsctl.change import RETENTION, ShardState
from cqrsctl.errors import CqrsctlError, DatabaseError, UsageError
from cqrsctl.read_model import checkpoints, function_position
from cqrsctl.read_model.connection import connect
from cqrsctl.stream import followers, shards
from cqrsctl.stream.lineage import oldest_first
from cqrsctl.stream.poll import CERTAIN, EMULATOR, GLANCE, Tip
from cqrsctl.stream.shard_reader import ShardLost
from cqrsctl.write_model import table

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from cqrsctl.change import Followers, Position
    from cqrsctl.stream.lineage import Shard
    from cqrsctl.wiring import Wiring


@dataclass(frozen=True, slots=True)
class StreamStatus:
    """The stream and its shards, ready to be shown."""

    stream: dict[str, Any]
    shards: list[dict[str, Any]]


def status(wiring: Wiring, now: datetime, note: Callable[[str], None]) -> StreamStatus:
    """The stream with every shard's checkpoint; without the database, which is said, the shards alone."""
    arn = table.require_stream(table.describe(wiring.dynamodb, wiring.environment.table))
    stream = shards.describe(wiring.streams, arn)
    following = _followers(wiring, arn, note)
    for name, each in following.items():
        for position in each.values():
            if position.state is ShardState.GAP:
                gap = ShardLost(position, frozenset({name}))
                note(f"Gap: {gap} {gap.hint}")
    positions = followers.merged(following, stream.shards, now) if any(following.values()) else {}
    return StreamStatus(
        stream={
            "stream_arn": arn,
            "status": stream.status,
            "view_type": stream.view_type,
            "created_at": stream.created_at,
            "open_shards": sum(shard.is_open for shard in stream.shards.values()),
            "closed_shards": sum(not shard.is_open for shard in stream.shards.values()),
        },
        shards=[_shard(shard, positions.get(shard.shard_id), now) for shard in oldest_first(stream.shards.values())]
        + [
            _lost(position)
            for position in positions.values()
            if position.shard_id not in stream.shards and position.state is not ShardState.FINISHED
        ],
    )


def certain_tip(wiring: Wiring) -> Tip:
    """What counts as a shard's tip for whoever acts on it."""
    return EMULATOR if wiring.environment.embedded else CERTAIN


def glanced_tip(wiring: Wiring) -> Tip:
    """What counts as a shard's tip for whoever looks, beside those who read the shard."""
    return EMULATOR if wiring.environment.embedded else GLANCE


def require_shard(client: shards.StreamsClient, stream_arn: str, shard_id: str) -> None:
    """Raises UsageError where the stream has no such shard."""
    if shard_id not in shards.describe(client, stream_arn).shards:
        raise UsageError(f"The stream has no shard {shard_id!r}.", hint="See them with: cqrsctl stream status")


def _followers(wiring: Wiring, arn: str, note: Callable[[str], None]) -> Followers:
    try:
        with connect(wiring.database) as connection:
            names = {projection.name for projection in wiring.environment.projections}
            for missed in function_position.gaps(connection, names):
                gap = function_position.error([missed])
                note(f"Gap: {gap} {gap.hint}")
            return checkpoints.read(connection, wiring.environment.projections, arn)
    except DatabaseError as error:
        note(f"No checkpoints: {error}")
    except CqrsctlError as error:
        note(str(error))
    return {}


def _shard(shard: Shard, position: Position | None, now: datetime) -> dict[str, Any]:
    unread = position is None or position.state is not ShardState.FINISHED
    since = position.record_time if position else None
    return {
        "shard": shard.shard_id,
        "parent": shard.parent_id,
        "state": "open" if shard.is_open else "closed",
        "read": "unread" if position is None else position.state.value,
        "sequence_number": str(position.sequence_number) if position and position.sequence_number else None,
        "record_time": since,
        "hours_left": round((RETENTION - (now - since)) / timedelta(hours=1), 1) if unread and since else None,
    }


def _lost(position: Position) -> dict[str, Any]:
    return {
        "shard": position.shard_id,
        "parent": position.parent_id,
        "state": "gone",
        "read": position.state.value,
        "sequence_number": str(position.sequence_number) if position.sequence_number else None,
        "record_time": position.record_time,
        "hours_left": None,
    }
