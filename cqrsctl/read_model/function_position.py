"""What the projector function handled of each stream, and its gaps: projections that lack changes it never got.

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

from cqrsctl.change import stream_label_micros
from cqrsctl.errors import StreamGap
from cqrsctl.read_model import heartbeat
from cqrsctl.read_model.checkpoints import aware, naive
from cqrsctl.read_model.connection import ReadModelMissing

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from typing import Any

    from cqrsctl.change import ChangeRecord
    from cqrsctl.read_model.connection import Connection

RETENTION = timedelta(hours=24)
"""How long a stream keeps a change."""
STANDSTILL_LIMIT = RETENTION - timedelta(minutes=15)
"""Two clocks, the database's and the one that gives changes their times, may each be wrong by five minutes."""


class Reason(StrEnum):
    """Why changes never reached the function."""

    STREAM_CHANGED = "stream_changed"
    PAUSED = "paused"
    STOOD_STILL = "stood_still"


_REASONS = {
    Reason.STREAM_CHANGED: "the table's stream was replaced, and changes between the two streams were recorded nowhere",
    Reason.PAUSED: "the projector function was paused until changes left the stream",
    Reason.STOOD_STILL: "the projector function stood still until changes left the stream",
}


@dataclass(frozen=True, slots=True)
class Gap:
    """A projection whose active table lacks changes of a stream. `rebuilding`: a rebuild is filling its next table."""

    projection: str
    stream_arn: str
    reason: Reason
    marked_at: datetime
    rebuilding: bool

    def __str__(self) -> str:
        return f"Projection {self.projection} lacks changes: {_REASONS[self.reason]}"


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
            before = {*_positions(connection)} - {stream_arn}
            marked |= _mark_change(connection, stream_arn, _followed(connection, before))
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


def mark_change(
    connection: Connection, stream_arn: str, *, mapped: Iterable[str] = (), among: Collection[str] | None = None
) -> bool:
    """Mark a gap for each projection that last followed an earlier stream, in the running transaction.

    `mapped`: streams that the function was mapped to, whether or not it wrote that it followed them; `among`: look at
    these projections only. Whether a projection was marked.
    """
    followed = _followed(connection, {*_positions(connection), *mapped})
    return _mark_change(
        connection, stream_arn, {name: streams for name, streams in followed.items() if among is None or name in among}
    )


def _mark_change(connection: Connection, stream_arn: str, followed: Mapping[str, set[str]]) -> bool:
    label = stream_label_micros(stream_arn)
    names = [name for name, streams in followed.items() if streams and max(map(stream_label_micros, streams)) < label]
    return mark(connection, stream_arn, Reason.STREAM_CHANGED, names)


def _followed(connection: Connection, by_function: set[str]) -> dict[str, set[str]]:
    """The streams that each registered projection followed: by the function, a projector, or its last rebuild."""
    rows = connection.query(
        """
        SELECT name, stream FROM cqrs_projection LEFT JOIN cqrs_checkpoint ON projection = name
        UNION
        SELECT name, stream FROM cqrs_projection
        JOIN cqrs_rebuild ON projection = name AND version = active_version AND state = 'done'
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
    the stream, and finds a gap of its own if it has one.
    """
    for name in sorted(projections):
        connection.execute(
            """
            INSERT INTO cqrs_function_gap (projection, stream, reason, version, marked_at)
            SELECT name, %s, %s, active_version, NOW(6) FROM cqrs_projection WHERE name = %s
            ON DUPLICATE KEY UPDATE
                reason    = IF(VALUES(version) > cqrs_function_gap.version, VALUES(reason), cqrs_function_gap.reason),
                marked_at = IF(VALUES(version) > cqrs_function_gap.version, VALUES(marked_at),
                               cqrs_function_gap.marked_at),
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


def error(found: Sequence[Gap]) -> StreamGap:
    """The error that names every gap, of which there is one at least."""
    return StreamGap("; ".join(map(str, found)) + ".")


def require_whole(found: Sequence[Gap]) -> None:
    """Raises StreamGap if there is a gap."""
    if found:
        raise error(found)


def without_projector(connection: Connection, stream_arn: str, limit: timedelta) -> list[str]:
    """The registered projections for which no projector has read the stream lately, so that only the function could.

    A projector that works moves its checkpoints every few hours even if nothing changes: shards close and are replaced.
    """
    rows = connection.query(
        """
        SELECT name FROM cqrs_projection
        LEFT JOIN cqrs_checkpoint ON projection = name AND stream = %s
        GROUP BY name
        HAVING COALESCE(MAX(updated_at) < NOW(6) - INTERVAL %s SECOND, TRUE)
        ORDER BY name
        """,
        (stream_arn, limit.total_seconds()),
    )
    return [row["name"] for row in rows]


def left_to_function(connection: Connection, stream_arn: str, projections: Collection[str]) -> list[str]:
    """Which projections a projector would take over from the function.

    Those without checkpoints in the stream, if the function handled any; and all registered ones, if the function was
    the last to write the heartbeat.
    """
    if heartbeat.by_function(connection):
        return [row["name"] for row in connection.query("SELECT name FROM cqrs_projection ORDER BY name")]
    if not _positions(connection):
        return []
    rows = connection.query("SELECT DISTINCT projection FROM cqrs_checkpoint WHERE stream = %s", (stream_arn,))
    return sorted({*projections} - {row["projection"] for row in rows})


def standstill(connection: Connection, stream_arn: str, until: datetime | None = None) -> timedelta | None:
    """For how long the function has handled nothing of a stream, or had at `until`; by the database's clock.

    It counts from the newest change handled, if that is earlier: what was unread then is hardly older. A function from
    an earlier release wrote a heartbeat only. None if the function never handled anything of this stream.
    """
    positions = _positions(connection)
    if not positions:
        if not heartbeat.by_function(connection):
            return None
        (row,) = connection.query(
            "SELECT TIMESTAMPDIFF(SECOND, beat_at, COALESCE(%s, NOW(6))) AS seconds FROM cqrs_heartbeat WHERE id = 1",
            (naive(until),),
        )
        return timedelta(seconds=row["seconds"])
    if stream_arn not in positions:
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


def _positions(connection: Connection) -> Mapping[str, Any]:
    """What the function handled, by stream."""
    try:
        rows = connection.query("SELECT stream, handled_at FROM cqrs_function_position")
    except ReadModelMissing:
        return {}  # no function of this release has run yet: the table is not there
    return {row["stream"]: row["handled_at"] for row in rows}


def _utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC)
