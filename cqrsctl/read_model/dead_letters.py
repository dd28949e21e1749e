"""Dead letters: changes that a projection could not take, kept whole until someone retries or discards them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from cqrsctl.codec import from_json, to_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cqrsctl.change import ChangeRecord
    from cqrsctl.projection.batch import DeadLetter
    from cqrsctl.read_model.connection import Connection

_LETTERS_A_QUERY = 50
_STATEMENT_CHARACTERS = 1_000_000
"""A letter may be as large as two items of 400 KB, and SQL makes two or more characters of one; MariaDB takes
statements of 16 MB."""
_ERROR_CHARACTERS = 2_000


@dataclass(frozen=True, slots=True)
class KeptLetter:
    """A dead letter in the database. `attempts` counts how often it was tried, the first time included."""

    number: int
    projection: str
    shard_id: str
    change: ChangeRecord
    error: str
    first_seen: datetime
    attempts: int


def write(connection: Connection, letters: Sequence[DeadLetter]) -> None:
    """Put letters into the running transaction. One that is there already is kept, with its number."""
    chunk: list[tuple[str, ...]] = []
    size = 0
    for letter in letters:
        cells = _cells(letter)
        if chunk and size + len(cells[4]) > _STATEMENT_CHARACTERS:
            _insert(connection, chunk)
            chunk, size = [], 0
        chunk.append(cells)
        size += len(cells[4])
    if chunk:
        _insert(connection, chunk)


def listing(connection: Connection) -> Iterator[KeptLetter]:
    """All letters, the oldest first."""
    after = 0
    while rows := connection.query(
        "SELECT * FROM cqrs_dead_letter WHERE id > %s ORDER BY id LIMIT %s", (after, _LETTERS_A_QUERY)
    ):
        yield from map(_kept, rows)
        after = rows[-1]["id"]


def find(connection: Connection, number: int, *, for_update: bool = False) -> KeptLetter | None:
    """One letter, or None; locked until the transaction ends where it is to be changed."""
    lock = " FOR UPDATE" if for_update else ""
    rows = connection.query(f"SELECT * FROM cqrs_dead_letter WHERE id = %s{lock}", (number,))
    return _kept(rows[0]) if rows else None


def numbers(connection: Connection) -> list[int]:
    """The numbers of all letters, the oldest first."""
    return [row["id"] for row in connection.query("SELECT id FROM cqrs_dead_letter ORDER BY id")]


def count(connection: Connection, projection: str, since: datetime | None = None) -> int:
    """How many letters a projection has; with `since`, a time of the database, those first seen from then on."""
    found = connection.query(
        "SELECT COUNT(*) AS n FROM cqrs_dead_letter WHERE projection = %s AND first_seen >= COALESCE(%s, first_seen)",
        (projection, since),
    )
    return int(found[0]["n"])


def failed_again(connection: Connection, number: int, error: str) -> None:
    """Remember one more attempt and why it failed."""
    connection.execute(
        "UPDATE cqrs_dead_letter SET attempts = attempts + 1, error = %s WHERE id = %s",
        (error[:_ERROR_CHARACTERS], number),
    )


def remove(connection: Connection, number: int) -> bool:
    """Remove a letter; False where there is none of that number."""
    return connection.execute("DELETE FROM cqrs_dead_letter WHERE id = %s", (number,)) > 0


def _cells(letter: DeadLetter) -> tuple[str, ...]:
    return (
        letter.projection,
        letter.change.stream_arn,
        letter.shard_id,
        str(letter.change.sequence_number),
        json.dumps(to_json(letter.change, letter.shard_id), default=datetime.isoformat, ensure_ascii=False),
        letter.error[:_ERROR_CHARACTERS],
    )


def _insert(connection: Connection, letters: Sequence[tuple[str, ...]]) -> None:
    connection.execute(
        f"""
        INSERT INTO cqrs_dead_letter (projection, stream, shard, sequence_number, record, error, first_seen, attempts)
        VALUES {", ".join(["(%s, %s, %s, %s, %s, %s, NOW(6), 1)"] * len(letters))}
        ON DUPLICATE KEY UPDATE error = VALUES(error)
        """,
        [cell for letter in letters for cell in letter],
    )


def _kept(row: dict[str, Any]) -> KeptLetter:
    return KeptLetter(
        number=row["id"],
        projection=row["projection"],
        shard_id=row["shard"],
        change=from_json(json.loads(row["record"])),
        error=row["error"],
        first_seen=row["first_seen"].replace(tzinfo=UTC),
        attempts=row["attempts"],
    )
