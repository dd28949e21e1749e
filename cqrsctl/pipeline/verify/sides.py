"""Both sides of a key as they are now: the row that the writer's view shows, and the item by a consistent read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from cqrsctl.errors import DatabaseError
from cqrsctl.pipeline.verify.comparison import item_key, key_of
from cqrsctl.read_model import query, registry, repair
from cqrsctl.write_model.batch_get import MOST_GETS, get_many

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from concurrent.futures import Executor

    from cqrsctl.change import Item
    from cqrsctl.pipeline.verify.comparison import Key
    from cqrsctl.projection.definition import Projection
    from cqrsctl.projection.tables import PhysicalTable, Tables
    from cqrsctl.read_model.connection import Connection
    from cqrsctl.read_model.repair import Stored
    from cqrsctl.wiring import Wiring

_Member = TypeVar("_Member")

READERS = 8
"""The most BatchGetItem calls under way at once."""
LOOKED_AT_ONCE = READERS * MOST_GETS
ROWS_A_QUERY = 500


class Seen(NamedTuple):
    """What both sides have of a key. `stored`: the row's version, also that of a tombstone."""

    stored: Stored | None
    row: dict[str, Any] | None
    item: Item | None


@dataclass(frozen=True, slots=True)
class Items:
    """Reads items by the keys of their rows, consistently, some calls side by side."""

    wiring: Wiring
    projection: Projection
    executor: Executor
    sleep: Callable[[float], None]

    def __call__(self, keys: Sequence[Key]) -> dict[Key, Item]:
        """The items that exist now. Raises AwsError."""
        found: dict[Key, Item] = {}
        for items in self.executor.map(self._some, chunks(keys, MOST_GETS)):
            found |= items
        return found

    def _some(self, keys: Sequence[Key]) -> dict[Key, Item]:
        wanted = [item_key(self.projection, key) for key in keys]
        items = get_many(self.wiring.dynamodb, self.wiring.environment.table, wanted, self.sleep)
        return {key_of(self.projection, item): item for item in items}


@dataclass(frozen=True, slots=True)
class Sides:
    """Reads both sides of keys."""

    connection: Connection
    projection: Projection
    items: Callable[[Sequence[Key]], dict[Key, Item]]

    def active(self, *, locked: bool = False) -> Tables:
        """The tables as they are now; `locked`: as they stay until the transaction ends. Raises ReadModelMissing."""
        return registry.read(self.connection, [self.projection], locked=locked)

    def look(self, keys: Sequence[Key], table: PhysicalTable) -> dict[Key, Seen]:
        """What both sides have of keys: the version is read before the row, and the row before the item.

        So no row is newer than the item beside it, and none is older than the version.
        """
        found: dict[Key, Seen] = {}
        for some in chunks(keys, LOOKED_AT_ONCE):
            stored = repair.stored(self.connection, table, some)
            rows = query.rows_by_key(self.connection, self.projection, some)
            self.connection.commit()
            items = self.items(some)
            found |= {key: Seen(stored.get(key), rows.get(key), items.get(key)) for key in some}
        return found


def require_declared(connection: Connection, projection: Projection) -> None:
    """Raises DatabaseError if the table behind the view was made from another declaration, ReadModelMissing."""
    (table,) = registry.read(connection, [projection]).active
    connection.commit()
    if table.projection == projection:
        return
    there, asked = table.projection.columns, projection.columns
    names = dict.fromkeys(column.name for column in (*there, *asked) if not (column in there and column in asked))
    what = f"column{'s' * (len(names) > 1)} {', '.join(names)}" if names else "the view, its conditions or their order"
    raise DatabaseError(
        f"Table {table.name} of projection {projection.name} was made from another declaration; what differs: {what}.",
        hint="Rebuild it as it is declared now, while the old one serves: `cqrsctl rebuild`; or declare it as it was.",
        code="schema_differs",
    )


def chunks(members: Sequence[_Member], size: int) -> Iterator[Sequence[_Member]]:
    """Members in lists of that size."""
    for begin in range(0, len(members), size):
        yield members[begin : begin + size]
