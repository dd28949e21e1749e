"""Purging removes the tombstones that no change can need any more, and no other row."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from cqrsctl.change import ChangeRecord, Event, Item
from cqrsctl.clock import SystemClock
from cqrsctl.errors import Busy, CqrsctlError, StreamGap, UsageError
from cqrsctl.pipeline import project, purging, settling
from cqrsctl.projection.batch import DeadLetter
from cqrsctl.projection.definition import Column, ColumnType, Projection, default_product
from cqrsctl.read_model import dead_letters as letters
from cqrsctl.read_model import purge, rebuilds
from cqrsctl.read_model.connection import connect
from cqrsctl.read_model.sink import prepare
from cqrsctl.stream.reader import Beginning
from cqrsctl.write_model.products import Put
from cqrsctl.write_model.sample import products
from cqrsctl.write_model.table import TableSpec

if TYPE_CHECKING:
    from cqrsctl.read_model.connection import Connection
    from cqrsctl.wiring import Wiring
    from tests.conftest import Cqrsctl

ARN = "arn:aws:dynamodb:us-east-1:123456789012:table/Products/stream/2020-11-23T10:00:00.000"
PRODUCT = default_product()
PAIR = Projection(
    "pair",
    "Pair",
    tuple(
        Column(name, ColumnType.parse(kind), name, key=True) for name, kind in (("A", "bigint"), ("B", "varchar(20)"))
    ),
)
NEWER = 10**60
"""A version that comes after every change's of the tests."""
OLD = "NOW(6) - INTERVAL 3 DAY"


@pytest.fixture
def table(wiring: Wiring) -> str:
    name = wiring.environment.table
    TableSpec(name, point_in_time_recovery=False, deletion_protection=False).create_call().make(wiring.dynamodb)
    return name


@pytest.fixture
def filled(wiring: Wiring, table: str) -> Wiring:
    """A pipeline with three products in the read model, which came from no stream."""
    prepare(wiring.database, [PRODUCT])
    rows = ", ".join(f"({number}, 'Lamp', 1, FALSE, {NEWER}, FALSE, NOW(6), NOW(6))" for number in (1, 2, 3))
    execute(wiring, f"INSERT INTO product_v1 VALUES {rows}")
    return wiring


@pytest.fixture
def projected(wiring: Wiring, table: str) -> Wiring:
    """A pipeline whose three products were projected."""
    for entry in products(3):
        Put(table, entry).make(wiring.dynamodb)
    run = project.Run(wiring, (PRODUCT,), SystemClock(), lambda _: None, lambda _: None)
    project.from_stream(run, once=True, beginning=Beginning.HORIZON, dry_run=False)
    return wiring


def execute(wiring: Wiring, *statements: str) -> None:
    with connect(wiring.database) as connection:
        for sql in statements:
            connection.execute(sql)
        connection.commit()


def keys(wiring: Wiring) -> list[int]:
    with connect(wiring.database) as connection:
        return [row["ProductId"] for row in connection.query("SELECT ProductId FROM product_v1 ORDER BY ProductId")]


def bury(wiring: Wiring, product: int, changed_at: str = OLD) -> None:
    """Make a product's row a tombstone."""
    execute(wiring, f"UPDATE product_v1 SET _deleted = TRUE, _changed_at = {changed_at} WHERE ProductId = {product}")


def purged(wiring: Wiring, hours: int = 48) -> int:
    return purging.run(wiring, purging.plan(wiring, timedelta(hours=hours)), lambda _: None)


def letter(product: int, created_at: datetime) -> DeadLetter:
    """An insert that did not fit when it came, and does now."""
    item: Item = {"ProductId": Decimal(product), "Name": "Old", "Price": Decimal(1)}
    change = ChangeRecord(ARN, 1, Event.INSERT, {"ProductId": Decimal(product)}, None, item, created_at)
    return DeadLetter("product", "shard-1", change, "too long")


def test_old_tombstones_go_and_young_ones_and_live_rows_stay(filled: Wiring) -> None:
    bury(filled, 1)
    bury(filled, 2, "NOW(6) - INTERVAL 47 HOUR")
    execute(filled, f"UPDATE product_v1 SET _changed_at = {OLD} WHERE ProductId = 3")

    assert purged(filled) == 1
    assert keys(filled) == [2, 3]
    assert purged(filled, hours=25) == 1
    assert keys(filled) == [3]
    assert purged(filled) == 0


def test_tombstones_that_the_stream_may_still_hold_older_changes_of_are_refused(wiring: Wiring) -> None:
    with pytest.raises(UsageError, match="younger than 25 hours"):
        purging.plan(wiring, timedelta(hours=25, seconds=-1))


