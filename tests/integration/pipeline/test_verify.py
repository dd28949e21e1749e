"""Verification finds each planted kind of drift, and nothing that is only in flight; repair mends it, and loses to
whatever is newer."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from cqrsctl.clock import SystemClock
from cqrsctl.codec import decode_item
from cqrsctl.errors import Busy, DatabaseError
from cqrsctl.pipeline import project
from cqrsctl.pipeline.verify import sampling, suspects, verifying
from cqrsctl.pipeline.verify.comparison import DriftKind, item_key, key_of
from cqrsctl.pipeline.verify.repairing import Repairer, RepairOutcome
from cqrsctl.pipeline.verify.sides import Sides, chunks
from cqrsctl.pipeline.verify.verifying import Sample, Verification
from cqrsctl.projection.definition import Column, ColumnType, default_product
from cqrsctl.projection.rows import snapshot_rows
from cqrsctl.projection.tables import PhysicalTable
from cqrsctl.read_model import rebuilds
from cqrsctl.read_model.connection import connect
from cqrsctl.read_model.sink import prepare
from cqrsctl.read_model.writing import upserts
from cqrsctl.stream.reader import Beginning
from cqrsctl.write_model import products as commands
from cqrsctl.write_model.batch_get import get_many
from cqrsctl.write_model.product import Product
from cqrsctl.write_model.sample import products
from cqrsctl.write_model.scan import scan
from cqrsctl.write_model.table import TableSpec
from tests.faults.load import Writer, rows, wait_until_caught_up
from tests.faults.projector import projecting

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from cqrsctl.change import Item
    from cqrsctl.pipeline.verify.comparison import Key
    from cqrsctl.pipeline.verify.verifying import DriftRow
    from cqrsctl.projection.definition import Projection
    from cqrsctl.wiring import Wiring
    from tests.conftest import Cqrsctl

PRODUCT = default_product()
PRODUCTS = 60
VERSION = 5
PLANTED: list[tuple[str, DriftKind, tuple[str, ...]]] = [
    ("DELETE FROM product_v1 WHERE ProductId = {}", DriftKind.MISSING, ()),
    ("UPDATE product_v1 SET _deleted = TRUE WHERE ProductId = {}", DriftKind.MISSING, ()),
    ("UPDATE product_v1 SET Name = 'x' WHERE ProductId = {}", DriftKind.STALE, ("Name",)),
    ("UPDATE product_v1 SET Name = CONCAT(Name, ' ') WHERE ProductId = {}", DriftKind.STALE, ("Name",)),
    ("UPDATE product_v1 SET Price = Price + 0.0001 WHERE ProductId = {}", DriftKind.STALE, ("Price",)),
    ("UPDATE product_v1 SET OutOfStock = NOT OutOfStock WHERE ProductId = {}", DriftKind.STALE, ("OutOfStock",)),
    ("UPDATE product_v1 SET ProductId = ProductId + 9000 WHERE ProductId = {}", DriftKind.MISSING, ()),
]
"""Statements that plant a difference, each in another product, and what it is to be called. The last makes two."""


class Clock(SystemClock):
    """Time that goes on only where it is slept for. `meanwhile` is run in each sleep."""

    def __init__(self, meanwhile: Callable[[int], None] = lambda _: None) -> None:
        super().__init__()
        self.slept = 0
        self.seconds = 0.0
        self.begun_at = super().now() - timedelta(minutes=1)  # to it, no change waits for long already
        self._meanwhile = meanwhile

    def now(self) -> datetime:
        return self.begun_at + timedelta(seconds=self.seconds)

    def monotonic(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.slept += 1
        self.seconds += seconds
        self._meanwhile(self.slept)


def moment() -> datetime:
    """When items are read here, to repair rows."""
    return datetime(2026, 11, 23, 12, tzinfo=UTC)


@pytest.fixture
def filled(wiring: Wiring) -> Wiring:
    """A table with products, and the read model of it."""
    TableSpec(wiring.environment.table, point_in_time_recovery=False, deletion_protection=False).create_call().make(
        wiring.dynamodb
    )
    entries = list(products(PRODUCTS))
    for some in chunks(entries, 20):
        requests = [{"PutRequest": {"Item": entry.item()}} for entry in some]
        wiring.dynamodb.batch_write_item(RequestItems={wiring.environment.table: requests})
    prepare(wiring.database, [PRODUCT])
    rows, _ = snapshot_rows(PRODUCT, [decode_item(entry.item()) for entry in entries], datetime.now(UTC))
    execute(
        wiring, *(sql for sql, _ in upserts(PhysicalTable(PRODUCT, 1), [row._replace(version=VERSION) for row in rows]))
    )
    return wiring


def put(wiring: Wiring, *entries: Product) -> None:
    for entry in entries:
        commands.Put(wiring.environment.table, entry).make(wiring.dynamodb)


def project_once(wiring: Wiring, projection: Projection = PRODUCT) -> None:
    run = project.Run(wiring, (projection,), SystemClock(), lambda _: None, lambda _: None)
    project.from_stream(run, once=True, beginning=Beginning.HORIZON, dry_run=False)


def execute(wiring: Wiring, *statements: str) -> None:
    with connect(wiring.database) as connection:
        for sql in statements:
            connection.execute(sql)
        connection.commit()


def plant(wiring: Wiring, first: int = 1) -> dict[int, tuple[DriftKind, tuple[str, ...]]]:
    """Plant every kind of drift, in products from a first one on; what is to be found."""
    numbered = list(enumerate(PLANTED, first))
    execute(wiring, *(sql.format(number) for number, (sql, _, _) in numbered))
    found = {number: (kind, columns) for number, (_, kind, columns) in numbered}
    return {**found, max(found) + 9_000: (DriftKind.ORPHAN, ())}


def verification(wiring: Wiring, clock: SystemClock | None = None, projection: Projection = PRODUCT) -> Verification:
    return Verification(wiring, projection, clock or Clock(), lambda _: None)


def by_product(drift: Sequence[DriftRow]) -> dict[int, tuple[DriftKind, tuple[str, ...]]]:
    found = {row.key[0]: (row.kind, row.columns) for row in drift}
    assert len(found) == len(drift), "told twice"
    return found


def test_each_planted_difference_is_found_and_named_and_nothing_else(filled: Wiring) -> None:
    planted = plant(filled)
    verifying = verification(filled)

    drift = list(verifying.run())

    assert by_product(drift) == planted
    assert not any(row.repaired for row in drift)
    assert (verifying.result.items, verifying.result.rows) == (PRODUCTS, PRODUCTS - 2)
    assert verifying.result.drift == {DriftKind.MISSING: 3, DriftKind.STALE: 4, DriftKind.ORPHAN: 1}
    assert verifying.result.in_flight == 0


def test_drift_is_found_whole_where_it_is_more_than_is_held_at_once(
    filled: Wiring, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted = plant(filled)
    for module, name, value in (
        (suspects, "MOST", 3),
        (suspects, "LOOKED_AT_ONCE", 2),
        (verifying, "ROWS_A_QUERY", 4),
        (verifying, "_KEYS_A_QUERY", 7),
        (verifying, "LOOKED_AT_ONCE", 2),
        (verifying, "_GROUPS", 2),
    ):
        monkeypatch.setattr(module, name, value)

    assert by_product(list(repairing(filled).run())) == planted
    assert list(verification(filled).run()) == []


def test_what_becomes_equal_was_in_flight(filled: Wiring) -> None:
    execute(filled, "UPDATE product_v1 SET _deleted = TRUE WHERE ProductId = 7")
    back = "UPDATE product_v1 SET _deleted = FALSE WHERE ProductId = 7"
    verifying = verification(filled, Clock(lambda slept: execute(filled, back) if slept == 3 else None))

    assert list(verifying.run()) == []
    assert verifying.result.in_flight == 1


def changed(number: int, change: int) -> Product:
    return Product(number, f"Change {change}", Decimal(change))


def test_a_product_that_changes_all_the_time_is_in_flight_as_long_as_its_row_follows(filled: Wiring) -> None:
    put(filled, changed(7, 0))

    def one_behind(slept: int) -> None:
        put(filled, changed(7, slept))
        execute(
            filled,
            f"UPDATE product_v1 SET Name = 'Change {slept - 1}', Price = {slept - 1}, _version = _version + 1"
            " WHERE ProductId = 7",
        )

    clock = Clock(one_behind)
    verifying = verification(filled, clock)

    assert list(verifying.run()) == []
    assert verifying.result.in_flight == 1
    assert clock.seconds > verifying.patience_seconds


def test_a_row_that_comes_back_to_what_it_was_has_moved_on_all_the_same(filled: Wiring) -> None:
    put(filled, changed(7, 1))

    def there_and_back(slept: int) -> None:
        put(filled, changed(7, slept % 2))
        execute(filled, "UPDATE product_v1 SET _version = _version + 1 WHERE ProductId = 7")

    verifying = verification(filled, Clock(there_and_back))

    assert list(verifying.run()) == []


def test_a_product_that_changes_all_the_time_is_drift_where_nothing_is_applied(filled: Wiring) -> None:
    clock = Clock(lambda slept: put(filled, changed(7, slept)))
    put(filled, changed(7, 0))

    assert by_product(list(verification(filled, clock).run())) == {7: (DriftKind.STALE, ("Name", "Price"))}
    assert clock.seconds < 60


def test_nothing_but_what_was_planted_is_found_under_load(cqrsctl: Cqrsctl, filled: Wiring) -> None:
    load = Writer(filled, random.Random(5))
    load.fill()
    quiet = [replace(entry, product_id=entry.product_id + 1_000) for entry in products(len(PLANTED))]
    put(filled, *quiet)
    project_once(filled)

    with projecting(cqrsctl) as projector:
        with load:
            planted = plant(filled, 1_001)
            verifying = repairing(filled, clock=SystemClock())
            drift = list(verifying.run())
            projector.assert_running()
            load.stop()
        load.products |= {entry.product_id: entry for entry in quiet}
        wait_until_caught_up(filled, load)

    assert by_product(drift) == planted
    assert all(row.repaired for row in drift)
    assert verifying.result.left == 0


def repairing(wiring: Wiring, projection: Projection = PRODUCT, clock: SystemClock | None = None) -> Verification:
    verifying = verification(wiring, clock, projection)
    verifying.repair = True
    return verifying


def test_repair_mends_each_kind_of_drift_and_later_changes_win_as_ever(filled: Wiring) -> None:
    planted = plant(filled)
    verifying = repairing(filled)

    drift = list(verifying.run())

    assert by_product(drift) == planted
    assert all(row.repaired for row in drift)
    assert (verifying.result.repaired, verifying.result.left) == (len(planted), 0)
    assert rows(filled) == {entry.product_id: entry for entry in products(PRODUCTS)}
    assert list(verification(filled).run()) == []

    newer = [changed(number, 1) for number in planted]
    put(filled, *newer)
    project_once(filled)

    assert {number: row for number, row in rows(filled).items() if number in planted} == {
        entry.product_id: entry for entry in newer
    }


def test_repaired_rows_are_items_as_of_a_moment_and_all_others_stay_as_they_are(filled: Wiring) -> None:
    plant(filled)

    repaired = {row.key[0] for row in repairing(filled).run() if row.repaired}

    found = versions(filled)
    assert repaired
    assert {number for number, version in found.items() if version == 0} == repaired
    assert {version for number, version in found.items() if number not in repaired} == {VERSION}


def versions(wiring: Wiring) -> dict[int, int]:
    with connect(wiring.database) as connection:
        found = connection.query("SELECT ProductId, _version FROM product_v1")
    return {row["ProductId"]: int(row["_version"]) for row in found}


def test_repair_loses_against_a_change_that_is_applied_while_it_reads_the_item(filled: Wiring) -> None:
    stale, absent, buried, orphan = keys = [(3,), (1,), (2,), (9_007,)]
    plant(filled)
    newer = [changed(number, 1) for (number,) in keys]
    reads: list[Sequence[Key]] = []

    def items(wanted: Sequence[Key]) -> dict[Key, Item]:
        """The items; after they were read first, all of them change, and the projector applies it."""
        found = get_many(
            filled.dynamodb, filled.environment.table, [item_key(PRODUCT, key) for key in wanted], lambda _: None
        )
        reads.append(wanted)
        if len(reads) == 1:
            put(filled, *newer)
            project_once(filled)
        return {key_of(PRODUCT, item): item for item in found}

    with connect(filled.database) as connection:
        outcomes = Repairer(Sides(connection, PRODUCT, items), Clock().sleep, moment).repair(keys)

    assert outcomes == dict.fromkeys([stale, absent, buried, orphan], RepairOutcome.EQUAL)
    assert len(reads) == 3
    assert {number: rows(filled)[number] for (number,) in keys} == {entry.product_id: entry for entry in newer}


def test_a_row_that_the_database_refuses_is_left_and_its_neighbours_are_mended(filled: Wiring) -> None:
    execute(
        filled,
        "UPDATE product_v1 SET Name = 'x' WHERE ProductId IN (3, 4)",
        "CREATE TRIGGER guard BEFORE UPDATE ON product_v1 FOR EACH ROW"
        " IF NEW.ProductId = 3 THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'not this one'; END IF",
    )

    drift = list(repairing(filled).run())

    assert {row.key[0]: row.repaired for row in drift} == {3: False, 4: True}


def test_an_item_that_fits_no_column_is_told_and_not_mended(filled: Wiring) -> None:
    filled.dynamodb.put_item(
        TableName=filled.environment.table,
        Item={"ProductId": {"N": "7"}, "Name": {"S": "x"}, "Price": {"N": "0.00001"}},
    )
    verifying = repairing(filled)

    (drift,) = verifying.run()

    assert (drift.kind, drift.key, drift.columns, drift.repaired) == (DriftKind.MISFIT, (7,), ("Price",), False)
    assert verifying.result.left == 1


def test_nothing_is_mended_while_a_rebuild_is_under_way(filled: Wiring) -> None:
    plant(filled)
    with connect(filled.database) as connection:
        rebuilds.begin(connection, PRODUCT, "arn:aws:dynamodb:eu-west-1:1:table/T/stream/2026-03-01T12:00:00.000", 1)

    with pytest.raises(Busy, match="A rebuild of projection product is under way"):
        list(repairing(filled).run())
    assert len(list(verification(filled).run())) == len(PLANTED) + 1


def test_a_rebuild_that_begins_before_the_write_holds_it_up(filled: Wiring) -> None:
    plant(filled)

    def items(_: Sequence[Key]) -> dict[Key, Item]:
        with connect(filled.database) as other:
            rebuilds.begin(other, PRODUCT, "arn:aws:dynamodb:eu-west-1:1:table/T/stream/2026-03-01T12:00:00.000", 1)
        return {}

    with connect(filled.database) as connection, pytest.raises(Busy):
        Repairer(Sides(connection, PRODUCT, items), Clock().sleep, moment).repair([(9_007,)])
    assert 9_007 in rows(filled)


def test_another_declaration_than_that_of_the_table_is_told(filled: Wiring) -> None:
    columns = (*PRODUCT.columns[:-1], Column("Weight", ColumnType.parse("double"), "Weight"))

    with pytest.raises(DatabaseError, match="what differs: columns OutOfStock, Weight") as caught:
        list(verification(filled, projection=replace(PRODUCT, columns=columns)).run())

    assert caught.value.code == "schema_differs"
    assert "cqrsctl rebuild" in str(caught.value.hint)


def test_an_item_that_the_view_leaves_out_has_no_row(filled: Wiring) -> None:
    sold_out = replace(PRODUCT, name="sold", view="Sold", where=(("OutOfStock", True),))
    put(filled, Product(70, "Gone", Decimal(1), out_of_stock=True), Product(71, "Here", Decimal(1)))
    project_once(filled, sold_out)
    assert list(verification(filled, projection=sold_out).run()) == []
    execute(filled, "UPDATE sold_v1 SET _deleted = FALSE, Name = 'Here', Price = 1 WHERE ProductId = 71")

    (drift,) = repairing(filled, sold_out).run()

    assert (drift.kind, drift.key, drift.repaired) == (DriftKind.ORPHAN, (71,), True)
    assert list(verification(filled, projection=sold_out).run()) == []


def test_a_sample_as_large_as_the_table_finds_all_drift(filled: Wiring) -> None:
    planted = plant(filled)
    verifying = verification(filled)
    verifying.sample = Sample(1_000, random.Random(3))

    assert by_product(list(verifying.run())) == planted
    assert (verifying.result.items, verifying.result.rows) == (PRODUCTS, PRODUCTS - 2)


def test_drift_of_an_item_that_the_scan_did_not_show_yet_is_found(
    filled: Wiring, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A scan is eventually consistent: an item of a moment ago may be missing in it."""
    execute(filled, "UPDATE product_v1 SET Name = 'changed by hand' WHERE ProductId = 3")

    def without_the_third(*arguments: Any) -> Iterator[list[Item]]:
        for page in scan(*arguments):
            yield [item for item in page if item["ProductId"] != 3]

    monkeypatch.setattr(verifying, "scan", without_the_third)

    (drift,) = verification(filled).run()

    assert (drift.kind, drift.key) == (DriftKind.STALE, (3,))


