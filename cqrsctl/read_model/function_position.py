"""What the projector function handled of each stream; and gaps: projections that lack changes it never got, or items.

AWS keeps the function's position in the stream and does not report it. So the function writes beside its rows how far
it came, and whoever finds that changes can no longer reach it marks a gap, once for each projection. A mark names the
version of the projection's table: a table with a later version was filled from the write model after the gap, and lacks
nothing. An undo leads back to the earlier table, and so to the gap.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

from cqrsctl.change import RETENTION, SequenceNumber, ShardState, stream_label_micros
from cqrsctl.errors import StreamGap
from cqrsctl.read_model import heartbeat
from cqrsctl.read_model.checkpoints import aware, naive
from cqrsctl.read_model.connection import ReadModelMissing

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from cqrsctl.change import ChangeRecord
    from cqrsctl.read_model.connection import Connection

STANDSTILL_LIMIT = RETENTION - timedelta(minutes=15)
"""Two clocks, the database's and the one that gives changes their times, may each be wrong by five minutes."""


class Reason(StrEnum):
    """Why changes never reached the function."""

    STREAM_CHANGED = "stream_changed"
    PAUSED = "paused"
    STOOD_STILL = "stood_still"
    NEVER_LOADED = "never_loaded"


_REASONS = {
    Reason.STREAM_CHANGED: "the table's stream was replaced, and changes between the two streams were recorded nowhere",
    Reason.PAUSED: "the projector function was paused until changes left the stream",
    Reason.STOOD_STILL: "nothing was projected until changes left the stream",
    Reason.NEVER_LOADED: "the stream does not hold all items, and the rebuild that loads them has not come to its end",
}


@dataclass(frozen=True, slots=True)
class Gap:
    """A projection whose active table lacks changes of a stream. `rebuilding`: a rebuild is filling its next table."""

    projection: str
    stream_arn: str
    reason: Reason
    marked_at: datetime
    rebuilding: bool

    @property
    def why(self) -> str:
        """Why changes are missing, as a sentence without its full stop."""
        return _REASONS[self.reason]

    def __str__(self) -> str:
        return _sentence(self.projection, self.reason)


def write(connection: Connection, changes: Sequence[ChangeRecord]) -> bool:
    """Put what the function handles into the running transaction; whether it marked a gap.

    The first event of a stream that is newer than the one a projection followed last is a gap of that projection. A
    late event of an older stream is none.
    """
    streams: dict[str, list[ChangeRecord]] = {}
    for change in changes:
        streams.setdefault(change.stream_arn, []).append(change)
    marked = False
    for stream_arn in sorted(streams, key=stream_label_micros):
        if _write(connection, stream_arn, streams[stream_arn]):
            others = [name for name in handled_streams(connection) if name != stream_arn]
            behind = _behind(_followed(connection, others), stream_arn)
            marked |= mark(connection, stream_arn, Reason.STREAM_CHANGED, behind)
    return marked


def _write(connection: Connection, stream_arn: str, changes: Sequence[ChangeRecord]) -> bool:
    """Whether these are the first changes of the stream that the function handles."""
    highest = max(change.sequence_number for change in changes)
    touched = connection.execute(
        """
        INSERT INTO cqrs_function_position (stream, handled_at, record_time, sequence_number)
        VALUES (%s, NOW(6), %s, %s)
        ON DUPLICATE KEY UPDATE
            handled_at      = VALUES(handled_at),
            record_time     = GREATEST(record_time, VALUES(record_time)),
            sequence_number = IF(CAST(VALUES(sequence_number) AS DECIMAL(40, 0))
                                   > CAST(sequence_number AS DECIMAL(40, 0)), VALUES(sequence_number), sequence_number),
            paused_at       = NULL
        """,
        (stream_arn, naive(max(change.created_at for change in changes)), str(highest)),
    )
    return touched == 1  # an inserted row counts as 1, a changed one as 2


def behind_stream(connection: Connection, stream_arn: str, mapped: Iterable[str] = ()) -> list[str]:
    """The projections that last followed an earlier stream than this one.

    `mapped`: streams that the function was mapped to, whether or not it wrote that it followed them.
    """
    return _behind(_followed(connection, [*handled_streams(connection), *mapped]), stream_arn)


def was_each_filled(connection: Connection) -> bool:
    """Whether each registered projection was begun to be filled, from a stream or by a rebuild, and there is one.

    Raises ReadModelMissing.
    """
    followed = _followed(connection, handled_streams(connection))
    return bool(followed) and all(followed.values())


