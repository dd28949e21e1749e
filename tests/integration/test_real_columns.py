"""A table whose columns were changed by hand: what they no longer hold is found before anything is written."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from cqrsctl.errors import DatabaseError
from cqrsctl.projection.definition import Column, ColumnType, default_product
from cqrsctl.read_model import schema
from cqrsctl.read_model.connection import connect
from cqrsctl.read_model.sink import prepare

if TYPE_CHECKING:
    from cqrsctl.wiring import Wiring

TYPES = {
    "B": "bigint",
    "D": "decimal(18,4)",
    "V": "varchar(20)",
    "T": "text",
    "O": "boolean",
    "F": "double",
    "W": "datetime",
    "J": "json",
    "Y": "varbinary(20)",
}
WHOLE = replace(
    default_product(),
    columns=(
        *default_product().columns,
        *(Column(name, ColumnType.parse(kind), name) for name, kind in TYPES.items()),
    ),
)


@pytest.fixture
def made(wiring: Wiring) -> Wiring:
    prepare(wiring.database, [WHOLE])
    return wiring


def alter(wiring: Wiring, change: str) -> None:
    with connect(wiring.database) as connection:
        connection.execute(f"ALTER TABLE product_v1 {change}")


def test_a_table_that_is_as_declared_is_left_alone(made: Wiring) -> None:
    prepare(made.database, [WHOLE])


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("MODIFY Price DECIMAL(18, 2)", r"Price is decimal\(18,2\), declared decimal\(18,4\)"),
        ("MODIFY D DECIMAL(16, 4)", r"D is decimal\(16,4\), declared decimal\(18,4\)"),
        ("MODIFY B INT", "B is int"),
        ("MODIFY B BIGINT UNSIGNED", "B is bigint"),
        ("MODIFY V VARCHAR(19)", r"V is varchar\(19\), declared varchar\(20\)"),
        ("MODIFY T TINYTEXT", "T is tinytext, declared text"),
        ("MODIFY F FLOAT", "F is float, declared double"),
        ("MODIFY W DATETIME", "W is datetime, declared datetime"),
        ("MODIFY Y VARBINARY(19)", r"Y is varbinary\(19\), declared varbinary\(20\)"),
        ("DROP COLUMN O", "O is gone"),
    ],
)
def test_a_column_that_was_narrowed_is_named_before_anything_is_written(made: Wiring, change: str, told: str) -> None:
    alter(made, change)
    with pytest.raises(DatabaseError, match=told) as refused:
        prepare(made.database, [WHOLE])
    assert refused.value.code == "column_narrowed"
    with connect(made.database) as connection:
        (status,) = schema.status(connection, [WHOLE])
    assert len(status.differences) == 1


@pytest.mark.parametrize(
    "change",
    ["MODIFY D DECIMAL(20, 6)", "MODIFY V VARCHAR(30)", "MODIFY V TEXT", "MODIFY T LONGTEXT", "MODIFY O INT"],
)
def test_a_column_that_holds_more_than_declared_is_fine(made: Wiring, change: str) -> None:
    alter(made, change)
    prepare(made.database, [WHOLE])