@pytest.mark.parametrize("about", [0, 25, 2_000])
def test_a_sample_is_as_large_as_asked_however_wrong_the_count_of_items_is(filled: Wiring, about: int) -> None:
    with ThreadPoolExecutor(4) as executor:

        def sampled(count: int) -> list[Item]:
            pages = sampling.products(filled, Clock(), executor, random.Random(3), count, about)
            return [item for page in pages for item in page]

        some, more = sampled(20), sampled(1_000)

    assert len({item["ProductId"] for item in some}) == len(some) == 20
    assert {item["ProductId"] for item in more} == set(map(Decimal, range(1, PRODUCTS + 1)))


def test_a_sample_looks_at_so_many_products_and_rows_only(filled: Wiring) -> None:
    verifying = verification(filled)
    verifying.sample = Sample(10, random.Random(3))

    assert list(verifying.run()) == []
    assert (verifying.result.items, verifying.result.rows) == (10, 10)


def test_a_repaired_row_does_not_go_back_to_states_that_still_wait_in_the_stream(filled: Wiring) -> None:
    project_once(filled)
    (entry,) = products(1)
    put(filled, replace(entry, name="First"), replace(entry, name="Second"))

    (drift,) = repairing(filled, clock=SystemClock()).run()

    assert (drift.key, drift.repaired) == ((entry.product_id,), True)
    assert rows(filled)[entry.product_id].name == "Second"
    project_once(filled)
    assert rows(filled)[entry.product_id].name == "Second"
    put(filled, replace(entry, name="Third"))
    project_once(filled)
    assert rows(filled)[entry.product_id].name == "Third"


