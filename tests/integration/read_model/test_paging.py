"""Listings on a real server: conditions of every type, pages in any order and over any key, rows by key."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from itertools import product
from typing import TYPE_CHECKING, Any, cast

import pytest

from cqrsctl.cli.view_options import column_of, conditions
from cqrsctl.errors import UsageError
from cqrsctl.projection.definition import Column, ColumnType, Projection, default_product
from cqrsctl.read_model import paging
from cqrsctl.read_model.conditions import Comparison, Condition, pattern_of, value_of
from cqrsctl.read_model.connection import connect
from cqrsctl.read_model.paging import Order, PageQuery
from cqrsctl.read_model.sink import prepare

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

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
LINES = Projection(
    "lines",
    "Lines",
    (
        Column("Amount", ColumnType.parse("decimal(10,0)"), "Amount"),
        Column("Customer", ColumnType.parse("varchar(20)"), "Customer", key=True),
        Column("At", ColumnType.parse("datetime"), "At"),
        Column("Number", ColumnType.parse("bigint"), "Number", key=True),
        Column("Weight", ColumnType.parse("double"), "Weight"),
        Column("Seal", ColumnType.parse("varbinary(8)"), "Seal"),
        Column("More", ColumnType.parse("json"), "More"),
    ),
)


@pytest.fixture
def connection(wiring: Wiring) -> Iterator[Connection]:
    prepare(wiring.database, [PRODUCT])
    with connect(wiring.database) as connected:
        for row in ROWS:
            connected.execute("INSERT INTO product_v1 VALUES (%s, %s, %s, %s, 1, FALSE, NOW(6), NOW(6))", row)
        connected.execute("INSERT INTO product_v1 VALUES (7, NULL, NULL, NULL, 1, TRUE, NOW(6), NOW(6))")
        connected.commit()
        yield connected


@pytest.fixture
def lines(wiring: Wiring) -> Iterator[Connection]:
    """Lines of three customers, whose names differ in case and length alone, a third of them without values."""
    prepare(wiring.database, [LINES])
    with connect(wiring.database) as connected:
        for index, (customer, number) in enumerate(product(["a", "A", "ab"], [-1, 0, 5])):
            row: list[Any] = [None, customer, None, number, None, None, None]
            if index % 3:
                day = f"2026-11-{index:02} 10:00:00.000001"
                row = [index % 2, customer, day, number, index / 10, b"\xff%c" % index, json.dumps({"n": index})]
            connected.execute(f"INSERT INTO lines_v1 VALUES ({', '.join(['%s'] * 7)}, 1, FALSE, NOW(6), NOW(6))", row)
        connected.commit()
        yield connected


def order(view: Projection, sort: str) -> Order:
    return Order(column_of(view, sort.removeprefix("-"), "--sort"), sort.startswith("-"))


def ids(connection: Connection, *typed: str, sort: str = "ProductId") -> list[int]:
    rows, _ = PageQuery(PRODUCT, conditions(PRODUCT, typed), order(PRODUCT, sort), 100).run(connection)
    return [row["ProductId"] for row in rows]


def walked(connection: Connection, view: Projection, sort: str, limit: int, *typed: str) -> list[dict[str, Any]]:
    """All rows of a listing, a page at a time."""
    rows: list[dict[str, Any]] = []
    token = None
    while True:
        page, token = PageQuery(view, conditions(view, typed), order(view, sort), limit, token).run(connection)
        rows += page
        if token is None:
            return rows


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ([], [1, 2, 3, 4, 5, 6]),
        (["Name=LAMP"], [1, 2]),
        (["Name!=LAMP"], [3, 4, 5, 6]),
        (["Name='; DROP VIEW Product; -- "], []),
        (["Name=100% wool"], [3]),
        (["Price=2.5"], [2, 3]),
        (["price=25e-1"], [2, 3]),
        (["Price=99999999999999.9999"], [4]),
        (["Price>2.5"], [1, 4, 6]),
        (["Price>=2.5", "Price<1e1"], [2, 3]),
        (["Price<=2.5"], [2, 3, 5]),
        (["Price!=2.50"], [1, 4, 5, 6]),
        (["OutOfStock=true"], [2, 5]),
        (["OutOfStock=FALSE", "Price>=3"], [1]),
        (["OutOfStock="], [4, 6]),
        (["OutOfStock!="], [1, 2, 3, 5]),
        (["OutOfStock!=true"], [1, 3, 4, 6]),
        (["ProductId=-3"], []),
        ([" ProductId =3"], [3]),
    ],
)
def test_conditions_choose_rows(connection: Connection, typed: Sequence[str], expected: list[int]) -> None:
    assert ids(connection, *typed) == expected
    assert paging.count(connection, PRODUCT, conditions(PRODUCT, typed)) == len(expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("LAMP", [1, 2]), ("100%", [3]), ("e_c", [5]), ("", [1, 2, 3, 4, 5, 6]), ("'; DROP VIEW Product; -- ", [])],
)
def test_a_text_or_pattern_is_looked_for(connection: Connection, text: str, expected: list[int]) -> None:
    name = column_of(PRODUCT, "Name", "--name-like")
    wanted = [Condition(name, Comparison.LIKE, pattern_of(text))]

    rows, _ = PageQuery(PRODUCT, wanted, order(PRODUCT, "ProductId"), 100).run(connection)

    assert [row["ProductId"] for row in rows] == expected


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        (["Customer=a"], [("a", -1), ("a", 0), ("a", 5)]),
        (["Customer>A", "Customer<ab", "Number>=0"], [("a", 0), ("a", 5)]),
        (["At=2026-11-04T11:00:00.000001+01:00"], [("A", 0)]),
        (["At>=2026-11-05T10:00:00Z", "At<2026-11-08"], [("A", 5), ("ab", 0)]),
        (["Weight=0.7"], [("ab", 0)]),
        (["Seal=" + base64.b64encode(b"\xff\x01").decode()], [("a", 0)]),
        (["More=", "Customer!=ab"], [("A", -1), ("a", -1)]),
        (["More!=", "Amount=0"], [("A", 0), ("a", 5), ("ab", 5)]),
    ],
)
def test_conditions_compare_every_type_of_column(
    lines: Connection, typed: Sequence[str], expected: list[tuple[str, int]]
) -> None:
    rows = walked(lines, LINES, "Customer", 100, *typed)

    assert [(row["Customer"], row["Number"]) for row in rows] == expected


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("ProductId=abc", "ProductId is bigint: 'abc' is not a number"),
        ("ProductId=1.5", "1.5 is not a whole number of 64 bits"),
        ("Price=1e9999", "'1e9999' is not a number"),
        ("Price=1e99", "more than 14 digits before the point"),
        ("Price=NaN", "'NaN' is not a number"),
        ("Price<19,90", "'19,90' is not a number"),
        ("Price=0.00001", "more than 4 decimals"),
        ("Price>", "Price>: the value is missing"),
        ("OutOfStock=1", "'1' is neither true nor false"),
        ("Name=\udcff", "is not UTF-8"),
        ("Name=" + "x" * 256, "256 characters"),
        ("Colour=red", "--where: view Product has no column 'Colour'"),
        ("Price", "'Price' does not compare a name with a value"),
        ("=3", "does not compare"),
    ],
)
def test_a_condition_that_makes_no_sense_is_refused(typed: str, said: str) -> None:
    with pytest.raises(UsageError) as refused:
        conditions(PRODUCT, [typed])

    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("typed", "said"),
    [("At=yesterday", "not an RFC 3339 time"), ("Seal=é", "'é' is not base64"), ("More={}", "cqrsctl query sql")],
)
def test_a_value_of_another_type_is_refused(typed: str, said: str) -> None:
    with pytest.raises(UsageError) as refused:
        conditions(LINES, [typed])

    assert said in str(refused.value)


def test_the_closest_column_is_named() -> None:
    with pytest.raises(UsageError) as refused:
        column_of(PRODUCT, "Prise", "--sort")

    assert refused.value.hint == "Did you mean Price? It has ProductId, Name, Price, OutOfStock."


@pytest.mark.parametrize("sort", [f"{sign}{column.name}" for column in PRODUCT.columns for sign in ("", "-")])
def test_pages_together_are_the_whole_listing_in_any_order(connection: Connection, sort: str) -> None:
    whole = ids(connection, sort=sort)

    assert sorted(whole) == [1, 2, 3, 4, 5, 6]
    for limit in (1, 2, 5):
        assert [row["ProductId"] for row in walked(connection, PRODUCT, sort, limit)] == whole


@pytest.mark.parametrize("sign", ["", "-"])
def test_pages_over_a_key_of_several_columns_hold_each_row_once(lines: Connection, sign: str) -> None:
    for column, typed, limit in product(LINES.columns[:-1], ([], ["Number>=0"]), (1, 2, 4)):
        sort = f"{sign}{column.name}"
        whole = walked(lines, LINES, sort, 100, *typed)
        assert walked(lines, LINES, sort, limit, *typed) == whole
        assert len({(row["Customer"], row["Number"]) for row in whole}) == len(whole) == (6 if typed else 9)


def test_a_listing_goes_down_in_its_keys_too_and_is_read_from_an_index(connection: Connection) -> None:
    connection.execute("ALTER TABLE product_v1 ADD INDEX (Price)")
    connection.commit()
    assert ids(connection, sort="Price") == [5, 2, 3, 1, 6, 4]
    assert ids(connection, sort="-Price") == [4, 6, 1, 3, 2, 5]

    listing = PageQuery(PRODUCT, [], order(PRODUCT, "-Price"), 2)

    plan = explained(connection, listing, "Product", "product_v1", " FORCE INDEX (Price)")
    assert "filesort" not in plan
    assert "Sort:" not in plan  # as MySQL writes a plan


@pytest.mark.parametrize("sort", ["Customer", "-Customer"])
def test_a_later_page_in_the_order_of_the_key_is_a_range_of_the_primary_key(lines: Connection, sort: str) -> None:
    for number in range(500):
        lines.execute(
            "INSERT INTO lines_v1 VALUES (1, 'many', NULL, %s, NULL, NULL, NULL, 1, FALSE, NOW(6), NOW(6))", [number]
        )
    lines.commit()
    lines.query("ANALYZE TABLE lines_v1")
    _, token = PageQuery(LINES, [], order(LINES, sort), 2).run(lines)

    plan = explained(lines, PageQuery(LINES, [], order(LINES, sort), 2, token), "Lines", "lines_v1")

    assert "filesort" not in plan
    assert "'type': 'range'" in plan or "ndex range scan" in plan, plan
    assert "'key': 'PRIMARY'" in plan or "using PRIMARY" in plan, plan


def explained(connection: Connection, listing: PageQuery, view: str, table: str, force: str = "") -> str:
    """How the server finds the places of a page."""
    asked: list[tuple[str, Any]] = []

    class Watched:
        def query(self, sql: str, parameters: Any = ()) -> list[dict[str, Any]]:
            asked.append((sql, parameters))
            return connection.query(sql, parameters)

    listing.run(cast("Connection", Watched()))
    on_the_table = asked[0][0].replace(f"`{view}`", f"`{table}`{force}")
    return str(connection.query(f"EXPLAIN {on_the_table}", asked[0][1]))


def test_rows_that_are_longer_than_the_sort_buffer_are_listed_in_order(wiring: Wiring) -> None:
    wide = replace(PRODUCT, columns=(*PRODUCT.columns, Column("Notes", ColumnType.parse("json"), "Notes")))
    prepare(wiring.database, [wide])
    notes = json.dumps(["x" * 300_000])
    with connect(wiring.database) as connection:
        for key in range(1, 21):
            row = (key, "Lamp", key % 7, 0, notes)
            connection.execute("INSERT INTO product_v1 VALUES (%s, %s, %s, %s, %s, 1, FALSE, NOW(6), NOW(6))", row)
        connection.commit()
        rows = walked(connection, wide, "Price", 20)
    assert [(row["Price"], row["ProductId"]) for row in rows] == sorted(
        (row["Price"], row["ProductId"]) for row in rows
    )
    assert len(rows) == 20


def test_a_column_of_json_gives_no_order() -> None:
    with pytest.raises(UsageError, match="JSON has no order"):
        order(LINES, "-More")


@pytest.mark.parametrize("token", ["nonsense", "e30", "WzEsMiwzXQ", "💡", "W3siTiI6ICJ4In0sIDEsIFsxXV0"])
def test_a_token_that_is_none_is_refused(connection: Connection, token: str) -> None:
    with pytest.raises(UsageError, match="--after"):
        PageQuery(PRODUCT, [], order(PRODUCT, "ProductId"), 5, token).run(connection)


def test_a_token_of_another_order_or_view_is_refused(connection: Connection) -> None:
    _, token = PageQuery(PRODUCT, [], order(PRODUCT, "Price"), 1).run(connection)
    renamed = replace(PRODUCT, name="goods", view="Goods")

    for view, sort in ((PRODUCT, "Name"), (PRODUCT, "-Price"), (renamed, "Price")):
        with pytest.raises(UsageError, match="a listing of product sorted by 'Price'"):
            PageQuery(view, [], order(view, sort), 1, token).run(connection)


def test_a_row_is_read_by_the_whole_of_its_key(lines: Connection) -> None:
    customer, number = LINES.keys

    def got(first: str, second: str) -> dict[str, Any] | None:
        return paging.get(lines, LINES, [value_of(customer, first), value_of(number, second)])

    assert got("a", "6") is None
    assert got("A", "5") == {
        "Amount": Decimal(1),
        "Customer": "A",
        "At": datetime.fromisoformat("2026-11-05T10:00:00.000001"),
        "Number": 5,
        "Weight": 0.5,
        "Seal": b"\xff\x05",
        "More": {"n": 5},
    }
