"""Verification finds each planted kind of drift, and nothing that is only in flight."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cqrsctl.operations import project
from cqrsctl.operations.verify import DriftKind, Verification, Verified
from cqrsctl.projection.definition import default_product
from cqrsctl.read_model.connection import connect
from cqrsctl.stream.reader import Beginning
from cqrsctl.wiring import SystemClock
from cqrsctl.write_model.products import Put
from cqrsctl.write_model.sample import products
from cqrsctl.write_model.table import TableSpec

if TYPE_CHECKING:
    from cqrsctl.wiring import Wiring
    from tests.conftest import Cqrsctl

PRODUCT = default_product()


@pytest.fixture
def filled(wiring: Wiring) -> None:
    TableSpec(wiring.environment.table, point_in_time_recovery=False, deletion_protection=False).create_call().make(
        wiring.dynamodb
    )
    for entry in products(250):
        Put(wiring.environment.table, entry).make(wiring.dynamodb)
    run = project.Run(wiring, (PRODUCT,), SystemClock(), lambda _: None, lambda _: None)
    project.from_stream(run, once=True, beginning=Beginning.HORIZON, dry_run=False)


def verified(wiring: Wiring, on_wait: str | None = None) -> Verified:
    """Verify; at the first wait, run a statement as a projector would."""
    waits: list[float] = []

    def wait(seconds: float) -> None:
        if on_wait and not waits:
            execute(wiring, on_wait)
        waits.append(seconds)

    return Verification(wiring, PRODUCT, wait, lambda _: None).run()


def execute(wiring: Wiring, sql: str) -> None:
    with connect(wiring.database) as connection:
        connection.execute(sql)
        connection.commit()


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize(
    ("sql", "kind", "columns"),
    [
        ("DELETE FROM product_v1 WHERE ProductId = 7", DriftKind.MISSING, ()),
        ("UPDATE product_v1 SET _deleted = TRUE WHERE ProductId = 7", DriftKind.MISSING, ()),
        ("UPDATE product_v1 SET Name = 'x' WHERE ProductId = 7", DriftKind.STALE, ("Name",)),
        ("UPDATE product_v1 SET Name = CONCAT(Name, ' ') WHERE ProductId = 7", DriftKind.STALE, ("Name",)),
        ("UPDATE product_v1 SET Price = Price + 0.0001 WHERE ProductId = 7", DriftKind.STALE, ("Price",)),
        ("UPDATE product_v1 SET OutOfStock = NOT OutOfStock WHERE ProductId = 7", DriftKind.STALE, ("OutOfStock",)),
    ],
)
def test_a_planted_difference_is_found_and_named(
    wiring: Wiring, sql: str, kind: DriftKind, columns: tuple[str, ...]
) -> None:
    execute(wiring, sql)

    found = verified(wiring)

    assert [(row.kind, row.key, row.columns) for row in found.drift] == [(kind, (7,), columns)]
    assert found.in_flight == 0


@pytest.mark.usefixtures("filled")
def test_a_row_without_an_item_is_an_orphan(wiring: Wiring) -> None:
    execute(
        wiring,
        "INSERT INTO product_v1 SELECT 999, Name, Price, OutOfStock, 1, FALSE, NOW(6), NOW(6) FROM Product LIMIT 1",
    )

    found = verified(wiring)

    assert [(row.kind, row.key) for row in found.drift] == [(DriftKind.ORPHAN, (999,))]
    assert (found.items, found.rows) == (250, 251)


@pytest.mark.usefixtures("filled")
def test_what_becomes_equal_was_in_flight(wiring: Wiring) -> None:
    execute(wiring, "UPDATE product_v1 SET _deleted = TRUE WHERE ProductId = 7")

    found = verified(wiring, on_wait="UPDATE product_v1 SET _deleted = FALSE WHERE ProductId = 7")

    assert found.drift == []
    assert found.in_flight == 1


@pytest.mark.usefixtures("filled")
def test_the_command_exits_7_and_prints_the_drift(cqrsctl: Cqrsctl, wiring: Wiring) -> None:
    execute(wiring, "UPDATE product_v1 SET Name = 'x' WHERE ProductId = 7")

    result = cqrsctl("verify", "-o", "jsonl")

    assert result.code == 7
    assert result.lines() == [{"projection": "product", "kind": "stale", "key": "7", "columns": "Name"}]
