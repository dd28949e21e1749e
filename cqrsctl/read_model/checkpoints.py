"""The checkpoints: how far each projection has read each shard of a stream."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from cqrsctl.change import Position, SequenceNumber, ShardState
from cqrsctl.errors import ConfigurationError, StreamGap

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cqrsctl.projection.definition import Projection
    from cqrsctl.read_model.connection import Connection

_COLUMNS = (
    "projection",
    "stream",
    "shard",
    "parent",
    "sequence_number",
    "state",
    "record_time",
    "read_since",
    "updated_at",
)
_KEEP_FINISHED_DAYS = 7
"""DynamoDB lists a closed shard for about a day; after that its finished checkpoint has no more use."""


def read(connection: Connection, projections: Sequence[Projection], stream_arn: str) -> dict[str, Position]:
    """The stream's checkpoints; where projections differ, the position of the one furthest behind.

    What the others have already is refused by their guard. Raises StreamGap where a projection has checkpoints of
    another stream only: what happened between the two streams was recorded nowhere; and ConfigurationError where one
    has none at all while others have.
    """
    names = [projection.name for projection in projections]
    marks = ", ".join(["%s"] * len(names))
    rows = connection.query(
        f"SELECT projection, stream, shard, parent, sequence_number, state, record_time, read_since"
        f" FROM cqrs_checkpoint WHERE projection IN ({marks})",
        names,
    )
    connection.commit()
    here = [row for row in rows if row["stream"] == stream_arn]
    for name in sorted({row["projection"] for row in rows} - {row["projection"] for row in here}):
        before = next(row["stream"] for row in rows if row["projection"] == name)
        raise StreamGap(
            f"Projection {name} was fed by another stream, {before}, and never by {stream_arn}: the table was made "
            "anew, or its stream switched off and on. What changed in between was recorded nowhere."
        )
    new = set(names) - {row["projection"] for row in here}
    if here and new:
        name = min(new)
        raise ConfigurationError(
            f"Projection {name} is new to this stream, which others follow already.",
            hint=f"Bring it up first: cqrsctl rebuild --projection {name}",
            code="projection_new",
        )
    positions: dict[str, list[Position]] = {}
    for row in here:
        positions.setdefault(row["shard"], []).append(_position(row))
    return {shard: min(found, key=_progress) for shard, found in positions.items()}


def write(
    connection: Connection, projections: Sequence[Projection], stream_arn: str, positions: Iterable[Position]
) -> None:
    """Put the shards' positions, for each projection, into the running transaction."""
    rows = [
        (
            projection.name,
            stream_arn,
            position.shard_id,
            position.parent_id,
            None if position.sequence_number is None else str(position.sequence_number),
            position.state.value,
            naive(position.record_time),
            naive(position.since),
        )
        for position in positions
        for projection in projections
    ]
    if not rows:
        return
    values = ", ".join(["(%s, %s, %s, %s, %s, %s, %s, %s, NOW(6))"] * len(rows))
    connection.execute(
        f"""
        INSERT INTO cqrs_checkpoint
            (projection, stream, shard, parent, sequence_number, state, record_time, read_since, updated_at)
        VALUES {values}
        ON DUPLICATE KEY UPDATE
            sequence_number = VALUES(sequence_number),
            state           = IF(state = 'gap', state, VALUES(state)),
            record_time     = VALUES(record_time),
            updated_at      = VALUES(updated_at)
        """,
        [cell for row in rows for cell in row],
    )


def forget_finished(connection: Connection, stream_arn: str) -> None:
    """Remove finished checkpoints that are too old to matter."""
    connection.execute(
        "DELETE FROM cqrs_checkpoint"
        " WHERE stream = %s AND state = 'finished' AND updated_at < NOW(6) - INTERVAL %s DAY",
        (stream_arn, _KEEP_FINISHED_DAYS),
    )
    connection.commit()


def forget(connection: Connection, stream_arn: str) -> None:
    """Remove a stream's checkpoints but for its gaps, within the running transaction."""
    connection.execute("DELETE FROM cqrs_checkpoint WHERE stream = %s AND state <> 'gap'", (stream_arn,))


def kept(connection: Connection, projection: str) -> str:
    """A projection's checkpoints as text, to be put back later."""
    rows = connection.query(
        f"SELECT {', '.join(_COLUMNS)} FROM cqrs_checkpoint WHERE projection = %s ORDER BY stream, shard", (projection,)
    )
    return json.dumps(rows, default=datetime.isoformat)


def put_back(connection: Connection, projection: str, text: str) -> None:
    """Replace a projection's checkpoints by kept ones, within the running transaction."""
    connection.execute("DELETE FROM cqrs_checkpoint WHERE projection = %s", (projection,))
    for row in json.loads(text):
        connection.execute(
            f"INSERT INTO cqrs_checkpoint ({', '.join(_COLUMNS)}) VALUES ({', '.join(['%s'] * len(_COLUMNS))})",
            [row[column] for column in _COLUMNS],
        )


def has_any(connection: Connection, projection: str, stream_arn: str) -> bool:
    """Whether a projection's place in a stream is known."""
    return bool(
        connection.query(
            "SELECT 1 FROM cqrs_checkpoint WHERE projection = %s AND stream = %s LIMIT 1", (projection, stream_arn)
        )
    )


def are_lost(connection: Connection, projection: str, stream_arn: str) -> bool:
    """Whether a projection cannot go on from its checkpoints: one is a gap, or they are all of another stream."""
    rows = connection.query("SELECT stream, state FROM cqrs_checkpoint WHERE projection = %s", (projection,))
    here = [row["state"] for row in rows if row["stream"] == stream_arn]
    return bool(rows) and (not here or ShardState.GAP.value in here)


def listing(connection: Connection) -> list[dict[str, Any]]:
    """All checkpoints, as `read-model status` shows them."""
    rows = connection.query(
        "SELECT projection, stream, shard, state, sequence_number, record_time, updated_at"
        " FROM cqrs_checkpoint ORDER BY projection, stream, shard"
    )
    for row in rows:
        for name in ("record_time", "updated_at"):
            row[name] = aware(row[name])
    return rows


def naive(moment: datetime | None) -> datetime | None:
    """A time for a DATETIME column: UTC without saying so."""
    return None if moment is None else moment.astimezone(UTC).replace(tzinfo=None)


def aware(moment: datetime | None) -> datetime | None:
    """A time from a DATETIME column."""
    return None if moment is None else moment.replace(tzinfo=UTC)


def _position(row: dict[str, Any]) -> Position:
    number = row["sequence_number"]
    return Position(
        shard_id=row["shard"],
        parent_id=row["parent"],
        sequence_number=None if number is None else SequenceNumber(number),
        state=ShardState(row["state"]),
        record_time=aware(row["record_time"]),
        since=aware(row["read_since"]),
    )


def _progress(position: Position) -> tuple[bool, bool, int]:
    """Orders positions of a shard: a gap first, then by how far it was read."""
    return (
        position.state is not ShardState.GAP,
        position.state is ShardState.FINISHED,
        -1 if position.sequence_number is None else position.sequence_number,
    )
