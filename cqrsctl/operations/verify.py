"""Verification: is the read model what the write model says?

The table is scanned page by page, and each page compared with the same keys of the view; then the view's keys are
walked, to find rows that have no item. What differs is looked at again, with consistent reads, until it is equal
(it was in flight) or has stayed different for a while (it is drift). Memory does not grow with the table.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from cqrsctl.projection.definition import Kind, Misfit
from cqrsctl.read_model import query
from cqrsctl.read_model.connection import connect
from cqrsctl.stream.decode import decode_item, encode_value
from cqrsctl.write_model import products, table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from cqrsctl.change import Item
    from cqrsctl.projection.definition import Projection
    from cqrsctl.read_model.connection import Connection
    from cqrsctl.wiring import Wiring

Key = tuple[Any, ...]
CHECKED_AT_ONCE = 100
"""Also the most keys of a BatchGetItem."""


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
        with connect(self.wiring.database) as connection:
            for items in products.scan(self.wiring.dynamodb, environment.table):
                decoded = [decode_item(item) for item in items]
                for begin in range(0, len(decoded), CHECKED_AT_ONCE):
                    self._compare(connection, decoded[begin : begin + CHECKED_AT_ONCE])
                self.result.items += len(decoded)
                self.progress(self.result)
            self._find_orphans(connection)
        return self.result

    def _compare(self, connection: Connection, items: Sequence[Item]) -> None:
        suspects = self._differing(connection, {self._key(item): item for item in items})
        self._settle(connection, suspects)

    def _find_orphans(self, connection: Connection) -> None:
        after: Key | None = None
        while keys := query.keys_after(connection, self.projection, after, CHECKED_AT_ONCE):
            connection.commit()
            after = keys[-1]
            self.result.rows += len(keys)
            there = self._items(keys)
            self._settle(connection, {key: DriftKind.ORPHAN for key in keys if key not in there})
            self.progress(self.result)

    def _settle(self, connection: Connection, suspects: dict[Key, DriftKind]) -> None:
        """Look again at what differs, until it is equal, or the patience is at its end."""
        begun = len(suspects)
        waited, pause = 0.0, 0.1
        found: dict[Key, DriftRow] = {}
        while suspects:
            items = self._items(list(suspects))
            found = {row.key: row for row in self._drift(connection, list(suspects), items)}
            suspects = {key: row.kind for key, row in found.items()}
            if waited >= self.patience_seconds:
                break
            if suspects:
                self.sleep(pause)
                waited += pause
                pause = min(pause * 2, 1.0)
        self.result.drift += found.values() if suspects else ()
        self.result.in_flight += begun - len(suspects)

    def _differing(self, connection: Connection, items: dict[Key, Item]) -> dict[Key, DriftKind]:
        return {row.key: row.kind for row in self._drift(connection, list(items), items)}

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
        if row is None:
            return DriftKind.MISSING, ()
        try:
            asked = {column.name: column.of(item) for column in self.projection.columns}
        except Misfit as misfit:
            return DriftKind.MISFIT, (str(misfit).partition(":")[0],)
        asked = query.typed(self.projection, asked)
        different = tuple(name for name, value in asked.items() if value != row[name])
        return (DriftKind.STALE if different else None), different

    def _items(self, keys: Sequence[Key]) -> dict[Key, Item]:
        """The keys' items as they are now, by consistent reads."""
        wanted = [
            {
                column.attribute: encode_value(_attribute(column.type.kind, part))
                for column, part in zip(self.projection.keys, key, strict=True)
            }
            for key in keys
        ]
        found = products.get_many(self.wiring.dynamodb, self.wiring.environment.table, wanted)
        return {self._key(item): item for item in map(decode_item, found)}

    def _key(self, item: Item) -> Key:
        return tuple(column.of(item) for column in self.projection.keys)


def _attribute(kind: Kind, part: Any) -> Any:
    """A key's column value as the attribute it came from."""
    return Decimal(part) if kind is Kind.BIGINT else part
