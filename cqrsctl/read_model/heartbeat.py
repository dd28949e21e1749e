"""The heartbeat: one row, written by whoever projects; read on a reader, it shows how stale that reader is at most.

Who only wants to know that renews it, and leaves alone who projected last, and when.
"""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING, NamedTuple

from cqrsctl.errors import DatabaseError, TransactionConflict
from cqrsctl.read_model.connection import ReadModelMissing

if TYPE_CHECKING:
    from datetime import datetime

    from cqrsctl.read_model.connection import Connection


FUNCTION = "Lambda function"
"""So begins the holder that the projector function writes."""


class LastProjected(NamedTuple):
    """Who was the last to project, and when, by the server's clock."""

    holder: str
    at: datetime

    @property
    def by_function(self) -> bool:
        """Whether it was the projector function."""
        return self.holder.startswith(FUNCTION)


def write(connection: Connection, holder: str) -> None:
    """Put the heartbeat into the running transaction."""
    connection.execute(
        """
        INSERT INTO cqrs_heartbeat (id, beat_at, holder, projected_at) VALUES (1, NOW(6), %s, NOW(6))
        ON DUPLICATE KEY UPDATE
            beat_at = VALUES(beat_at), holder = VALUES(holder), projected_at = VALUES(projected_at)
        """,
        (holder,),
    )


def last(connection: Connection) -> LastProjected | None:
    """Who was the last to project; None if nobody ever did."""
    rows = connection.query(
        "SELECT holder, COALESCE(projected_at, beat_at) AS projected_at FROM cqrs_heartbeat WHERE id = 1"
    )
    return LastProjected(rows[0]["holder"], rows[0]["projected_at"].replace(tzinfo=UTC)) if rows else None


def by_function(connection: Connection) -> bool:
    """Whether the projector function was the last to project."""
    found = last(connection)
    return found is not None and found.by_function


def age_seconds(connection: Connection) -> float | None:
    """How old the last heartbeat is that this server has, by its own clock; None if there never was one.

    All that was committed before that heartbeat is on this server.
    """
    try:
        rows = connection.query(
            "SELECT TIMESTAMPDIFF(MICROSECOND, beat_at, NOW(6)) AS age FROM cqrs_heartbeat WHERE id = 1"
        )
    except ReadModelMissing:
        return None
    finally:
        connection.rollback()
    return max(0.0, rows[0]["age"] / 1_000_000) if rows else None


def renew(writer: Connection) -> bool:
    """Beat without being a projector; False if the row is not there, just in use, or not this user's to write."""
    try:
        # NOWAIT: a projector holds the row until its transaction ends, and then the heartbeat is new anyway.
        if not writer.query("SELECT id FROM cqrs_heartbeat WHERE id = 1 FOR UPDATE NOWAIT"):
            return False
        writer.execute("UPDATE cqrs_heartbeat SET beat_at = NOW(6) WHERE id = 1")
        writer.commit()
    except TransactionConflict:
        return False
    except DatabaseError as error:
        if error.code != "database_permission":
            raise
        return False
    finally:
        writer.rollback()
    return True
