"""Verification: is the read model what the write model says?

The table is scanned page by page, and each page compared with the same keys of the writer's view. Rows that have no
item are then found by sums: for each of many groups of keys, one over the items that were scanned and one over the
view's rows; only where they differ the group's items are read. What differs is looked at again, with consistent
reads, until it is clear whether it is in flight or drift. Memory grows with neither the table nor the drift.
"""

from __future__ import annotations

from array import array
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from cqrsctl.pipeline.change_clock import EPOCH, ChangeClock
from cqrsctl.pipeline.verify import sampling
from cqrsctl.pipeline.verify.comparison import DriftKind, difference, key_of, misfitting
from cqrsctl.pipeline.verify.repairing import Repairer, RepairOutcome
from cqrsctl.pipeline.verify.sides import LOOKED_AT_ONCE, READERS, ROWS_A_QUERY, Items, Sides, chunks, require_declared
from cqrsctl.pipeline.verify.suspects import PATIENCE_SECONDS, Suspects
from cqrsctl.projection.fitting import Misfit
from cqrsctl.read_model import query
from cqrsctl.read_model.connection import connect
from cqrsctl.write_model import table
from cqrsctl.write_model.scan import scan

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from concurrent.futures import Executor
    from datetime import datetime

    from cqrsctl.change import Item
    from cqrsctl.clock import Clock
    from cqrsctl.pipeline.verify.comparison import Key
    from cqrsctl.pipeline.verify.suspects import Drift
    from cqrsctl.projection.definition import Projection
    from cqrsctl.read_model.connection import Connection
    from cqrsctl.wiring import Wiring

_GROUPS = 65_536
_SUM_BITS = (1 << 64) - 1
_KEYS_A_QUERY = 5_000


@dataclass(frozen=True, slots=True)
class DriftRow:
    """One difference: the key, and for a stale row the columns that differ."""

    projection: str
    kind: DriftKind
    key: Key
    columns: tuple[str, ...] = ()
    repaired: bool = False


@dataclass(slots=True)
class Verified:
    """What a verification counted so far. `in_flight` differed at first sight only; `about`: how many items the table
    has, as AWS last counted. `not_in_former`: repaired rows that the table from before the last rebuild cannot hold."""

    projection: str
    about: int = 0
    items: int = 0
    rows: int = 0
    in_flight: int = 0
    repaired: int = 0
    not_in_former: int = 0
    drift: Counter[DriftKind] = field(default_factory=Counter)
    attributes: set[str] = field(default_factory=set)
    """What the compared items have."""

    @property
    def left(self) -> int:
        """How many rows differ still."""
        return self.drift.total() - self.repaired


@dataclass(frozen=True, slots=True)
class Sample:
    """The number of products, and of rows, that are compared."""

    count: int
    rng: random.Random


