"""A projection that is declared from a table's items holds each of them."""

from __future__ import annotations

import tomllib
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cqrsctl.projection.inference import inferred
from cqrsctl.settings_file import SettingsFile, checked, declared_projections, projection_toml

if TYPE_CHECKING:
    from cqrsctl.change import Value

KEY = (("OrderId", "S"), ("Line", "N"))
numbers = st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**20), max_value=10**20, places=6)
scalars = st.one_of(st.booleans(), numbers, st.text(max_size=400), st.binary(max_size=400))
values = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=4)
items = st.fixed_dictionaries({"OrderId": st.text(min_size=1, max_size=700), "Line": numbers})


def types(*values: Value) -> str:
    found = inferred("Orders", KEY, [{"OrderId": "1", "Line": Decimal(1), "A": value} for value in values])
    column = found.projection.column("A")
    return str(column.type) if column else found.left_out["A"]


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        ((Decimal(1), Decimal(-5)), "bigint"),
        ((Decimal(1), Decimal("19.9")), "decimal(18,4)"),
        ((Decimal("0.1234567"), Decimal(10**18)), "decimal(38,10)"),
        ((Decimal(10) ** 30, Decimal("1e-25")), "decimal(65,30)"),
        ((Decimal("1e100"),), "double"),
        (
            (Decimal("1.2345678901234567890123e-100"),),
            "1.2345678901234567890123E-100 has more digits than a double keeps",
        ),
        (("Lamp",), "varchar(255)"),
        (("x" * 200,), "varchar(1000)"),
        (("x" * 20_000,), "text"),
        (("x" * 70_000,), "70000 bytes, where 65535 fit"),
        ((b"x",), "varbinary(255)"),
        ((b"x" * 17_000,), "json"),
        ((True, False), "boolean"),
        ((True, Decimal(1)), "json"),
        (("2026-11-30T00:00:00Z",), "varchar(255)"),
        (([Decimal(1)],), "json"),
        ((None, "Lamp"), "varchar(255)"),
    ],
)
def test_a_column_is_as_narrow_as_its_values_allow(seen: tuple[Value, ...], expected: str) -> None:
    assert types(*seen) == expected


def test_the_key_alone_is_required_and_an_empty_table_has_its_key() -> None:
    found = inferred("Orders", KEY, []).projection

    assert [(column.name, str(column.type), column.key) for column in found.columns] == [
        ("OrderId", "varchar(255)", True),
        ("Line", "bigint", True),
    ]
    assert (found.name, found.view) == ("orders", "Orders")


def test_a_key_that_no_column_holds_is_refused() -> None:
    with pytest.raises(ValueError, match=r"OrderId: 800 characters, where 768 fit"):
        inferred("Orders", KEY, [{"OrderId": "x" * 800, "Line": Decimal(1)}])


def test_odd_names_become_columns_and_what_cannot_be_named_is_left_out() -> None:
    names = ["first name", "first-name", "First_Name", "1st", "_version", "café", "a.b", "x" * 200]

    found = inferred("Orders", KEY, [{"OrderId": "1", "Line": Decimal(1), **dict.fromkeys(names, "x")}])

    columns = {column.attribute: column.name for column in found.projection.values}
    assert columns == {
        "first name": "first_name",
        "first-name": "first_name_2",
        "First_Name": "First_Name_3",
        "1st": "a_1st",
        "_version": "a_version",
        "café": "caf_",
        "x" * 200: "x" * 44,
    }
    assert found.left_out == {"a.b": "a column cannot name an attribute with a dot"}


def test_of_hundreds_of_attributes_the_most_frequent_become_columns_of_a_row_that_mysql_takes() -> None:
    often: dict[str, Value] = {f"often{number}": "x" for number in range(200)}
    seldom: dict[str, Value] = {f"seldom{number}": "x" for number in range(300)}
    key: dict[str, Value] = {"OrderId": "1", "Line": Decimal(1)}

    found = inferred("Orders", KEY, [key | seldom | often, key | often])

    assert {column.attribute for column in found.projection.values} == set(often)
    assert set(found.left_out) == set(seldom)
    assert sum(column.type.bytes for column in found.projection.columns) < 65_535


@pytest.mark.parametrize("table", ["cqrs_orders", "orders_v1", "9-lives", "...", "a.b-C", "x" * 255])
def test_every_name_of_a_table_gives_a_projection(table: str) -> None:
    assert inferred(table, KEY, []).projection.keys


@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.lists(st.builds(dict.__or__, items, st.dictionaries(st.text(min_size=1), values, max_size=5)), max_size=5))
def test_what_is_declared_holds_every_item_and_reads_back_from_a_file(seen: list[dict[str, Value]]) -> None:
    found = inferred("Orders", KEY, seen)

    content = tomllib.loads(projection_toml(found.projection))
    assert declared_projections(checked(content, SettingsFile, "file"), "file") == (found.projection,)
    for item in seen:
        for column in found.projection.values:
            column.of(item)
