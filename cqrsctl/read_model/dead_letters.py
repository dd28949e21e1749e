"""Dead letters: changes that a projection could not take, kept whole until someone retries or discards them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from cqrsctl.codec import encode_item, from_json, to_json
from cqrsctl.read_model.packets import most_characters

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cqrsctl.change import ChangeRecord, Item
    from cqrsctl.projection.batch import DeadLetter
    from cqrsctl.read_model.connection import Connection

_LETTERS_A_QUERY = 50
_ERROR_CHARACTERS = 2_000
_KEEP_SETTLED_DAYS = 8
_LETTERS_A_LOOK = 200


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


class Settled(StrEnum):
    """What became of a letter that is none any more."""

    RETRIED = "retried"
    DISCARDED = "discarded"


def write(connection: Connection, letters: Sequence[DeadLetter]) -> None:
    """Put letters into the running transaction. One that is there already is kept, with its number.

    A letter is known by its projection, stream, sequence number and item: who writes it may not know the shard. One
    that was discarded stays so; one that was retried, and is refused again, is a letter again: a table lacks it.
    """
    chunk: list[tuple[str, ...]] = []
    size = 0
    most = most_characters(connection) if letters else 0
    for letter in _unknown(connection, letters):
        cells = _cells(letter)
        if chunk and size + len(cells[4]) > most:
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
        "SELECT * FROM cqrs_dead_letter WHERE id > %s AND settled IS NULL ORDER BY id LIMIT %s",
        (after, _LETTERS_A_QUERY),
    ):
        yield from map(_kept, rows)
        after = rows[-1]["id"]


def find(connection: Connection, number: int, *, for_update: bool = False) -> KeptLetter | None:
    """One letter, or None; locked until the transaction ends if it is to be changed."""
    lock = " FOR UPDATE" if for_update else ""
    rows = connection.query(f"SELECT * FROM cqrs_dead_letter WHERE id = %s AND settled IS NULL{lock}", (number,))
    return _kept(rows[0]) if rows else None


def numbers(connection: Connection) -> list[int]:
    """The numbers of all letters, the oldest first."""
    return [row["id"] for row in connection.query("SELECT id FROM cqrs_dead_letter WHERE settled IS NULL ORDER BY id")]


def count(connection: Connection, projection: str, since: datetime | None = None) -> int:
    """How many letters a projection has; with `since`, a time of the database, those first seen from then on."""
    found = connection.query(
        "SELECT COUNT(*) AS n FROM cqrs_dead_letter"
        " WHERE projection = %s AND first_seen >= COALESCE(%s, first_seen) AND settled IS NULL",
        (projection, since),
    )
    return int(found[0]["n"])


def failed_again(connection: Connection, number: int, error: str) -> None:
    """Remember one more attempt and why it failed."""
    connection.execute(
        "UPDATE cqrs_dead_letter SET attempts = attempts + 1, error = %s WHERE id = %s",
        (error[:_ERROR_CHARACTERS], number),
    )


def settle(connection: Connection, number: int, how: Settled) -> bool:
    """End a letter within the running transaction; False if there is none of that number."""
    sql = "UPDATE cqrs_dead_letter SET settled = %s, settled_at = NOW(6) WHERE id = %s AND settled IS NULL"
    return connection.execute(sql, (how.value, number)) > 0


def unsettle(connection: Connection, projection: str, since: datetime | None) -> None:
    """Make letters again of those retried since a time of the database: a table from before lacks their changes."""
    connection.execute(
        "UPDATE cqrs_dead_letter SET settled = NULL, settled_at = NULL"
        " WHERE projection = %s AND settled = %s AND settled_at >= COALESCE(%s, settled_at)",
        (projection, Settled.RETRIED.value, since),
    )


def forget_settled(connection: Connection) -> None:
    """Remove letters that were settled so long ago that nothing can bring their changes again."""
    connection.execute(
        "DELETE FROM cqrs_dead_letter WHERE settled_at < NOW(6) - INTERVAL %s DAY", (_KEEP_SETTLED_DAYS,)
    )


def _unknown(connection: Connection, letters: Sequence[DeadLetter]) -> Iterator[DeadLetter]:
    """The letters that are not there yet; of those that are, what was retried is a letter again."""
    for begin in range(0, len(letters), _LETTERS_A_LOOK):
        some = letters[begin : begin + _LETTERS_A_LOOK]
        known = _known(connection, some)
        for letter in some:
            found = known.get(_identity(letter))
            if found is None:
                yield letter
            elif found["settled"] != Settled.DISCARDED:
                connection.execute(
                    "UPDATE cqrs_dead_letter SET settled = NULL, settled_at = NULL, error = %s WHERE id = %s",
                    (letter.error[:_ERROR_CHARACTERS], found["id"]),
                )


def _known(connection: Connection, letters: Sequence[DeadLetter]) -> dict[tuple[str, ...], dict[str, Any]]:
    """The rows there are of some letters, by their identity."""
    identities = [_identity(letter) for letter in letters]
    names, streams, numbers = (sorted({identity[place] for identity in identities}) for place in range(3))

    def marks(values: Sequence[str]) -> str:
        return ", ".join(["%s"] * len(values))

    rows = connection.query(
        f"""
        SELECT id, projection, stream, sequence_number, record, settled
        FROM cqrs_dead_letter
        WHERE projection IN ({marks(names)}) AND stream IN ({marks(streams)}) AND sequence_number IN ({marks(numbers)})
        """,
        [*names, *streams, *numbers],
    )
    return {
        (
            row["projection"],
            row["stream"],
            row["sequence_number"],
            _digest(from_json(json.loads(row["record"])).keys),
        ): row
        for row in rows
    }


def _identity(letter: DeadLetter) -> tuple[str, str, str, str]:
    """What a letter is known by: projection, stream, sequence number, and which item it is of."""
    change = letter.change
    return letter.projection, change.stream_arn, str(change.sequence_number), _digest(change.keys)


def _digest(keys: Item) -> str:
    return hashlib.sha256(json.dumps(encode_item(keys), sort_keys=True).encode()).hexdigest()[:40]


def _cells(letter: DeadLetter) -> tuple[str, ...]:
    """`shard` holds the item's digest: with the other columns of the unique key it is the letter's identity."""
    projection, stream_arn, sequence_number, item = _identity(letter)
    return (
        projection,
        stream_arn,
        item,
        sequence_number,
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
    record = json.loads(row["record"])
    return KeptLetter(
        number=row["id"],
        projection=row["projection"],
        shard_id=record.get("shard_id", ""),
        change=from_json(record),
        error=row["error"],
        first_seen=row["first_seen"].replace(tzinfo=UTC),
        attempts=row["attempts"],
    )