@dataclass(slots=True)
class Verification:
    """Compares one projection's view with the table; with `repair` what differs is repaired."""

    wiring: Wiring
    projection: Projection
    clock: Clock
    progress: Callable[[Verified], None]
    sample: Sample | None = None
    repair: bool = False
    patience_seconds: float = PATIENCE_SECONDS
    result: Verified = field(init=False)
    _suspects: Suspects = field(init=False)
    _repairer: Repairer | None = field(default=None, init=False)
    _equal: int = field(default=0, init=False)
    """The number that were clearly drift, and became equal before they were repaired."""

    def __post_init__(self) -> None:
        self.result = Verified(self.projection.name)

    def run(self) -> Iterator[DriftRow]:
        """Compare; each row of drift as it is found.

        Raises DatabaseError if the declaration is not that of the view's table (`schema_differs`), AwsError; and
        if drift is to be repaired Busy while a rebuild is under way.
        """
        self.result.about = table.describe(self.wiring.dynamodb, self.wiring.environment.table).items
        with (
            connect(self.wiring.database) as connection,
            ThreadPoolExecutor(READERS, thread_name_prefix="verify") as executor,
        ):
            require_declared(connection, self.projection)
            items = Items(self.wiring, self.projection, executor, self.clock.sleep)
            sides = Sides(connection, self.projection, items)
            self._suspects = Suspects(sides, self.clock, self.patience_seconds)
            if self.repair:
                self._repairer = Repairer(sides, self.clock.sleep, self._next_moment)
                self._repairer.table()
            for drift in self._sampled(sides, executor) if self.sample else self._all(sides, executor):
                yield from self._counted(drift)
            for drift in self._suspects.settle():
                yield from self._counted(drift)
            self._report()

    def _next_moment(self) -> datetime:
        """Wait until a time that no change has had yet; the beginning of time if the endpoint reports none."""
        changes = ChangeClock(self.wiring, self.clock.now)
        moment = changes.next_time()
        if moment is None:
            return EPOCH
        while (left := changes.until_past(moment)) > timedelta(0):
            self.clock.sleep(left.total_seconds())
        return moment

    def _all(self, sides: Sides, executor: Executor) -> Iterator[Drift]:
        sums = _Sums()
        pages = scan(self.wiring.dynamodb, self.wiring.environment.table, self.clock.sleep)
        for page in _ahead(pages, executor):
            for items in chunks(page, ROWS_A_QUERY):
                keyed, unfit = self._keyed(items)
                sums.add(key for key, item in keyed.items() if self.projection.includes(item))
                yield from self._compared(sides.connection, keyed, unfit)
        for keys in self._rows(sides.connection):
            sums.subtract(keys)
            self.result.rows += len(keys)
            self._report()
        if not sums.are_zero:
            suspicious: list[Key] = []
            for keys in self._rows(sides.connection):
                suspicious += filter(sums.differ_for, keys)
                if len(suspicious) >= LOOKED_AT_ONCE:
                    yield from self._looked_at(sides, suspicious)
                    suspicious = []
            yield from self._looked_at(sides, suspicious)

    def _sampled(self, sides: Sides, executor: Executor) -> Iterator[Drift]:
        sample, about = self.sample, self.result.about
        if sample is None:
            raise AssertionError("a sample is asked for")
        starts: list[Key] = []
        for page in sampling.products(self.wiring, self.clock, executor, sample.rng, sample.count, about):
            for items in chunks(page, ROWS_A_QUERY):
                keyed, unfit = self._keyed(items)
                starts += keyed
                yield from self._compared(sides.connection, keyed, unfit)
        for keys in sampling.keys(sides.connection, self.projection, sample.rng, starts, sample.count):
            yield from self._looked_at(sides, keys)
            self.result.rows += len(keys)
            self._report()

    def _rows(self, connection: Connection) -> Iterator[list[Key]]:
        """The view's keys in order."""
        after: Key | None = None
        while keys := query.keys_after(connection, self.projection, after, _KEYS_A_QUERY):
            connection.commit()
            yield keys
            after = keys[-1]

    def _keyed(self, items: Sequence[Item]) -> tuple[dict[Key, Item], Drift]:
        """Items by the keys of their rows; and the drift of those whose key is none that a row could have."""
        keyed: dict[Key, Item] = {}
        unfit: Drift = []
        for item in items:
            self.result.attributes.update(item)
            try:
                keyed[key_of(self.projection, item)] = item
            except Misfit as misfit:
                if self.projection.includes(item):
                    key = tuple(item.get(column.attribute) for column in self.projection.keys)
                    unfit.append((key, misfitting(misfit)))
        return keyed, unfit

    def _compared(self, connection: Connection, keyed: dict[Key, Item], unfit: Drift) -> Iterator[Drift]:
        """Compare items with their rows at first sight; the drift that became clear meanwhile."""
        rows = query.rows_by_key(connection, self.projection, list(keyed))
        connection.commit()
        if unfit:
            yield unfit
        yield from self._suspects.add(
            key for key, item in keyed.items() if difference(self.projection, item, rows.get(key))
        )
        self.result.items += len(keyed) + len(unfit)
        self._report()

    def _looked_at(self, sides: Sides, keys: Sequence[Key]) -> Iterator[Drift]:
        """Compare rows with their items, which the scan did not show, or not as they are; the drift clear meanwhile."""
        items = sides.items(keys)
        rows = query.rows_by_key(sides.connection, self.projection, keys)
        sides.connection.commit()
        return self._suspects.add(key for key in keys if difference(self.projection, items.get(key), rows.get(key)))

    def _counted(self, drift: Drift) -> Iterator[DriftRow]:
        """Count drift, and repair it if requested; what became equal meanwhile was in flight after all."""
        keys = [key for key, found in drift if found.kind is not DriftKind.MISFIT]
        outcomes = self._repairer.repair(keys) if self._repairer else {}
        for key, found in drift:
            outcome = outcomes.get(key, RepairOutcome.LEFT)
            if outcome is RepairOutcome.EQUAL:
                self._equal += 1
                continue
            repaired = outcome is RepairOutcome.REPAIRED
            self.result.not_in_former = self._repairer.not_in_former if self._repairer else 0
            self.result.drift[found.kind] += 1
            self.result.repaired += repaired
            self._report()
            yield DriftRow(self.projection.name, found.kind, key, found.columns, repaired)

    def _report(self) -> None:
        self.result.in_flight = self._suspects.in_flight + self._equal
        self.progress(self.result)


class _Sums:
    """A sum of hashes for each of many groups of keys: the same keys added and subtracted give zero."""

    def __init__(self) -> None:
        self._sums = array("Q", bytes(8 * _GROUPS))

    def add(self, keys: Iterable[Key]) -> None:
        for key in keys:
            number = hash(key)
            group = number % _GROUPS
            self._sums[group] = (self._sums[group] + number) & _SUM_BITS

    def subtract(self, keys: Iterable[Key]) -> None:
        for key in keys:
            number = hash(key)
            group = number % _GROUPS
            self._sums[group] = (self._sums[group] - number) & _SUM_BITS

    @property
    def are_zero(self) -> bool:
        return not any(self._sums)

    def differ_for(self, key: Key) -> bool:
        """Whether a key is in a group whose sum is not zero."""
        return self._sums[hash(key) % _GROUPS] != 0


def _ahead(pages: Iterator[list[Item]], executor: Executor) -> Iterator[list[Item]]:
    """Pages, each read while the one before it is compared."""
    coming = executor.submit(next, pages, None)
    while (page := coming.result()) is not None:
        coming = executor.submit(next, pages, None)
        yield page
