"""Repairing drift: rows are made equal to their items, unless a change comes first.

An item is read before and after a moment. If it is the same, it is what all changes from before that moment made of it:
so the repaired row takes later changes only, whatever still waits in the stream, and never goes back.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TYPE_CHECKING

from cqrsctl import retries
from cqrsctl.errors import Busy, TransactionConflict, ValueRejected
from cqrsctl.pipeline.verify.comparison import DriftKind, difference
from cqrsctl.projection.fitting import Misfit
from cqrsctl.read_model import rebuilds, repair

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from cqrsctl.change import Item
    from cqrsctl.pipeline.verify.comparison import Key
    from cqrsctl.pipeline.verify.sides import Seen, Sides
    from cqrsctl.projection.definition import Projection
    from cqrsctl.projection.fitting import SqlValue
    from cqrsctl.projection.tables import PhysicalTable

_ROUNDS = 5


class RepairOutcome(Enum):
    """What became of a row that differed."""

    REPAIRED = auto()
    EQUAL = auto()
    """It became equal before it was written here."""
    LEFT = auto()
    """It cannot be repaired: the item does not fit, the database refuses it, or it keeps changing."""


@dataclass(slots=True)
class Repairer:
    """Repairs rows of one projection."""

    sides: Sides
    sleep: Callable[[float], None]
    next_moment: Callable[[], datetime]
    """Waits until a time that no change has had yet, and returns it."""
    not_in_former: int = 0
    """Repaired rows that the table which an undo would bring back cannot hold."""
    _written: set[Key] = field(default_factory=set, init=False)
    _refused: set[Key] = field(default_factory=set, init=False)

    def table(self) -> PhysicalTable:
        """The table behind the view. Raises Busy while a rebuild fills another one."""
        return self._only_active(locked=False)

    def repair(self, keys: Sequence[Key]) -> dict[Key, RepairOutcome]:
        """Write the current items over rows that differ, and look at them again; at most some hundred at once.

        Raises Busy while a rebuild is under way, AwsError, DatabaseError.
        """
        self._written.clear()
        self._refused.clear()
        outcomes: dict[Key, RepairOutcome] = {}
        again = retries.of_transactions(self.sleep)
        for _ in range(_ROUNDS):
            table = self.table()
            differing = self._differing([key for key in keys if key not in outcomes], table, outcomes)
            if not differing:
                return outcomes
            moment = self.next_moment()
            seen = self.sides.look(list(differing), table)
            steady = {key: each for key, each in seen.items() if each.item == differing[key].item}
            again(self._write, steady, table, moment)
        self._differing([key for key in keys if key not in outcomes], self.table(), outcomes)
        return {key: outcomes.get(key, RepairOutcome.LEFT) for key in keys}

    def _differing(
        self, keys: Sequence[Key], table: PhysicalTable, outcomes: dict[Key, RepairOutcome]
    ) -> dict[Key, Seen]:
        """What is still to be written; what became of the others is noted in `outcomes`."""
        differing = {}
        for key, seen in self.sides.look(keys, table).items():
            found = difference(self.sides.projection, seen.item, seen.row)
            if found is None:
                outcomes[key] = RepairOutcome.REPAIRED if key in self._written else RepairOutcome.EQUAL
            elif found.kind is DriftKind.MISFIT or key in self._refused:
                outcomes[key] = RepairOutcome.LEFT
            else:
                differing[key] = seen
        return differing

    def _write(self, steady: dict[Key, Seen], table: PhysicalTable, moment: datetime) -> None:
        """Write rows in a transaction of their own; in key order, as projectors do.

        As long as the last rebuild can be undone they go into the former table too.
        """
        written = set()
        connection = self.sides.connection
        former = rebuilds.way_back(connection, self.sides.projection.name)
        try:
            if self._only_active(locked=True) == table:
                for key in sorted(steady):
                    seen = steady[key]
                    values = _values(table.projection, seen.item)
                    try:
                        if repair.overwrite(connection, table, key, values, seen.stored, moment):
                            written.add(key)
                            self._write_former(former, key, seen, moment)
                    except ValueRejected:
                        self._refused.add(key)
            connection.commit()
        except (TransactionConflict, Busy):
            connection.rollback()
            raise
        self._written |= written

    def _write_former(self, former: PhysicalTable | None, key: Key, seen: Seen, moment: datetime) -> None:
        if former is None:
            return
        try:
            values = _values(former.projection, seen.item)
            repair.put_into_former(self.sides.connection, former, key, values, moment)
        except (Misfit, ValueRejected):
            self.not_in_former += 1

    def _only_active(self, *, locked: bool) -> PhysicalTable:
        found = self.sides.active(locked=locked)
        if not locked:
            self.sides.connection.commit()
        if found.building:
            raise Busy(
                f"A rebuild of projection {self.sides.projection.name} is under way; nothing is repaired meanwhile.",
                hint="It repairs drift, too. Let it finish, or resume it: `cqrsctl rebuild`.",
            )
        (table,) = found.active
        return table


def _values(projection: Projection, item: Item | None) -> list[SqlValue] | None:
    """The values of an item's row; None if the view has none for it. Raises Misfit."""
    if item is None or not projection.includes(item):
        return None
    return [column.of(item) for column in projection.values]
