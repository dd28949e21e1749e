"""The advisory locks of the read model: whoever projects or rebuilds a projection has one. They go with the connection.

A proxy may have put another server behind a connection since a lock was taken, so it is asked for at each commit.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from cqrsctl.errors import TransientDatabaseError
from cqrsctl.read_model.connection import ReadModelMissing

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from cqrsctl.read_model.connection import Connection


def of_projector(database: str, projection: str) -> str:
    """The name of the lock of whoever projects: at most 64 characters, and unique on the server."""
    digest = hashlib.sha256(f"{database}/{projection}".encode()).hexdigest()
    return f"cqrsctl/{digest[:40]}"


def of_rebuild(database: str, projection: str) -> str:
    """The name of the lock of whoever rebuilds."""
    return of_projector(database, f"{projection}/rebuild")


def take(connection: Connection, lock: str) -> bool:
    """Take a lock for as long as the connection lives; False if another connection has it."""
    return bool(connection.query("SELECT GET_LOCK(%s, 0) AS got", (lock,))[0]["got"])


def release(connection: Connection, lock: str) -> None:
    """Give a lock back before the connection ends."""
    connection.query("SELECT RELEASE_LOCK(%s)", (lock,))


def require(connection: Connection, needed: Mapping[str, str]) -> None:
    """Raises TransientDatabaseError if a lock is no longer this connection's. `needed`: whose each is, by its name.

    One query asks for all, as there is one with every commit.
    """
    asked = ", ".join(f"IS_USED_LOCK(%s) = CONNECTION_ID() AS held_{number}" for number in range(len(needed)))
    (row,) = connection.query(f"SELECT {asked}", tuple(needed))
    for whose, held in zip(needed.values(), row.values(), strict=True):
        if held != 1:
            raise TransientDatabaseError(f"The lock of {whose} was lost.", code="lock_lost")


def sign(connection: Connection, projections: Collection[str], holder: str) -> None:
    """Write and commit who projects from now on. The caller has the projectors' locks."""
    rows = [value for projection in projections for value in (projection, holder)]
    connection.execute(f"REPLACE INTO cqrs_holder VALUES {', '.join(['(%s, %s)'] * len(projections))}", rows)
    connection.commit()


def holder(connection: Connection, projection: str) -> str:
    """Who last began to project a projection: whoever holds it, if it is held."""
    try:
        rows = connection.query("SELECT holder FROM cqrs_holder WHERE projection = %s", (projection,))
    except ReadModelMissing:
        return "unknown"  # it is a projector of an earlier release, which did not make the table
    return rows[0]["holder"] if rows else "unknown"


def is_held(connection: Connection, lock: str) -> bool:
    """Whether any connection has a lock."""
    return connection.query("SELECT IS_USED_LOCK(%s) AS holder", (lock,))[0]["holder"] is not None


def is_rebuilt(connection: Connection, projection: str) -> bool:
    """Whether a process is at the rebuild of a projection, as opposed to one that was left unfinished."""
    return is_held(connection, of_rebuild(database(connection), projection))


def database(connection: Connection) -> str:
    """The database that a connection is in."""
    name: str = connection.query("SELECT DATABASE() AS name")[0]["name"]
    return name
