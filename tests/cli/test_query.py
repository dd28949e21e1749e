"""Any declared view queried by the installed command."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.cli.test_bad_input import error
from tests.pipelines import create_table_of_lines

if TYPE_CHECKING:
    from cqrsctl.wiring import Wiring
    from tests.conftest import Cqrsctl

LINES = """
[[projections]]
name = "lines"
view = "Lines"
columns = [
  { name = "Customer", type = "varchar(20)", key = true },
  { name = "Number", type = "bigint", key = true },
  { name = "Pieces", type = "decimal(10,0)" },
  { name = "Price", type = "decimal(18,4)", index = true },
  { name = "At", type = "datetime" },
]
"""
SHORT = """
[[projections]]
name = "short"
view = "Short"
columns = [
  { name = "Customer", type = "varchar(20)", key = true },
  { name = "Number", type = "bigint", key = true },
]
"""


@pytest.fixture
def orders(cqrsctl: Cqrsctl, wiring: Wiring) -> Cqrsctl:
    """A pipeline of order lines, whose key has two parts, projected into two views."""
    (cqrsctl.directory / "cqrsctl.toml").write_text(LINES + SHORT)
    table = create_table_of_lines(wiring, "Customer", "Number")
    for customer, number, pieces, price in (("ann", 1, 3, "19.9"), ("ann", 2, 10, "0.1234"), ("bob", 1, 7, "250")):
        item = {"Customer": {"S": customer}, "Number": {"N": str(number)}, "Pieces": {"N": str(pieces)}}
        more = {"Price": {"N": price}, "At": {"S": f"2026-11-0{number}T10:00:00Z"}}
        wiring.dynamodb.put_item(TableName=table, Item={**item, **more})
    cqrsctl.ok("project", "--once")
    return cqrsctl


def listed(command: Cqrsctl, *arguments: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = command.ok("query", "list", "-o", "json", "--projection", "lines", *arguments).json()
    return rows


def test_rows_of_any_view_are_listed_counted_and_read_by_their_whole_key(orders: Cqrsctl) -> None:
    first = {"Customer": "ann", "Number": 1, "Pieces": "3", "Price": "19.90", "At": "2026-11-01T10:00:00Z"}

    assert orders.ok("query", "get", "ann", "1", "--projection", "lines", "-o", "json").json() == first
    assert listed(orders, "--where", "Price<=19.9", "--where", "Customer=ann", "--sort", "-Price")[0] == first
    assert [row["Price"] for row in listed(orders, "--sort", "Pieces")] == ["19.90", "250.00", "0.1234"]
    assert orders.ok("query", "count", "--projection", "lines", "--where", "At>=2026-11-02").out == "1\n"
    assert orders.ok("query", "count", "--projection", "short", "--where", "Number=1").out == "2\n"


def test_the_token_of_a_page_leads_to_the_next_one_over_a_key_of_two_columns(orders: Cqrsctl) -> None:
    keys: list[tuple[str, int]] = []
    after: list[str] = []
    while True:
        page = orders.ok("query", "list", "--projection", "lines", "-n", "1", "-o", "jsonl", *after)
        keys += [(row["Customer"], row["Number"]) for row in page.lines()]
        if "--after" not in page.err:
            break
        after = ["--after", page.err.split("--after ")[1].strip()]

    assert keys == [("ann", 1), ("ann", 2), ("bob", 1)]


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (["list"], "Which projection's view? Name it with --projection.", "Declared are lines, short."),
        (
            ["list", "--projection", "line"],
            "There is no projection 'line'.",
            "Did you mean lines? Declared are lines, short.",
        ),
        (
            ["count", "--projection", "short", "--in-stock"],
            "--in-stock is for projection product, not short.",
            "Use --where with a column: Customer, Number.",
        ),
        (
            ["list", "--projection", "short", "--where", "Nummer=1"],
            "--where: view Short has no column 'Nummer'.",
            "Did you mean Number? It has Customer, Number.",
        ),
        (["get", "ann", "--projection", "short"], "The key of view Short is Customer, Number: 2 values, not 1.", None),
        (["get", "ann", "x", "--projection", "short"], "Number is bigint: 'x' is not a number.", None),
        (["list", "--projection", "lines", "--where", "Price"], "'Price' does not compare", None),
        (["count", "--from", "writer", "--max-staleness", "1s", "--projection", "short"], "--max-staleness", None),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_queried_is_wrong_usage(
    cqrsctl: Cqrsctl, arguments: list[str], message: str, hint: str | None
) -> None:
    (cqrsctl.directory / "cqrsctl.toml").write_text(LINES + SHORT)

    refused = cqrsctl("query", *arguments, "-o", "json")

    assert refused.code == 2
    assert message in error(refused)["message"]
    assert hint is None or error(refused)["hint"] == hint


def test_a_row_that_is_not_there_is_named_by_its_key(orders: Cqrsctl) -> None:
    missing = orders("query", "get", "ann", "3", "--projection", "lines")

    assert missing.code == 1
    assert "View Lines has no row with Customer ann, Number 3." in missing.err


def test_products_are_queried_by_default_beside_other_projections(cqrsctl: Cqrsctl) -> None:
    columns = '[{ name = "ProductId", type = "bigint", key = true }, { name = "Price", type = "decimal(18,4)" }]'
    (cqrsctl.directory / "cqrsctl.toml").write_text(
        "".join(
            f'[[projections]]\nname = "{name}"\nview = "{view}"\ncolumns = {columns}\n'
            for name, view in (("cheap", "Cheap"), ("product", "Product"))
        )
    )
    cqrsctl.ok("table", "create")
    cqrsctl.ok("product", "put", "1", "--name", "Lamp", "--price", "19.9")
    cqrsctl.ok("project", "--once")

    assert json.loads(cqrsctl.ok("query", "get", "1", "-o", "json").out) == {"ProductId": 1, "Price": "19.90"}
    assert cqrsctl.ok("query", "count", "--max-price", "19.90").out == "1\n"
    unnamed = cqrsctl("query", "count", "--name-like", "x", "-o", "json")
    assert (unnamed.code, error(unnamed)["message"]) == (2, "--name-like: view Product has no column 'Name'.")
