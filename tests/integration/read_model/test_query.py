"""Queries on a real server: filters, paging, and SQL that cannot write."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any, cast

import pytest

from cqrsctl.errors import CqrsctlError, UsageError
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


def ids(connection: Connection, sort: str = "ProductId", limit: int = 100, **filters: Any) -> list[int]:
    rows, _ = query.ListQuery(PRODUCT, query.Filters(**filters), sort, limit).run(connection)
    return [row["ProductId"] for row in rows]


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, [1, 2, 3, 4, 5, 6]),
        ({"name_like": "LAMP"}, [1, 2]),
        ({"name_like": "100%"}, [3]),
        ({"name_like": "e_c"}, [5]),
        ({"name_like": "'; DROP VIEW Product; -- "}, []),
        ({"min_price": Decimal(10)}, [1, 4, 6]),
        ({"max_price": Decimal("2.5")}, [2, 3, 5]),
        ({"out_of_stock": True}, [2, 5]),
        ({"out_of_stock": False, "min_price": Decimal(3)}, [1]),
    ],
)
def test_filters_choose_rows(connection: Connection, filters: dict[str, Any], expected: list[int]) -> None:
    assert ids(connection, **filters) == expected
    assert query.count(connection, PRODUCT, query.Filters(**filters)) == len(expected)


@pytest.mark.parametrize("sort", [f"{sign}{column.name}" for column in PRODUCT.columns for sign in ("", "-")])
@pytest.mark.parametrize("limit", [1, 2, 5])
def test_pages_together_are_the_whole_listing_in_any_order(connection: Connection, sort: str, limit: int) -> None:
    whole = ids(connection, sort)
    paged: list[int] = []
    token = None
    while True:
        listing = query.ListQuery(PRODUCT, query.Filters(), sort, limit, token)
        rows, token = listing.run(connection)
        paged += [row["ProductId"] for row in rows]
        if token is None:
            break

    assert paged == whole
    assert sorted(paged) == [1, 2, 3, 4, 5, 6]


def test_a_listing_downwards_goes_down_in_its_keys_too_and_is_read_from_an_index(connection: Connection) -> None:
    connection.execute("ALTER TABLE product_v1 ADD INDEX (Price)")
    connection.commit()
    assert ids(connection, "Price") == [5, 2, 3, 1, 6, 4]
    assert ids(connection, "-Price") == [4, 6, 1, 3, 2, 5]
    asked: list[tuple[str, Any]] = []

    class Watched:
        def query(self, sql: str, parameters: Any = ()) -> list[dict[str, Any]]:
            asked.append((sql, parameters))
            return connection.query(sql, parameters)

    listing = query.ListQuery(PRODUCT, query.Filters(), "-Price", 2)
    listing.run(cast("Connection", Watched()))
    on_the_table = asked[0][0].replace("`Product`", "`product_v1` FORCE INDEX (Price)")
    plan = str(connection.query(f"EXPLAIN {on_the_table}", asked[0][1]))
    assert "filesort" not in plan
    assert "Sort:" not in plan  # as MySQL writes a plan


def test_rows_that_are_longer_than_the_sort_buffer_are_listed_in_order(wiring: Wiring) -> None:
    wide = replace(PRODUCT, columns=(*PRODUCT.columns, Column("Notes", ColumnType.parse("json"), "Notes")))
    prepare(wiring.database, [wide])
    notes = json.dumps(["x" * 300_000])
    with connect(wiring.database) as connection:
        for key in range(1, 21):
            row = (key, "Lamp", key % 7, 0, notes)
            connection.execute("INSERT INTO product_v1 VALUES (%s, %s, %s, %s, %s, 1, FALSE, NOW(6), NOW(6))", row)
        connection.commit()
        rows, _ = query.ListQuery(wide, query.Filters(), "Price", 20).run(connection)
    assert [(row["Price"], row["ProductId"]) for row in rows] == sorted(
        (row["Price"], row["ProductId"]) for row in rows
    )
    assert len(rows) == 20


@pytest.mark.parametrize("token", ["nonsense", "e30", "WzEsMiwzXQ", "💡", "W3siTiI6ICJ4In0sIDEsIFsxXV0"])
def test_a_token_that_is_none_is_refused(connection: Connection, token: str) -> None:
    with pytest.raises(UsageError, match="--after"):
        query.ListQuery(PRODUCT, query.Filters(), "ProductId", 5, token).run(connection)


def test_a_token_of_another_order_is_refused(connection: Connection) -> None:
    _, token = query.ListQuery(PRODUCT, query.Filters(), "Price", 1).run(connection)

    with pytest.raises(UsageError, match="sorted by 'Price'"):
        query.ListQuery(PRODUCT, query.Filters(), "Name", 1, token).run(connection)


def test_an_unknown_column_is_refused(connection: Connection) -> None:
    with pytest.raises(UsageError, match="no column 'Colour'"):
        ids(connection, "-Colour")


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
