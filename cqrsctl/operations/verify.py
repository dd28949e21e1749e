"""Verification: is the read model what the write model says?

The table is scanned page by page, and each page compared with the same keys of the view; then the view's keys are
walked, to find rows that have no item. What differs is looked at again, with consistent reads, until it is equal
(it was in flight) or has stayed different for a while (it is drift). Memory grows with the drift, not the table.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from cqrsctl.codec import decode_item, encode_key
from cqrsctl.projection.definition import Kind, Misfit
from cqrsctl.read_model import query
from cqrsctl.read_model.connection import connect
from cqrsctl.write_model import products, table
from cqrsctl.write_model.scan import scan

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from cqrsctl.change import Item
    from cqrsctl.projection.definition import Projection
    from cqrsctl.read_model.connection import Connection
    from cqrsctl.wiring import Wiring

Key = tuple[Any, ...]
CHECKED_AT_ONCE = 100
"""Also the most keys of a BatchGetItem."""
MOST_SUSPECTS = 5_000
"""So many keys that differ are waited for together."""


class DriftKind(StrEnum):
    """How a row differs from its item."""

    MISSING = "missing"
    STALE = "stale"
    ORPHAN = "orphan"
    MISFIT = "misfit"


@dataclass(frozen=True, slots=True)
class DriftRow:
    """One difference: the key, and for a stale row the columns that differ."""

    projection: str
    kind: DriftKind
    key: Key
    columns: tuple[str, ...] = ()


@dataclass(slots=True)
class Verified:
    """What a verification counted. `in_flight` differed at first and became equal."""

    items: int = 0
    rows: int = 0
    in_flight: int = 0
    drift: list[DriftRow] = field(default_factory=list)


@dataclass(slots=True)
class Verification:
    """Compares one projection's view with the table."""

    wiring: Wiring
    projection: Projection
    sleep: Callable[[float], None]
    progress: Callable[[Verified], None]
    patience_seconds: float = 5.0
    result: Verified = field(default_factory=Verified)

    def run(self) -> Verified:
        """Compare everything. Raises AwsError, DatabaseError."""
        environment = self.wiring.environment
        table.describe(self.wiring.dynamodb, environment.table)
        suspects: list[Key] = []
        with connect(self.wiring.database) as connection:
            for items in scan(self.wiring.dynamodb, environment.table):
                suspects += self._differing(connection, items)
                self.result.items += len(items)
                self.progress(self.result)
                suspects = self._settle(connection, suspects, at_least=MOST_SUSPECTS)
            for keys in self._rows(connection):
                there = self._items(keys)
                suspects += [key for key in keys if key not in there]
                self.result.rows += len(keys)
                self.progress(self.result)
                suspects = self._settle(connection, suspects, at_least=MOST_SUSPECTS)
            self._settle(connection, suspects, at_least=1)
        return self.result

    def _rows(self, connection: Connection) -> Iterator[list[Key]]:
        after: Key | None = None
        while keys := query.keys_after(connection, self.projection, after, CHECKED_AT_ONCE):
            connection.commit()
            yield keys
            after = keys[-1]

    def _settle(self, connection: Connection, suspects: list[Key], *, at_least: int) -> list[Key]:
        """Once so many differ, look at them again until they are equal, or the patience is at its end."""
        if len(suspects) < at_least:
            return suspects
        begun = len(suspects)
        waited, pause = 0.0, 0.1
        while True:
            found = self._still_differing(connection, suspects)
            suspects = [row.key for row in found]
            if not found or waited >= self.patience_seconds:
                break
            self.sleep(pause)
            waited += pause
            pause = min(pause * 2, 1.0)
        self.result.drift += found
        self.result.in_flight += begun - len(found)
        return []

    def _still_differing(self, connection: Connection, keys: list[Key]) -> list[DriftRow]:
        """What differs now, by consistent reads."""
        return [row for some in _chunks(keys) for row in self._drift(connection, some, self._items(some))]

    def _differing(self, connection: Connection, page: list[Item]) -> list[Key]:
        """The keys of a page of the table that do not look right at first sight."""
        items: dict[Key, Item] = {}
        for item in page:
            try:
                items[self._key(item)] = item
            except Misfit as misfit:
                key = tuple(item.get(column.attribute) for column in self.projection.keys)
                self.result.drift.append(
                    DriftRow(self.projection.name, DriftKind.MISFIT, key, (str(misfit).partition(":")[0],))
                )
        return [row.key for some in _chunks(list(items)) for row in self._drift(connection, some, items)]

    def _drift(self, connection: Connection, keys: list[Key], items: dict[Key, Item]) -> Iterator[DriftRow]:
        rows = query.rows_by_key(connection, self.projection, keys)
        connection.commit()
        for key in keys:
            kind, columns = self._difference(items.get(key), rows.get(key))
            if kind is not None:
                yield DriftRow(self.projection.name, kind, key, columns)

    def _difference(self, item: Item | None, row: dict[str, Any] | None) -> tuple[DriftKind | None, tuple[str, ...]]:
        if item is None:
            return (None if row is None else DriftKind.ORPHAN), ()
        try:
            asked = {column.name: column.of(item) for column in self.projection.columns}
        except Misfit as misfit:
            return DriftKind.MISFIT, (str(misfit).partition(":")[0],)
        if row is None:
            return DriftKind.MISSING, ()
        asked = query.typed(self.projection, asked)
        different = tuple(name for name, value in asked.items() if value != row[name])
        return (DriftKind.STALE if different else None), different

    def _items(self, keys: Sequence[Key]) -> dict[Key, Item]:
        """The keys' items as they are now, by consistent reads."""
        wanted = [
            encode_key(
                {
                    column.attribute: _attribute(column.type.kind, part)
                    for column, part in zip(self.projection.keys, key, strict=True)
                }
            )
            for key in keys
        ]
        found = products.get_many(self.wiring.dynamodb, self.wiring.environment.table, wanted)
        return {self._key(item): item for item in map(decode_item, found)}

    def _key(self, item: Item) -> Key:
        return tuple(column.of(item) for column in self.projection.keys)


def _chunks(keys: list[Key]) -> Iterator[list[Key]]:
    for begin in range(0, len(keys), CHECKED_AT_ONCE):
        yield keys[begin : begin + CHECKED_AT_ONCE]


def _attribute(kind: Kind, part: Any) -> Any:
    """A key's column value as the attribute it came from."""
    return Decimal(part) if kind is Kind.BIGINT else part
