"""Queries on a real server: keys in order, and SQL that cannot write."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from cqrsctl.errors import CqrsctlError
from cqrsctl.local.engines import MARIADB
from cqrsctl.projection.definition import Column, ColumnType, Projection, default_product
from cqrsctl.read_model import query
from cqrsctl.read_model.connection import connect
from cqrsctl.read_model.sink import prepare

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cqrsctl.read_model.connection import Connection
    from cqrsctl.wiring import Wiring

PRODUCT = default_product()
ROWS = [
    (1, "Lamp", "10.00", 0),
    (2, "lamp", "2.50", 1),
    (3, "100% wool", "2.50", 0),
    (4, "Tray", "99999999999999.9999", None),
    (5, "snake_case", "0.0001", 1),
    (6, "snakeXcase", "10.00", None),
]


@pytest.fixture
def connection(wiring: Wiring) -> Iterator[Connection]:
    prepare(wiring.database, [PRODUCT])
    with connect(wiring.database) as connected:
        for row in ROWS:
            connected.execute("INSERT INTO product_v1 VALUES (%s, %s, %s, %s, 1, FALSE, NOW(6), NOW(6))", row)
        connected.execute("INSERT INTO product_v1 VALUES (7, NULL, NULL, NULL, 1, TRUE, NOW(6), NOW(6))")
        connected.commit()
        yield connected


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1",
        "  (SELECT 1)",
        "-- a remark\nSELECT COUNT(*) FROM Product",
        "/* so */ WITH a AS (SELECT 1) SELECT * FROM a",
        "SHOW TABLES",
        "EXPLAIN SELECT * FROM Product",
        "SELECT '; DELETE FROM Product' AS text",
        "SELECT 'it''s into outfile' AS a, \"into \\\" /*! x */\" AS b /* into */ -- into",
    ],
)
def test_queries_run(connection: Connection, wiring: Wiring, sql: str) -> None:
    with connect(wiring.database) as reading:
        assert len(list(query.read_only(reading, sql))) > 1


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM product_v1",
        "INSERT INTO product_v1 VALUES (8, 'x', 1, 0, 1, 0, NOW(), NOW())",
        "UPDATE Product SET Name = 'x'",
        "DROP TABLE product_v1",
        "TRUNCATE product_v1",
        "CREATE TABLE cqrs_new (a INT)",
        "SELECT 1; DELETE FROM product_v1",
        "COMMIT",
        "SET SESSION TRANSACTION READ WRITE",
        "CALL write_it()",
        "EXECUTE IMMEDIATE 'DELETE FROM product_v1'",
        "/*! DELETE FROM product_v1 */",
        "/*M! DELETE FROM product_v1 */",
        "/* x */ DELETE FROM product_v1",
        "-- x\nDELETE FROM product_v1",
        "EXPLAIN SELECT 1; DELETE FROM product_v1",
        "ANALYZE DELETE FROM product_v1",
        "EXPLAIN ANALYZE DELETE FROM product_v1",
        "WITH a AS (SELECT 1) DELETE FROM product_v1",
        "SELECT 1 INTO OUTFILE '/tmp/cqrsctl-out'",
        "SELECT 1 INTO/**/OUTFILE '/tmp/cqrsctl-out'",
        "SELECT 1 /*! INTO OUTFILE '/tmp/cqrsctl-out' */",
        "SELECT 1 /*M!100100 INTO @a */",
        "SELECT 1 INTO @a",
        "SELECT write_it_too()",
        "SELECT NEXTVAL(numbers)",
        "DO 1",
        "LOCK TABLES product_v1 WRITE",
        "",
        "   ;",
    ],
)
def test_nothing_can_be_written_by_any_trick(connection: Connection, wiring: Wiring, database: str, sql: str) -> None:
    connection.execute(
        "CREATE PROCEDURE write_it() BEGIN COMMIT; SET TRANSACTION READ WRITE; DELETE FROM product_v1; END"
    )
    connection.execute("CREATE FUNCTION write_it_too() RETURNS INT BEGIN DELETE FROM product_v1; RETURN 1; END")
    if database == MARIADB.name:
        connection.execute("CREATE SEQUENCE numbers")
    before = connection.query("SELECT * FROM product_v1 ORDER BY ProductId")
    tables = connection.query("SHOW TABLES")
    connection.commit()

    with connect(wiring.database) as reading, pytest.raises(CqrsctlError):
        list(query.read_only(reading, sql))

    connection.commit()
    assert connection.query("SELECT * FROM product_v1 ORDER BY ProductId") == before
    assert connection.query("SHOW TABLES") == tables


def test_keys_of_several_columns_are_walked_in_order_each_once(wiring: Wiring) -> None:
    columns = [Column(name, ColumnType.parse("bigint"), name, key=True) for name in ("A", "B", "C")]
    projection = Projection("keyed", "Keyed", tuple(columns))
    prepare(wiring.database, [projection])
    expected = [(a, b, c) for a in (1, 2) for b in (-1, 0, 3) for c in (0, 5)]
    walked: list[tuple[Any, ...]] = []
    with connect(wiring.database) as connection:
        for key in expected:
            connection.execute("INSERT INTO keyed_v1 VALUES (%s, %s, %s, 1, FALSE, NOW(6), NOW(6))", key)
        while found := query.keys_after(connection, projection, walked[-1] if walked else None, 1):
            walked += found

    assert walked == expected
