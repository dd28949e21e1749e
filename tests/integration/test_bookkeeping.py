"""The tables of cqrsctl's own account: made, and brought up to date where an earlier release made them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cqrsctl.projection.definition import default_product
from cqrsctl.read_model import bookkeeping
from cqrsctl.read_model.connection import connect
from cqrsctl.read_model.sink import prepare

if TYPE_CHECKING:
    from cqrsctl.wiring import Wiring


def test_columns_that_an_earlier_release_did_not_make_are_added(wiring: Wiring) -> None:
    prepare(wiring.database, [default_product()])
    with connect(wiring.database) as connection:
        connection.execute("ALTER TABLE cqrs_checkpoint DROP COLUMN read_since")
        bookkeeping.make(connection)
        (row,) = connection.query(
            "SELECT COUNT(*) AS n FROM information_schema.columns WHERE table_schema = DATABASE()"
            " AND table_name = 'cqrs_checkpoint' AND column_name = 'read_since'"
        )
    assert row["n"] == 1


def test_the_columns_of_a_statement_are_all_but_its_keys() -> None:
    assert list(bookkeeping.columns(bookkeeping.TABLES["cqrs_heartbeat"])) == ["id", "beat_at", "holder"]
    assert "UNIQUE" not in bookkeeping.columns(bookkeeping.TABLES["cqrs_dead_letter"])
