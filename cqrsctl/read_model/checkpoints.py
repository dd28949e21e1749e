"""The checkpoints: how far each projection has read each shard of a stream."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from cqrsctl.change import Position, SequenceNumber, ShardState
from cqrsctl.errors import ConfigurationError, StreamGap
from cqrsctl.read_model.locks import is_rebuilt

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

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
    "read_through",
    "updated_at",
)
_KEEP_FINISHED_DAYS = 7
"""DynamoDB lists a closed shard for about a day; after that a finished checkpoint is needed only by its children."""


def read(connection: Connection, projections: Sequence[Projection], stream_arn: str) -> dict[str, dict[str, Position]]:
    """The stream's checkpoints of each projection, by its name. One that is being rebuilt for the first time has none.

    Raises StreamGap if a projection has checkpoints of another stream only: what happened between the two streams
    was recorded nowhere; and ConfigurationError if one has none at all while others have, and no process rebuilds it:
    a rebuild that was left unfinished promised only what the stream held when it began.
    """
    names = [projection.name for projection in projections]
    marks = ", ".join(["%s"] * len(names))
    rows = connection.query(
        "SELECT projection, stream, shard, parent, sequence_number, state, record_time, read_since, read_through"
        f" FROM cqrs_checkpoint WHERE projection IN ({marks})",
        names,
    )
    found: dict[str, dict[str, Position]] = {name: {} for name in names}
    for row in rows:
        if row["stream"] == stream_arn:
            found[row["projection"]][row["shard"]] = _position(row)
    before = {row["projection"]: row["stream"] for row in rows}
    for name in sorted(before):
        if not found[name]:
            raise StreamGap(
                f"Projection {name} was fed by another stream, {before[name]}, and never by {stream_arn}: the table "
                "was deleted and created again, or its stream was switched off and on. What changed in between was "
                "recorded nowhere.",
                followers=frozenset({name}),
            )
    new = {name for name in names if not found[name] and any(found.values()) and not is_rebuilt(connection, name)}
    connection.commit()
    if new:
        raise ConfigurationError(
            f"Projection {min(new)} is new to this stream, which others follow already.",
            hint=f"Bring it up first: cqrsctl rebuild --projection {min(new)}",
            code="projection_new",
        )
    return found


def write(connection: Connection, stream_arn: str, moved: Mapping[str, Sequence[Position]]) -> None:
    """Put the positions to which projections, by name, have moved into the running transaction."""
    rows = [
        (
            name,
            stream_arn,
            position.shard_id,
            position.parent_id,
            None if position.sequence_number is None else str(position.sequence_number),
            position.state.value,
            naive(position.record_time),
            naive(position.since),
            naive(position.read_through),
        )
        for name, positions in moved.items()
        for position in positions
    ]
    if not rows:
        return
    values = ", ".join(["(%s, %s, %s, %s, %s, %s, %s, %s, %s, NOW(6))"] * len(rows))
    connection.execute(
        f"""
        INSERT INTO cqrs_checkpoint
            (projection, stream, shard, parent, sequence_number, state, record_time, read_since, read_through,
             updated_at)
        VALUES {values}
        ON DUPLICATE KEY UPDATE
            sequence_number = VALUES(sequence_number),
            state           = IF(state = 'gap', state, VALUES(state)),
            record_time     = VALUES(record_time),
            read_through    = VALUES(read_through),
            updated_at      = VALUES(updated_at)
        """,
        [cell for row in rows for cell in row],
    )


def end_gap(connection: Connection, projection: str, stream_arn: str, shard_id: str) -> None:
    """Take the mark of a gap off a checkpoint, within the running transaction; a position is written after that."""
    connection.execute(
        "DELETE FROM cqrs_checkpoint WHERE projection = %s AND stream = %s AND shard = %s AND state = 'gap'",
        (projection, stream_arn, shard_id),
    )


def forget_finished(connection: Connection, stream_arn: str) -> None:
    """Remove finished checkpoints that are too old to matter.

    One without a child stays: it says that the children, once they are listed, are to be read from their start.
    """
    connection.execute(
        """
        DELETE FROM cqrs_checkpoint
        WHERE stream = %s AND state = 'finished' AND updated_at < NOW(6) - INTERVAL %s DAY
          AND shard IN (
              SELECT parent
              FROM (SELECT DISTINCT projection, parent FROM cqrs_checkpoint WHERE stream = %s) AS child
              WHERE child.projection = cqrs_checkpoint.projection
          )
        """,
        (stream_arn, _KEEP_FINISHED_DAYS, stream_arn),
    )
    connection.commit()


def forget(connection: Connection, stream_arn: str, projections: Collection[str]) -> None:
    """Remove the checkpoints of projections in a stream but for gaps, within the running transaction."""
    marks = ", ".join(["%s"] * len(projections))
    connection.execute(
        f"DELETE FROM cqrs_checkpoint WHERE stream = %s AND state <> 'gap' AND projection IN ({marks})",
        (stream_arn, *projections),
    )


def serialised(connection: Connection, projection: str) -> str:
    """A projection's checkpoints as text, to be put back later."""
    rows = connection.query(
        f"SELECT {', '.join(_COLUMNS)} FROM cqrs_checkpoint WHERE projection = %s ORDER BY stream, shard", (projection,)
    )
    return json.dumps(rows, default=datetime.isoformat)


def restore(connection: Connection, projection: str, text: str) -> None:
    """Replace a projection's checkpoints by serialised ones, within the running transaction."""
    connection.execute("DELETE FROM cqrs_checkpoint WHERE projection = %s", (projection,))
    for row in json.loads(text):
        connection.execute(
            f"INSERT INTO cqrs_checkpoint ({', '.join(_COLUMNS)}) VALUES ({', '.join(['%s'] * len(_COLUMNS))})",
            [row.get(column) for column in _COLUMNS],
        )


def has_any(connection: Connection, projection: str, stream_arn: str) -> bool:
    """Whether a projection's place in a stream is known."""
    return bool(
        connection.query(
            "SELECT 1 FROM cqrs_checkpoint WHERE projection = %s AND stream = %s LIMIT 1", (projection, stream_arn)
        )
    )


def are_lost(connection: Connection, projection: str, stream_arn: str) -> bool:
    """Whether a projection cannot resume from its checkpoints: one is a gap, or they are all of another stream."""
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
    record_time = aware(row["record_time"])
    return Position(
        shard_id=row["shard"],
        parent_id=row["parent"],
        sequence_number=None if number is None else SequenceNumber(number),
        state=ShardState(row["state"]),
        record_time=record_time,
        since=aware(row["read_since"]),
        read_through=aware(row["read_through"]) or record_time,  # earlier releases did not write it
    )
