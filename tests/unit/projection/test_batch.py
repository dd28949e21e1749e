"""Pages become a batch: the newest row of each key, and those that do not fit as dead letters."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from cqrsctl.change import ChangeRecord, Event, Page, Position, ShardState, version_of
from cqrsctl.projection.batch import Batch, DeadLetter, batch_of, cut, with_letter
from cqrsctl.projection.definition import Column, ColumnType, Projection, default_product
from cqrsctl.stream.retention import may_be_trimmed

STREAM = "arn:aws:dynamodb:eu-central-1:123456789012:table/Products/stream/2024-03-01T10:00:00.000"
START = datetime(2024, 3, 1, 10, tzinfo=UTC)
PRODUCT = default_product()


def good(sequence_number: int, product_id: int = 1) -> ChangeRecord:
    return ChangeRecord(
        stream_arn=STREAM,
        sequence_number=sequence_number,
        event=Event.MODIFY,
        keys={"ProductId": Decimal(product_id)},
        old_image=None,
        new_image={"Name": f"name {sequence_number}", "Price": Decimal(1)},
        created_at=START + timedelta(seconds=sequence_number),
    )


def bad(sequence_number: int) -> ChangeRecord:
    return ChangeRecord(
        stream_arn=STREAM,
        sequence_number=sequence_number,
        event=Event.INSERT,
        keys={"ProductId": Decimal(1)},
        old_image=None,
        new_image={"Name": "no price"},
        created_at=START,
    )


def page(shard: str, *changes: ChangeRecord, state: ShardState = ShardState.OPEN) -> Page:
    last = changes[-1] if changes else None
    return Page(
        changes,
        Position(
            shard,
            f"parent of {shard}",
            sequence_number=last.sequence_number if last else None,
            state=state,
            record_time=last.created_at if last else None,
            since=START,
        ),
    )


def test_good_pages_bring_all_rows_and_their_positions() -> None:
    pages = [page("a", good(1, product_id=2), good(2, product_id=1)), page("b", good(3, product_id=3))]
    batch = batch_of(pages, [PRODUCT])
    assert [(row.key, row.version) for row in batch.rows["product"]] == [
        ((1,), version_of(STREAM, 2)),
        ((2,), version_of(STREAM, 1)),
        ((3,), version_of(STREAM, 3)),
    ]
    assert batch.positions == [pages[0].position, pages[1].position]
    assert (batch.changes, batch.letters) == (3, [])


def test_changes_of_one_key_become_one_row_but_all_are_counted() -> None:
    batch = batch_of([page("a", good(1), good(2), good(3))], [PRODUCT])
    assert [row.version for row in batch.rows["product"]] == [version_of(STREAM, 3)]
    assert batch.changes == 3


def test_a_record_that_does_not_fit_becomes_a_letter_and_its_neighbours_rows() -> None:
    whole = page("a", good(1, 1), bad(2), good(3, 3), state=ShardState.FINISHED)
    batch = batch_of([whole, page("b", good(4, 4))], [PRODUCT])
    assert [row.key for row in batch.rows["product"]] == [(1,), (3,), (4,)]
    assert batch.letters == [
        DeadLetter("product", "a", whole.changes[1], "Price: the attribute Price is missing"),
    ]
    assert batch.changes == 4
    assert batch.positions[0] == whole.position


def test_a_letter_belongs_to_the_projection_that_refused_its_change() -> None:
    ids = Projection("ids", "Ids", (Column("Id", ColumnType.parse("bigint"), "ProductId", key=True),))
    batch = batch_of([page("a", bad(1))], [PRODUCT, ids])
    assert [letter.projection for letter in batch.letters] == ["product"]
    assert {name: len(rows) for name, rows in batch.rows.items()} == {"product": 0, "ids": 1}


def test_a_page_is_cut_into_what_comes_before_and_the_rest() -> None:
    whole = page("a", good(1), good(2), good(3), state=ShardState.FINISHED)
    first, rest = cut(whole, 2)
    assert (first.changes, rest.changes) == (whole.changes[:2], whole.changes[2:])
    assert first.position == Position(
        "a",
        "parent of a",
        sequence_number=2,
        state=ShardState.OPEN,
        record_time=START + timedelta(seconds=2),
        since=START,
        read_through=START + timedelta(seconds=2),
    )
    assert rest.position == whole.position


@pytest.mark.parametrize(("dated", "promised"), [(True, START + timedelta(seconds=2)), (False, None)])
def test_what_comes_before_a_cut_does_not_promise_that_the_rest_was_read(
    dated: bool, promised: datetime | None
) -> None:
    """A projector that stopped at a record, and comes back when it has left the stream, has to see the gap."""
    whole = page("a", good(1), good(2)._replace(is_dated=dated), bad(3), state=ShardState.FINISHED)
    assert whole.position is not None
    at_tip = replace(whole.position, read_through=START + timedelta(hours=20))

    first, rest = cut(Page(whole.changes, at_tip), 2)

    assert first.position is not None
    assert first.position.read_through == promised
    assert may_be_trimmed(first.position, START + timedelta(hours=25))
    assert rest.position == at_tip


def test_a_finished_shard_stays_finished() -> None:
    batch = batch_of([page("a", good(1), state=ShardState.FINISHED), page("b", good(2))], [PRODUCT])
    assert [position.state for position in batch.positions] == [ShardState.FINISHED, ShardState.OPEN]


def test_an_empty_last_page_finishes_its_shard() -> None:
    batch = batch_of([page("a", state=ShardState.FINISHED)], [PRODUCT])
    assert [(p.shard_id, p.state) for p in batch.positions] == [("a", ShardState.FINISHED)]
    assert batch.changes == 0


def test_no_pages_make_an_empty_batch() -> None:
    batch = batch_of([], [PRODUCT])
    assert batch == Batch({"product": []}, [], 0, [])


# Tables that are being built.

PRICELESS = Projection("product", "Product", PRODUCT.columns[:2])


def test_a_table_being_built_as_the_active_one_gets_the_same_rows_and_no_letters_of_its_own() -> None:
    batch = batch_of([page("a", good(1), bad(2))], [PRODUCT], [PRODUCT])
    assert batch.building == batch.rows
    assert [letter.building for letter in batch.letters] == [False]


def test_a_table_being_built_of_other_columns_gets_rows_of_those() -> None:
    batch = batch_of([page("a", good(1))], [PRODUCT], [PRICELESS])
    assert [row.values for row in batch.rows["product"]] == [("name 1", Decimal(1), False)]
    assert [row.values for row in batch.building["product"]] == [("name 1",)]


def test_what_only_the_table_being_built_cannot_take_is_a_letter_that_says_so() -> None:
    batch = batch_of([page("a", bad(1))], [PRICELESS], [PRODUCT])
    assert [row.key for row in batch.rows["product"]] == [(1,)]
    assert [row.deleted for row in batch.building["product"]] == [True]
    assert [(letter.projection, letter.building) for letter in batch.letters] == [("product", True)]


def test_a_letter_instead_of_rows_leaves_the_other_tables_rows_alone() -> None:
    whole = page("a", good(1))
    batch = batch_of([whole], [PRODUCT], [PRODUCT])
    letter = DeadLetter("product", "a", whole.changes[0], "no", building=True)
    refused = with_letter(batch, letter)
    hidden = [row.left_out() for row in batch.rows["product"]]
    assert (refused.rows, refused.building, refused.letters) == (batch.rows, {"product": hidden}, [letter])
    assert with_letter(refused, letter).building == {"product": []}
    twice = with_letter(refused, DeadLetter("product", "a", whole.changes[0], "no"))
    assert (twice.rows, twice.building, twice.letters) == ({"product": ()}, {"product": hidden}, [letter])


def test_what_only_the_table_being_built_cannot_take_hides_what_its_item_was_before() -> None:
    batch = batch_of([page("a", good(1), bad(2))], [PRICELESS], [PRODUCT])
    (hidden,) = batch.building["product"]
    assert (hidden.key, hidden.deleted, hidden.values) == ((1,), True, (None, None, None))
    assert hidden.version == bad(2).version