def test_a_large_table_is_walked_in_small_transactions(wiring: Wiring, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(purge, "_ROWS_A_LOOK", 30)
    monkeypatch.setattr(purge, "ROWS_A_TRANSACTION", 4)
    prepare(wiring.database, [PAIR])
    rows = [f"({n % 9}, 'k{n}', {n}, {int(n % 3 == 0)}, {OLD}, {OLD})" for n in range(200)]
    execute(wiring, f"INSERT INTO pair_v1 VALUES {', '.join(rows)}")

    with connect(wiring.database) as connection:
        planned = purge.plan(connection, PAIR, timedelta(hours=48))
        before = rows_read(connection)
        found = list(purge.batches(connection, planned))
        read = rows_read(connection) - before
        removed = sum(purge.remove(connection, planned, batch) for batch in found)
        left = connection.query("SELECT COUNT(*) AS n, SUM(_deleted) AS dead FROM pair_v1")[0]

    assert planned.removable == removed == 67
    assert max(map(len, found)) == 4
    assert read < 3 * 200, "each step begins where the one before ended"
    assert (left["n"], left["dead"]) == (133, 0)


def rows_read(connection: Connection) -> int:
    """How many rows the server has read in the order of an index for this connection."""
    (row,) = connection.query("SHOW SESSION STATUS LIKE 'Handler_read_next'")
    return int(row["Value"])


def test_a_row_that_came_alive_meanwhile_stays(filled: Wiring) -> None:
    bury(filled, 1)
    with connect(filled.database) as connection:
        planned = purge.plan(connection, PRODUCT, timedelta(hours=48))
        (batch,) = purge.batches(connection, planned)
        execute(filled, "UPDATE product_v1 SET _deleted = FALSE WHERE ProductId = 1")

        assert purge.remove(connection, planned, batch) == 0

    assert keys(filled) == [1, 2, 3]


def test_tombstones_stay_that_a_dead_letter_may_be_older_than(filled: Wiring) -> None:
    now = datetime.now(UTC)
    for product, days in ((1, 3), (2, 5)):
        bury(filled, product, f"NOW(6) - INTERVAL {days} DAY")
    with connect(filled.database) as connection:
        letters.write(connection, [letter(1, now - timedelta(days=4))])
        connection.commit()

    (planned,) = purging.plan(filled, timedelta(hours=48))

    assert (planned.removable, planned.kept) == (1, 1)
    assert purged(filled) == 1
    assert keys(filled) == [1, 3]
    assert [each.outcome for each in settling.retry(filled, None)] == [settling.LetterOutcome.STALE]
    assert purged(filled) == 1


def test_nothing_is_removed_while_a_rebuild_is_under_way_or_once_one_has_begun(filled: Wiring) -> None:
    bury(filled, 1)
    planned = purging.plan(filled, timedelta(hours=48))
    with connect(filled.database) as connection:
        rebuilds.begin(connection, PRODUCT, ARN, segments=1)

    with pytest.raises(Busy, match="is being rebuilt"):
        purged(filled)
    with pytest.raises(Busy, match="is being rebuilt"):
        purging.run(filled, planned, lambda _: None)

    execute(filled, "UPDATE cqrs_projection SET building_version = NULL, active_version = 2")
    with pytest.raises(Busy, match="is being rebuilt"):
        purging.run(filled, planned, lambda _: None)
    assert keys(filled) == [1, 2, 3]


def test_nothing_is_removed_where_changes_were_lost(projected: Wiring) -> None:
    bury(projected, 1)
    execute(projected, "UPDATE cqrs_checkpoint SET state = 'gap'")

    with pytest.raises(StreamGap):
        purged(projected)


def test_nothing_is_removed_where_older_changes_are_unread(projected: Wiring, monkeypatch: pytest.MonkeyPatch) -> None:
    bury(projected, 1)
    Put(projected.environment.table, next(iter(products(1)))).make(projected.dynamodb)
    # The change that is unread is of just now, so the tombstones are taken for younger than it.
    real = purge.plan
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    monkeypatch.setattr(purge, "plan", lambda *given: replace(real(*given), before=tomorrow))
    execute(projected, f"UPDATE cqrs_checkpoint SET record_time = {OLD}")

    with pytest.raises(CqrsctlError, match="has not read changes of shard") as refused:
        purging.plan(projected, timedelta(hours=48))

    assert refused.value.code == "unread_changes"


def test_an_idle_shard_read_to_its_end_is_no_reason_to_keep_tombstones(projected: Wiring) -> None:
    bury(projected, 1)
    execute(projected, f"UPDATE cqrs_checkpoint SET record_time = {OLD}, updated_at = {OLD}")

    assert purged(projected) == 1


def test_the_command_counts_then_removes(filled: Wiring, cqrsctl: Cqrsctl) -> None:
    bury(filled, 1)

    counted = cqrsctl.ok("read-model", "purge", "--dry-run", "-o", "json").json()
    done = cqrsctl.ok("read-model", "purge")
    again = cqrsctl.ok("read-model", "purge")
    refused = cqrsctl("read-model", "purge", "--older-than", "24h")

    assert [(each["table"], each["tombstones"], each["kept_for_letters"]) for each in counted] == [("product_v1", 1, 0)]
    assert "Removed 1 tombstone." in done.err
    assert "nothing to remove" in again.err
    assert (refused.code, keys(filled)) == (2, [2, 3])
