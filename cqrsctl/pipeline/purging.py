"""Removing tombstones that nobody needs any more, if it is certain that nobody does."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from cqrsctl import retries
from cqrsctl.change import ShardState
from cqrsctl.clock import SystemClock
from cqrsctl.errors import CqrsctlError, StreamGap
from cqrsctl.pipeline.streams import certain_tip
from cqrsctl.pipeline.unread_shards import unread_before
from cqrsctl.read_model import checkpoints, heartbeat, purge
from cqrsctl.read_model.connection import connect
from cqrsctl.stream import shards
from cqrsctl.stream.unread import Asking
from cqrsctl.write_model import table

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import timedelta

    from cqrsctl.projection.definition import Projection
    from cqrsctl.read_model.connection import Connection
    from cqrsctl.read_model.purge import Purge
    from cqrsctl.stream.shards import Stream
    from cqrsctl.wiring import Wiring

_MOST_PROBES = 16


def plan(wiring: Wiring, older_than: timedelta) -> list[Purge]:
    """What is to be removed of each projection. Raises UsageError if tombstones so young may be needed yet.

    Raises Busy while a projection is rebuilt, StreamGap, AwsError, DatabaseError; and CqrsctlError (`unread_changes`)
    if the projector has not read all that is older than a tombstone.
    """
    purge.require_age(older_than)
    stream_arn = table.require_stream(table.describe(wiring.dynamodb, wiring.environment.table))
    stream = shards.describe(wiring.streams, stream_arn)
    with connect(wiring.database) as connection:
        plans = [purge.plan(connection, projection, older_than) for projection in wiring.environment.projections]
        if not heartbeat.by_function(connection):  # it has no checkpoints: AWS itself never hands it older changes
            for each in plans:
                _require_read(wiring, connection, stream, each)
        connection.commit()
    return plans


def run(wiring: Wiring, plans: Sequence[Purge], progress: Callable[[int], None]) -> int:
    """Remove the planned tombstones while projectors run; returns their number. Raises Busy, DatabaseError."""
    removed = 0
    with connect(wiring.database) as connection, connect(wiring.database) as removing:
        for each in plans:
            for keys in purge.batches(connection, each) if each.removable else ():
                removed += retries.of_transactions(time.sleep)(purge.remove, removing, each, keys)
                progress(removed)
    return removed


def _require_read(wiring: Wiring, connection: Connection, stream: Stream, planned: Purge) -> None:
    projection = planned.table.projection
    positions = checkpoints.read(connection, [projection], stream.arn)[projection.name]
    _require_no_gap(projection, [shard for shard, at in positions.items() if at.state is ShardState.GAP])
    if not positions:
        return
    with ThreadPoolExecutor(_MOST_PROBES, thread_name_prefix="probe") as executor:
        asking = Asking(wiring.streams, executor, SystemClock(), certain_tip(wiring))
        unread = next(unread_before(asking, stream, positions, planned.before), None)
    if unread is None:
        return
    if unread.since is None:
        _require_no_gap(projection, [unread.shard_id])
    raise CqrsctlError(
        f"Projection {projection.name} has not read changes of shard {unread.shard_id} that are older than the "
        f"tombstones to be removed (from {unread.since:%Y-%m-%d %H:%M} UTC on).",
        hint="Let the projector catch up first: cqrsctl project --once",
        code="unread_changes",
    )


def _require_no_gap(projection: Projection, lost: Sequence[str]) -> None:
    if lost:
        raise StreamGap(
            f"Projection {projection.name} lost changes of shard {lost[0]}; rebuild its read model, "
            "which then has no tombstones."
        )
