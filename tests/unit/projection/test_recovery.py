"""What becomes of records that do not fit: neighbours are applied, the record stops the run or is set aside."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cqrsctl.change import Page, ShardState
from cqrsctl.errors import TablesChanged, TransientDatabaseError, ValueRejected
from cqrsctl.projection.batch import Applied, Batch
from cqrsctl.projection.definition import Column, ColumnType, Projection
from cqrsctl.projection.recovery import Applier, BadRecord, OnError
from cqrsctl.projection.tables import PhysicalTable, Tables
from tests.unit.projection.test_batch import PRODUCT, bad, good, page

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

IDS = Projection("ids", "Ids", (Column("Id", ColumnType.parse("bigint"), "ProductId", key=True),))


@dataclass
class Taking:
    """A sink of two functions."""

    tables: Callable[[], Tables]
    apply: Callable[[Batch], Applied]


class Database:
    """Takes batches, but none with a row of the refused keys."""

    def __init__(
        self, refused: set[tuple[str, int]] | None = None, *, refused_building: set[int] | None = None
    ) -> None:
        self.refused = refused or set()
        self.refused_building = refused_building or set()
        self.batches: list[Batch] = []
        self.attempts = 0

    def commit(self, batch: Batch) -> Applied:
        self.attempts += 1
        for name, rows in batch.rows.items():
            for row in rows:
                if (name, row.key[0]) in self.refused:
                    raise ValueRejected("the database says no", "no", projection=name)
        if self.refused_building & {row.key[0] for rows in batch.building.values() for row in rows if not row.deleted}:
            raise ValueRejected("the database says no", "no", projection="product", building=True)
        self.batches.append(batch)
        return Applied(sum(map(len, batch.rows.values())), 0)

    def keys(self, projection: str = "product") -> list[int]:
        return sorted(row.key[0] for batch in self.batches for row in batch.rows[projection])

    def letters(self) -> list[tuple[str, str, int]]:
        """Projection, shard and sequence number of each dead letter."""
        return sorted(
            (letter.projection, letter.shard_id, int(letter.change.sequence_number))
            for batch in self.batches
            for letter in batch.letters
        )

    def position(self, shard_id: str) -> tuple[int | None, ShardState] | None:
        """How far a shard's last checkpoint says it was read."""
        found = [position for batch in self.batches for position in batch.positions if position.shard_id == shard_id]
        return (found[-1].sequence_number, found[-1].state) if found else None


def apply(
    database: Database, on_error: OnError, pages: Sequence[Page], projections: Sequence[Projection] = (PRODUCT,)
) -> int:
    """Apply pages; how many changes were counted."""
    counted: list[int] = []
    tables = Tables(tuple(PhysicalTable(projection, 1) for projection in projections))
    applier = Applier(Taking(lambda: tables, database.commit), on_error, lambda batch, _: counted.append(batch.changes))
    applier.apply(pages)
    return sum(counted)


def test_good_pages_are_one_transaction() -> None:
    database = Database()
    assert apply(database, OnError.STOP, [page("a", good(1, 1), good(2, 2)), page("b", good(3, 3))]) == 3
    assert database.attempts == 1


# Refused by the declared columns.


def test_stopping_applies_what_stands_before_the_bad_record_and_nothing_after_it() -> None:
    database = Database()
    with pytest.raises(BadRecord) as raised:
        apply(
            database, OnError.STOP, [page("a", good(1, 1), good(2, 2), bad(3), good(4, 4), state=ShardState.FINISHED)]
        )
    assert database.keys() == [1, 2]
    assert database.position("a") == (2, ShardState.OPEN)
    assert "INSERT of ProductId 1 (sequence number 3) does not fit projection product" in raised.value.message
    assert "Price: the attribute Price is missing" in raised.value.message
    assert "--on-error dead-letter" in str(raised.value.hint)


def test_the_first_bad_record_is_named_whichever_projection_refuses_it() -> None:
    small = Projection("small", "Small", (Column("Id", ColumnType.parse("decimal(1,0)"), "ProductId", key=True),))
    changes = page("a", good(1, 1), bad(2), good(3, 100))
    for projections in ([PRODUCT, small], [small, PRODUCT]):
        with pytest.raises(BadRecord, match="sequence number 2"):
            apply(Database(), OnError.STOP, [changes], projections)


def test_a_shard_whose_first_record_is_bad_does_not_move() -> None:
    database = Database()
    with pytest.raises(BadRecord):
        apply(database, OnError.STOP, [page("a", bad(1), good(2), state=ShardState.FINISHED)])
    assert (database.keys(), database.position("a")) == ([], None)


@pytest.mark.parametrize("order", [1, -1])
def test_a_bad_record_does_not_hold_up_other_shards(order: int) -> None:
    database = Database()
    with pytest.raises(BadRecord):
        apply(database, OnError.STOP, [page("a", bad(1)), page("b", good(2, 2), good(3, 3))][::order])
    assert database.keys() == [2, 3]
    assert database.position("b") == (3, ShardState.OPEN)


def test_no_projection_gets_a_record_at_which_another_one_stops() -> None:
    for projections in ([PRODUCT, IDS], [IDS, PRODUCT]):
        database = Database()
        with pytest.raises(BadRecord):
            apply(database, OnError.STOP, [page("a", good(1, 1), bad(2), good(3, 3))], projections)
        assert (database.keys("product"), database.keys("ids")) == ([1], [1])


def test_a_dead_letter_does_not_hold_up_its_shard() -> None:
    database = Database()
    whole = page("a", good(1, 1), bad(2), good(3, 3), state=ShardState.FINISHED)
    assert apply(database, OnError.DEAD_LETTER, [whole]) == 3
    assert database.keys() == [1, 3]
    assert database.letters() == [("product", "a", 2)]
    assert database.position("a") == (3, ShardState.FINISHED)
    assert database.attempts == 1


