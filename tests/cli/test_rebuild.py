"""`cqrsctl rebuild`: what it says, what it asks, and which projections it rebuilds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.pipelines import MARK_GAP, execute, make_table, projected, put

if TYPE_CHECKING:
    from cqrsctl.wiring import Wiring
    from tests.conftest import Cqrsctl

EXTRA_ROW = """
    INSERT INTO product_v1 SELECT ProductId + 100, Name, Price, OutOfStock, _version, _deleted, _changed_at, _applied_at
    FROM product_v1 LIMIT 1
"""
"""A row whose item is gone."""
TWO_VIEWS = """
[[projections]]
name = "product"
view = "Product"
columns = [
  { name = "ProductId", type = "bigint", key = true },
  { name = "Name", type = "varchar(255)", required = true },
  { name = "Price", type = "decimal(18,4)", required = true },
  { name = "OutOfStock", type = "boolean", default = false },
]
[[projections]]
name = "names"
view = "Name"
columns = [
  { name = "ProductId", type = "bigint", key = true },
  { name = "Name", type = "varchar(255)" },
]
"""


@pytest.fixture
def filled(wiring: Wiring) -> Wiring:
    """A pipeline whose view shows three products."""
    make_table(wiring)
    put(wiring, 3)
    projected(wiring)
    return wiring


def test_an_undo_is_promised_only_if_it_will_be_accepted(cqrsctl: Cqrsctl, filled: Wiring) -> None:
    first = cqrsctl.ok("rebuild", "--all")
    assert "product_v1 is kept for --undo." in first.err
    assert "product_v2 is kept for --undo." in cqrsctl.ok("rebuild", "--undo").err
    execute(filled, MARK_GAP)

    ended = cqrsctl.ok("rebuild")

    assert "product_v1 is kept until the next rebuild" in ended.err
    assert "--undo will refuse it" in ended.err
    refused = cqrsctl("rebuild", "--undo")
    assert refused.code == 1
    assert "ended a gap" in refused.err


def test_only_what_needs_it_is_rebuilt_and_the_reason_is_said(cqrsctl: Cqrsctl, filled: Wiring) -> None:
    (cqrsctl.directory / "cqrsctl.toml").write_text(TWO_VIEWS)

    new = cqrsctl.ok("rebuild", "-o", "json")

    assert "names needs a rebuild: it has no table yet." in new.err
    assert "Not needed for product. Rebuild all anyway with: cqrsctl rebuild --all" in new.err
    assert [one["projection"] for one in new.json()] == ["names"]
    nothing = cqrsctl.ok("rebuild", "-o", "json")
    assert nothing.json() == []
    assert "Not needed for product, names." in nothing.err
    assert [one["projection"] for one in cqrsctl.ok("rebuild", "--all", "-o", "json").json()] == ["product", "names"]
    assert [one["projection"] for one in cqrsctl.ok("rebuild", "--undo", "-o", "json").json()] == ["product", "names"]


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        (MARK_GAP, "changes left the stream before it read them"),
        (
            "UPDATE cqrs_checkpoint SET stream = CONCAT(stream, '1')",
            "it followed another stream than the table has now",
        ),
        ("ALTER TABLE product_v1 MODIFY Name VARCHAR(99)", "its table differs from its declaration: "),
        ("DROP TABLE product_v1", "its table differs from its declaration: table product_v1 is gone"),
    ],
)
def test_a_rebuild_is_needed(cqrsctl: Cqrsctl, filled: Wiring, statement: str, reason: str) -> None:
    execute(filled, statement)
    assert f"product needs a rebuild: {reason}" in cqrsctl("rebuild").err


def test_a_rebuild_that_would_show_fewer_rows_asks_first(cqrsctl: Cqrsctl, filled: Wiring) -> None:
    execute(filled, EXTRA_ROW)

    refused = cqrsctl("rebuild", "--all")

    assert refused.code == 2
    assert "product serves 4 rows and would show 3 after the rebuild." in refused.err
    assert "Confirm it with --yes." in refused.err
    assert cqrsctl.ok("query", "count").out.strip().endswith("4")
    resumed = cqrsctl.ok("rebuild", "--yes")
    assert "product needs a rebuild: a rebuild is under way, with 3 items in product_v2." in resumed.err
    assert "product serves 4 rows and would show 3 after the rebuild." in resumed.err
    assert cqrsctl.ok("query", "count").out.strip().endswith("3")
