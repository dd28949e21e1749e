"""A change becomes a row; of several rows of a key the newest stays."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cqrsctl.change import ChangeRecord, Event, version_of
from cqrsctl.projection.declaration import conditions
from cqrsctl.projection.definition import Column, ColumnType, Projection, default_product
from cqrsctl.projection.fitting import Misfit
from cqrsctl.projection.rows import Row, newest_per_key, row_of

if TYPE_CHECKING:
    from cqrsctl.change import Item

STREAM = "arn:aws:dynamodb:eu-central-1:123456789012:table/Products/stream/2024-03-01T10:00:00.000"
MOMENT = datetime(2024, 3, 1, 10, 5, tzinfo=UTC)
LAMP: Item = {"ProductId": Decimal(7), "Name": "Lamp", "Price": Decimal("19.90"), "OutOfStock": True}


def change(event: Event, new_image: Item | None, sequence_number: int = 100) -> ChangeRecord:
    return ChangeRecord(
        stream_arn=STREAM,
        sequence_number=sequence_number,
        event=event,
        keys={"ProductId": Decimal(7)},
        old_image=None if event is Event.INSERT else LAMP,
        new_image=new_image,
        created_at=MOMENT,
    )


@pytest.mark.parametrize("event", [Event.INSERT, Event.MODIFY])
def test_an_insert_and_a_modify_leave_the_new_images_values(event: Event) -> None:
    assert row_of(default_product(), change(event, LAMP)) == Row(
        key=(7,),
        values=("Lamp", Decimal("19.90"), True),
        version=version_of(STREAM, 100),
        deleted=False,
        changed_at=MOMENT,
    )


def test_a_modify_does_not_look_at_the_old_image() -> None:
    named_anew = {**LAMP, "Name": "Lantern"}
    assert row_of(default_product(), change(Event.MODIFY, named_anew)).values[0] == "Lantern"


def test_a_remove_leaves_a_tombstone_with_its_key_and_version() -> None:
    assert row_of(default_product(), change(Event.REMOVE, None)) == Row(
        key=(7,),
        values=(None, None, None),
        version=version_of(STREAM, 100),
        deleted=True,
        changed_at=MOMENT,
    )


def test_an_item_that_the_view_leaves_out_leaves_a_tombstone_whatever_its_other_values_are() -> None:
    sold_out = Projection("sold_out", "SoldOut", default_product().columns, conditions({"OutOfStock": True}))
    in_stock: Item = {"ProductId": Decimal(7), "OutOfStock": False}
    found = row_of(sold_out, change(Event.MODIFY, in_stock))
    assert (found.key, found.values, found.deleted) == ((7,), (None, None, None), True)
    assert not row_of(sold_out, change(Event.MODIFY, LAMP)).deleted


def test_a_remove_needs_no_images() -> None:
    keys_only = change(Event.REMOVE, None)._replace(old_image=None)
    assert row_of(default_product(), keys_only).deleted


def test_a_default_stands_in_for_an_attribute_that_the_item_lacks() -> None:
    image = {name: value for name, value in LAMP.items() if name != "OutOfStock"}
    assert row_of(default_product(), change(Event.INSERT, image)).values[2] is False


def test_attributes_that_are_not_declared_are_left_out() -> None:
    image: Item = {**LAMP, "Colour": "blue"}
    assert row_of(default_product(), change(Event.INSERT, image)).values == ("Lamp", Decimal("19.90"), True)


def test_an_item_that_does_not_fit_is_refused_naming_the_column() -> None:
    with pytest.raises(Misfit, match=r"^Price: 1\.00001 has more than 4 decimals$"):
        row_of(default_product(), change(Event.INSERT, {**LAMP, "Price": Decimal("1.00001")}))


@pytest.mark.parametrize("event", [Event.INSERT, Event.MODIFY])
def test_a_stream_without_new_images_is_refused(event: Event) -> None:
    with pytest.raises(Misfit, match="the record has no new image"):
        row_of(default_product(), change(event, None))


@pytest.mark.parametrize("event", list(Event))
def test_a_table_with_a_sort_key_does_not_match_a_key_without_one(event: Event) -> None:
    keys: Item = {"ProductId": Decimal(7), "Version": Decimal(1)}
    with pytest.raises(Misfit, match="the table's key is ProductId, Version, but projection product has the key Prod"):
        row_of(default_product(), change(event, LAMP)._replace(keys=keys))


def test_a_key_that_the_table_does_not_have_is_refused() -> None:
    with pytest.raises(Misfit, match="the table's key is Sku, but"):
        row_of(default_product(), change(Event.INSERT, LAMP)._replace(keys={"Sku": "a"}))


def test_a_key_of_two_columns_stands_in_the_order_of_the_declaration() -> None:
    projection = Projection(
        "stock",
        "Stock",
        (
            Column("Place", ColumnType.parse("varchar(20)"), "Place", key=True),
            Column("Amount", ColumnType.parse("bigint"), "Amount"),
            Column("ProductId", ColumnType.parse("bigint"), "ProductId", key=True),
        ),
    )
    keys: Item = {"ProductId": Decimal(7), "Place": "Ulm"}
    stocked = change(Event.INSERT, {**keys, "Amount": Decimal(3)})._replace(keys=keys)
    row = row_of(projection, stocked)
    assert (row.key, row.values) == (("Ulm", 7), (3,))


def row(key: int, version: int) -> Row:
    return Row((key,), (f"value {version}",), version, deleted=version % 3 == 0, changed_at=MOMENT)


def test_of_several_rows_of_a_key_the_newest_stays() -> None:
    assert newest_per_key([row(1, 5), row(1, 9), row(1, 7)]) == [row(1, 9)]


def test_a_tombstone_is_newer_or_older_like_any_row() -> None:
    assert newest_per_key([row(1, 3), row(1, 2)])[0].deleted
    assert not newest_per_key([row(1, 3), row(1, 4)])[0].deleted


def test_rows_come_in_the_order_of_their_keys() -> None:
    assert [made.key for made in newest_per_key([row(10, 1), row(9, 2), row(-1, 3)])] == [(-1,), (9,), (10,)]


def test_no_rows_stay_no_rows() -> None:
    assert newest_per_key([]) == []


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 10**60)), unique=True).flatmap(
        lambda pairs: st.tuples(st.just(pairs), st.permutations(pairs))
    )
)
def test_the_order_of_arrival_changes_nothing(orders: tuple[list[tuple[int, int]], list[tuple[int, int]]]) -> None:
    first, second = orders
    made = newest_per_key(row(*pair) for pair in first)
    assert made == newest_per_key(row(*pair) for pair in second)
    assert {kept.key[0]: kept.version for kept in made} == {
        key: max(version for other, version in first if other == key) for key, _ in first
    }
