"""The tables of cqrsctl's own account: made, and brought up to date where an earlier release made them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cqrsctl.projection.definition import default_product
from cqrsctl.read_model import bookkeeping, function_position
from cqrsctl.read_model.connection import connect
from cqrsctl.read_model.function_position import Reason
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


def test_columns_that_an_earlier_release_made_with_another_type_are_changed(wiring: Wiring) -> None:
    prepare(wiring.database, [default_product()])
    with connect(wiring.database) as connection:
        connection.execute("ALTER TABLE cqrs_function_gap MODIFY COLUMN reason ENUM('paused') NOT NULL")
        bookkeeping.make(connection)
        function_position.mark(connection, "arn", Reason.NEVER_LOADED, ["product"])

        (never_loaded,) = function_position.gaps(connection)
        function_position.mark(connection, "arn", Reason.PAUSED, ["product"])
        function_position.mark(connection, "arn", Reason.STOOD_STILL, ["product"])
        (lost,) = function_position.gaps(connection)

        assert (never_loaded.reason, lost.reason) == (Reason.NEVER_LOADED, Reason.PAUSED)
        assert lost.marked_at > never_loaded.marked_at


def test_columns_that_an_earlier_release_called_otherwise_keep_what_they_hold(wiring: Wiring) -> None:
    prepare(wiring.database, [])
    with connect(wiring.database) as connection:
        connection.execute("ALTER TABLE cqrs_rebuild CHANGE COLUMN replaced_checkpoints lost LONGTEXT NULL")
        connection.execute(
            "INSERT INTO cqrs_rebuild (projection, version, declaration, former_version, former_declaration, stream,"
            " state, undoing, lost, begun_at) VALUES ('product', 2, '{}', 1, '{}', 's', 'loading', FALSE, '[]', NOW(6))"
        )
        connection.commit()
    prepare(wiring.database, [])
    with connect(wiring.database) as connection:
        (row,) = connection.query("SELECT * FROM cqrs_rebuild")
    assert row["replaced_checkpoints"] == "[]"
    assert "lost" not in row


def test_tables_of_this_release_are_left_as_they_are(wiring: Wiring, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(wiring.database, [default_product()])
    with connect(wiring.database) as connection:
        monkeypatch.setattr(connection, "execute", pytest.fail)
        bookkeeping.make(connection)


def test_the_columns_of_a_statement_are_all_but_its_keys() -> None:
    assert list(bookkeeping.columns(bookkeeping.TABLES["cqrs_function_gap"])) == [
        "projection",
        "stream",
        "reason",
        "version",
        "marked_at",
    ]
    assert "UNIQUE" not in bookkeeping.columns(bookkeeping.TABLES["cqrs_dead_letter"])