def _behind(followed: Mapping[str, set[str]], stream_arn: str) -> list[str]:
    label = stream_label_micros(stream_arn)
    return [name for name, streams in followed.items() if streams and max(map(stream_label_micros, streams)) < label]


def _followed(connection: Connection, by_function: Iterable[str]) -> dict[str, set[str]]:
    """The streams that each registered projection followed: by the function, a projector, or its last rebuild."""
    rows = connection.query(
        """
        SELECT name, stream FROM cqrs_projection LEFT JOIN cqrs_checkpoint ON projection = name
        UNION
        SELECT name, stream FROM cqrs_projection
        JOIN cqrs_rebuild ON projection = name AND version = active_version AND state = 'done'
        WHERE version > former_version -- an undo leads back to a table from before
        """
    )
    followed: dict[str, set[str]] = {}
    for row in rows:
        streams = followed.setdefault(row["name"], {*by_function})
        if row["stream"] is not None:
            streams.add(row["stream"])
    return followed


def mark(connection: Connection, stream_arn: str, reason: Reason, projections: Collection[str]) -> bool:
    """Mark a gap of registered projections for good, in the running transaction; whether there was one to mark.

    Their active tables lack the changes. A table that a rebuild is filling does not: the rebuild's own projector reads
    the stream, and finds a gap of its own if it has one. A loss takes the place of items that were never loaded: a
    rebuild that was begun before it lacks the changes, too.
    """
    for name in sorted(projections):
        connection.execute(
            """
            INSERT INTO cqrs_function_gap (projection, stream, reason, version, marked_at)
            SELECT name, %s, %s, active_version, NOW(6) FROM cqrs_projection WHERE name = %s
            ON DUPLICATE KEY UPDATE
                marked_at = IF(VALUES(version) > cqrs_function_gap.version OR cqrs_function_gap.reason = 'never_loaded',
                               VALUES(marked_at), cqrs_function_gap.marked_at),
                reason    = IF(VALUES(version) > cqrs_function_gap.version OR cqrs_function_gap.reason = 'never_loaded',
                               VALUES(reason), cqrs_function_gap.reason),
                version   = GREATEST(cqrs_function_gap.version, VALUES(version))
            """,
            (stream_arn, reason.value, name),
        )
    return bool(projections)


def gaps(connection: Connection, projections: Collection[str] | None = None) -> list[Gap]:
    """The gaps of projections, or of all registered ones: those whose active table lacks changes now."""
    try:
        rows = connection.query(
            """
            SELECT projection, stream, reason, marked_at, building_version IS NOT NULL AS rebuilding
            FROM cqrs_function_gap
            JOIN cqrs_projection ON name = projection
            WHERE active_version <= version
            ORDER BY projection, marked_at
            """
        )
    except ReadModelMissing:
        return []  # nobody has marked a gap with this release: the table is not there yet
    return [
        Gap(row["projection"], row["stream"], Reason(row["reason"]), _utc(row["marked_at"]), bool(row["rebuilding"]))
        for row in rows
        if projections is None or row["projection"] in projections
    ]


def error(found: Iterable[Gap | tuple[str, Reason]]) -> StreamGap:
    """The error that names every gap; one that is not marked yet by projection and reason."""
    gaps = [(each.projection, each.reason) if isinstance(each, Gap) else each for each in found]
    return StreamGap("; ".join(_sentence(*gap) for gap in gaps) + ".", followers=frozenset(name for name, _ in gaps))


def require_whole(found: Sequence[Gap]) -> None:
    """Raises StreamGap if there is a gap."""
    if found:
        raise error(found)


def without_projector(connection: Connection, stream_arn: str, limit: timedelta) -> list[str]:
    """The registered projections of which no projector has read all of the stream that is older than `limit`.

    A projector that works writes down at least every hour how far it read an idle shard. One that stopped again and
    again at the same record came no further, however lately it tried.
    """
    rows = connection.query(
        """
        SELECT name, shard, parent, state,
            COALESCE(read_through, record_time, updated_at) < NOW(6) - INTERVAL %s SECOND AS is_old
        FROM cqrs_projection LEFT JOIN cqrs_checkpoint ON projection = name AND stream = %s
        ORDER BY name
        """,
        (limit.total_seconds(), stream_arn),
    )
    parents = {(row["name"], row["parent"]) for row in rows}
    unread = [
        row for row in rows if row["state"] != ShardState.FINISHED.value or (row["name"], row["shard"]) not in parents
    ]
    return sorted({row["name"] for row in unread if row["is_old"] is None or row["is_old"]})