def test_the_command_exits_7_names_the_drift_mends_it_and_exits_0(cqrsctl: Cqrsctl, filled: Wiring) -> None:
    project_once(filled)
    execute(filled, "UPDATE product_v1 SET Name = 'x' WHERE ProductId = 7")

    found = cqrsctl("verify", "--patience", "1s", "-o", "jsonl")
    repaired = cqrsctl("verify", "--repair", "--patience", "1s", "-o", "json")
    after = cqrsctl("verify")

    assert found.code == 7
    assert found.lines() == [{"projection": "product", "kind": "stale", "key": "7", "columns": "Name"}]
    assert repaired.code == 0
    assert repaired.json() == [
        {"projection": "product", "kind": "stale", "key": "7", "columns": "Name", "repaired": True}
    ]
    assert "drift: 1 (1 stale) · repaired: 1" in repaired.err
    assert (after.code, after.out) == (
        0,
        f"write model: {PRODUCTS} products · read model: {PRODUCTS} products · drift: 0\n",
    )


def test_a_table_shows_the_first_rows_of_drift_and_counts_the_others(cqrsctl: Cqrsctl, filled: Wiring) -> None:
    execute(
        filled, "UPDATE product_v1 SET Price = 1 WHERE ProductId <= 30", "DELETE FROM product_v1 WHERE ProductId = 31"
    )

    result = cqrsctl("verify", "--sample", "1000", "--patience", "1s")

    assert result.code == 7
    lines = result.out.splitlines()
    assert len(lines) == 1 + 20 + 2
    assert lines[-2] == "11 more: -o jsonl prints all"
    assert "· drift: 31 (1 missing, 30 stale)" in lines[-1]
    assert "31 rows of the read model differ" in result.err
