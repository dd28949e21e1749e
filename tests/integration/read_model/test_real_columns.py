"""A table whose columns were changed by hand: what they no longer hold is found before anything is written."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from cqrsctl.clock import SystemClock
from cqrsctl.diagnosis.doctor import read_model_checks as checks
from cqrsctl.diagnosis.facts import Facts
from cqrsctl.diagnosis.health import Health
from cqrsctl.diagnosis.health_of_read_model import of_read_model
from cqrsctl.errors import DatabaseError
from cqrsctl.projection.definition import Column, ColumnType, default_product
from cqrsctl.read_model import rebuilds
from cqrsctl.read_model.connection import connect
from cqrsctl.read_model.real_columns import restoring
from cqrsctl.read_model.sink import prepare

if TYPE_CHECKING:
    from cqrsctl.read_model.inventory import Inventory
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


def taken(wiring: Wiring) -> Inventory:
    return Facts(
        replace(wiring, environment=replace(wiring.environment, projections=(WHOLE,))), SystemClock()
    ).inventory()


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
        ("MODIFY F DOUBLE(10, 2)", r"F is double\(10,2\), declared double"),
        ("MODIFY D DECIMAL(18, 4) UNSIGNED", r"D is decimal\(18,4\) unsigned"),
        ("MODIFY J VARCHAR(99)", r"J is varchar\(99\), declared json"),
        ("MODIFY D DECIMAL(18, 4) NOT NULL", r"D is decimal\(18,4\) not null, declared decimal\(18,4\)"),
        ("DROP COLUMN O", "O is gone"),
    ],
)
def test_a_column_that_was_narrowed_is_named_before_anything_is_written(made: Wiring, change: str, told: str) -> None:
    alter(made, change)
    with pytest.raises(DatabaseError, match=told) as refused:
        prepare(made.database, [WHOLE])
    assert refused.value.code == "column_narrowed"
    found = taken(made)
    assert [len(stored.all_differences) for stored in found.projections] == [1]
    part = of_read_model("product", found, None)
    assert part.health is Health.FAILING
    assert re.search(told, str(part.reason))


@pytest.mark.parametrize(
    "change",
    [
        "MODIFY Price DECIMAL(18, 2)",
        "MODIFY V VARCHAR(19), MODIFY W DATETIME",
        "DROP COLUMN O",
        "MODIFY T TEXT NOT NULL",
    ],
)
def test_the_statement_of_the_hint_puts_the_columns_back(made: Wiring, change: str) -> None:
    alter(made, change)
    with pytest.raises(DatabaseError) as refused:
        prepare(made.database, [WHOLE])
    (statement,) = re.findall(r"ALTER TABLE [^;]+;", str(refused.value.hint))

    with connect(made.database) as connection:
        (stored,) = taken(made).projections
        connection.execute(statement)

    assert restoring(stored.narrowed) == (statement,)
    prepare(made.database, [WHOLE])


def test_a_rebuild_writes_the_old_table_too_so_it_does_not_help_and_is_not_advised(made: Wiring) -> None:
    alter(made, "MODIFY Price DECIMAL(18, 2)")
    (finding,) = checks.schema(Facts(made, SystemClock(), known={"inventory": taken(made)}))

    assert "rebuild" not in finding.fix
    assert "ALTER TABLE `product_v1` MODIFY `Price` DECIMAL(18,4);" in finding.fix


def test_a_table_that_a_rebuild_fills_is_looked_at_too(made: Wiring) -> None:
    with connect(made.database) as connection:
        rebuilds.begin(connection, WHOLE, "arn:aws:dynamodb:us-east-1:1:table/T/stream/2026-11-23T10:00:00.000", 1)
        connection.execute("ALTER TABLE product_v2 MODIFY Price DECIMAL(18, 2)")
        with pytest.raises(DatabaseError, match="product_v2") as refused:
            prepare(made.database, [WHOLE])
        assert refused.value.code == "column_narrowed"
        (stored,) = taken(made).projections
    assert stored.all_differences == ("product_v2.Price is decimal(18,2), declared decimal(18,4)",)


@pytest.mark.parametrize(
    "change",
    [
        "MODIFY D DECIMAL(20, 6)",
        "MODIFY V VARCHAR(30)",
        "MODIFY V TEXT",
        "MODIFY T LONGTEXT",
        "MODIFY O INT",
        "MODIFY O TINYINT UNSIGNED",
    ],
)
def test_a_column_that_holds_more_than_declared_is_fine(made: Wiring, change: str) -> None:
    alter(made, change)
    prepare(made.database, [WHOLE])