def is_unfilled(connection: Connection, projection: str) -> bool:
    """Whether neither a projector nor the function ever began to fill a registered projection."""
    return bool(
        connection.query(
            """
            SELECT name FROM cqrs_projection
            LEFT JOIN cqrs_checkpoint ON projection = name
            WHERE name = %s AND projection IS NULL
              AND NOT EXISTS (SELECT stream FROM cqrs_function_position WHERE handled_at >= created_at)
            """,
            (projection,),
        )
    )


def left_to_function(connection: Connection, stream_arn: str, projections: Collection[str]) -> list[str]:
    """Which projections a projector would take over from the function.

    All that are registered, if the function was the last to write the heartbeat. Else those of `projections` without
    checkpoints in the stream, if the function handled anything since they were registered.
    """
    if heartbeat.by_function(connection):
        return [row["name"] for row in connection.query("SELECT name FROM cqrs_projection ORDER BY name")]
    if not handled_streams(connection):
        return []
    rows = connection.query(
        """
        SELECT name FROM cqrs_projection
        LEFT JOIN cqrs_checkpoint ON projection = name AND stream = %s
        WHERE projection IS NULL AND created_at <= (SELECT MAX(handled_at) FROM cqrs_function_position)
        ORDER BY name
        """,
        (stream_arn,),
    )
    return [row["name"] for row in rows if row["name"] in projections]


def standstill(connection: Connection, stream_arn: str, until: datetime | None = None) -> timedelta | None:
    """For how long the function has handled nothing of a stream, or had at `until`; by the database's clock.

    It counts from the newest change handled, if that is earlier: what was unread then is hardly older. A function from
    an earlier release wrote a heartbeat only. None if the function never handled anything of this stream.
    """
    streams = handled_streams(connection)
    if not streams:
        last = heartbeat.last(connection)
        if last is None or not last.by_function:
            return None
        (row,) = connection.query(
            "SELECT TIMESTAMPDIFF(SECOND, %s, COALESCE(%s, NOW(6))) AS seconds", (naive(last.at), naive(until))
        )
        return timedelta(seconds=row["seconds"])
    if stream_arn not in streams:
        return None
    (row,) = connection.query(
        "SELECT TIMESTAMPDIFF(SECOND, LEAST(handled_at, record_time), COALESCE(%s, NOW(6))) AS seconds"
        " FROM cqrs_function_position WHERE stream = %s",
        (naive(until), stream_arn),
    )
    return timedelta(seconds=row["seconds"])


def remember_pause(connection: Connection, stream_arn: str, since: datetime) -> None:
    """Put into the running transaction since when the function is paused: changing its mapping hides that from AWS.

    Kept until the function handles something again, or the pause is forgotten. An earlier time stays.
    """
    connection.execute(
        "UPDATE cqrs_function_position SET paused_at = LEAST(COALESCE(paused_at, %s), %s) WHERE stream = %s",
        (naive(since), naive(since), stream_arn),
    )


def forget_pause(connection: Connection, stream_arn: str) -> datetime | None:
    """Forget a remembered pause, in the running transaction; since when it lasted."""
    rows = connection.query("SELECT paused_at FROM cqrs_function_position WHERE stream = %s", (stream_arn,))
    connection.execute("UPDATE cqrs_function_position SET paused_at = NULL WHERE stream = %s", (stream_arn,))
    return aware(rows[0]["paused_at"]) if rows else None


def newest(connection: Connection, stream_arn: str) -> SequenceNumber | None:
    """The highest sequence number that the function handled of a stream; None if there is none."""
    try:
        rows = connection.query("SELECT sequence_number FROM cqrs_function_position WHERE stream = %s", (stream_arn,))
    except ReadModelMissing:
        return None  # as in `handled_streams`
    return SequenceNumber(rows[0]["sequence_number"]) if rows else None


def handled_streams(connection: Connection) -> list[str]:
    """The streams that the function handled changes of."""
    try:
        rows = connection.query("SELECT stream FROM cqrs_function_position ORDER BY stream")
    except ReadModelMissing:
        return []  # no function of this release has run yet: the table is not there
    return [row["stream"] for row in rows]


def _sentence(projection: str, reason: Reason) -> str:
    return f"Projection {projection} lacks changes: {_REASONS[reason]}"


def _utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC)
