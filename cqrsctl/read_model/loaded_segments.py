"""How far each segment of a rebuild's scan is loaded."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cqrsctl.codec import decode_item, encode_item

if TYPE_CHECKING:
    from cqrsctl.change import Item
    from cqrsctl.read_model.connection import Connection


@dataclass(frozen=True, slots=True)
class Segment:
    """How far a segment of the scan is loaded: up to and with a key of the table."""

    number: int
    last_key: Item | None
    finished: bool
    items: int


def make(connection: Connection, name: str, count: int) -> None:
    """Put segments of which nothing is loaded into the running transaction, in place of earlier ones."""
    forget(connection, name)
    for number in range(count):
        connection.execute("INSERT INTO cqrs_rebuild_segment VALUES (%s, %s, NULL, FALSE, 0)", (name, number))


def forget(connection: Connection, name: str) -> None:
    """Remove a projection's segments, within the running transaction."""
    connection.execute("DELETE FROM cqrs_rebuild_segment WHERE projection = %s", (name,))


def read(connection: Connection, name: str) -> list[Segment]:
    """How far each segment of the scan is loaded."""
    rows = connection.query("SELECT * FROM cqrs_rebuild_segment WHERE projection = %s ORDER BY segment", (name,))
    connection.commit()
    return [
        Segment(
            number=row["segment"],
            last_key=decode_item(json.loads(row["last_key"])) if row["last_key"] else None,
            finished=bool(row["finished"]),
            items=row["items"],
        )
        for row in rows
    ]


def items(connection: Connection, name: str) -> int:
    """How many items of the scan are loaded."""
    return sum(segment.items for segment in read(connection, name))


def write(connection: Connection, name: str, segment: Segment) -> None:
    """Put how far a segment is into the running transaction."""
    connection.execute(
        "UPDATE cqrs_rebuild_segment SET last_key = %s, finished = %s, items = %s"
        " WHERE projection = %s AND segment = %s",
        (
            None if segment.last_key is None else json.dumps(encode_item(segment.last_key)),
            segment.finished,
            segment.items,
            name,
            segment.number,
        ),
    )