# Refused by the database.


@pytest.mark.parametrize("refused", [1, 4, 8])
def test_a_row_that_the_database_refuses_is_found_by_halving(refused: int) -> None:
    database = Database({("product", refused)})
    pages = [
        page("a", *(good(number, number) for number in range(1, 5))),
        page("b", *(good(n, n) for n in range(5, 9))),
    ]
    assert apply(database, OnError.DEAD_LETTER, pages) == 8
    assert database.keys() == [number for number in range(1, 9) if number != refused]
    assert database.letters() == [("product", "a" if refused < 5 else "b", refused)]
    assert (database.position("a"), database.position("b")) == ((4, ShardState.OPEN), (8, ShardState.OPEN))
    assert database.attempts <= 8


def test_stopping_names_the_record_that_the_database_refused() -> None:
    database = Database({("product", 3)})
    with pytest.raises(BadRecord, match=r"sequence number 3\) does not fit projection product\. no\."):
        apply(database, OnError.STOP, [page("a", *(good(number, number) for number in range(1, 7)))])
    assert database.keys() == [1, 2]
    assert database.position("a") == (2, ShardState.OPEN)


def test_a_letter_of_one_projection_leaves_the_row_of_another() -> None:
    database = Database({("product", 2)})
    apply(database, OnError.DEAD_LETTER, [page("a", good(1, 1), good(2, 2))], [PRODUCT, IDS])
    assert (database.keys("product"), database.keys("ids")) == ([1], [1, 2])


def test_a_record_that_all_projections_refuse_is_a_letter_of_each() -> None:
    database = Database({("product", 2), ("ids", 2)})
    assert apply(database, OnError.DEAD_LETTER, [page("a", good(1, 1), good(2, 2))], [PRODUCT, IDS]) == 2
    assert database.letters() == [("ids", "a", 2), ("product", "a", 2)]


# Tables that are being built.


def applied_while_building(database: Database, pages: Sequence[Page], active: Projection, building: Projection) -> None:
    tables = Tables((PhysicalTable(active, 1),), (PhysicalTable(building, 2),))
    Applier(Taking(lambda: tables, database.commit), OnError.STOP, lambda *_: None).apply(pages)


def test_what_only_the_table_being_built_refuses_does_not_stop_the_projector() -> None:
    database = Database(refused_building={2})
    applied_while_building(database, [page("a", good(1, 1), good(2, 2), good(3, 3))], PRODUCT, PRODUCT)
    assert database.keys() == [1, 2, 3]
    built = [row for batch in database.batches for row in batch.building["product"]]
    assert sorted((row.key[0], row.deleted) for row in built) == [(1, False), (2, True), (3, False)]
    assert database.letters() == [("product", "a", 2)]


def test_what_only_the_columns_being_built_cannot_take_does_not_stop_the_projector() -> None:
    database = Database()
    applied_while_building(
        database, [page("a", bad(1))], Projection("product", "Product", PRODUCT.columns[:2]), PRODUCT
    )
    assert database.keys() == [1]
    assert database.letters() == [("product", "a", 1)]


def test_a_batch_is_made_anew_for_the_tables_that_there_are_by_then() -> None:
    database = Database()
    now = Tables((PhysicalTable(PRODUCT, 1),))
    then = Tables((PhysicalTable(PRODUCT, 1),), (PhysicalTable(PRODUCT, 2),))
    seen = [now]

    def commit(batch: Batch) -> Applied:
        if not batch.building:
            seen.append(then)
            raise TablesChanged("a rebuild began")
        return database.commit(batch)

    applier = Applier(Taking(lambda: seen[-1], commit), OnError.STOP, lambda *_: None)
    applier.apply([page("a", good(1, 1), good(2, 2))])
    (batch,) = database.batches
    assert (batch.changes, batch.rows) == (2, batch.building)


def test_other_failures_are_not_divided() -> None:
    def commit(_: Batch) -> Applied:
        raise TransientDatabaseError("gone")

    tables = Tables((PhysicalTable(PRODUCT, 1),))
    with pytest.raises(TransientDatabaseError):
        applier = Applier(Taking(lambda: tables, commit), OnError.DEAD_LETTER, lambda *_: None)
        applier.apply([page("a", good(1), good(2))])


@given(
    st.lists(st.lists(st.sampled_from(["good", "unfit", "refused"]), max_size=12), max_size=5),
    st.booleans(),
)
def test_no_neighbour_is_ever_lost(shards: list[list[str]], finished: bool) -> None:
    """Whatever is bad, wherever: each other record is applied once, each bad one is a letter."""
    state = ShardState.FINISHED if finished else ShardState.OPEN
    pages: list[Page] = []
    numbers: dict[str, list[int]] = {"good": [], "unfit": [], "refused": []}
    number = 0
    for shard, kinds in enumerate(shards):
        changes = []
        for kind in kinds:
            number += 1
            changes.append(bad(number) if kind == "unfit" else good(number, number + 1_000))
            numbers[kind].append(number)
        pages.append(page(str(shard), *changes, state=state))
    database = Database({("product", one + 1_000) for one in numbers["refused"]})

    assert apply(database, OnError.DEAD_LETTER, pages) == number
    assert database.keys() == [one + 1_000 for one in numbers["good"]]
    assert sorted(found for _, _, found in database.letters()) == sorted(numbers["unfit"] + numbers["refused"])
    for one in pages:
        assert one.position is not None
        assert database.position(one.shard_id) == (one.position.sequence_number, state)
