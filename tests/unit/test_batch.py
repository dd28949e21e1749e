"""Pages become a batch: what stands before a bad record is kept, nothing after it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from cqrsctl.change import ChangeRecord, Event, Page, Position, ShardState, version_of
from cqrsctl.projection.batch import batch_of
from cqrsctl.projection.definition import Column, ColumnType, Projection, default_product

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
    assert (batch.changes, batch.bad) == (3, None)


def test_changes_of_one_key_become_one_row_but_all_are_counted() -> None:
    batch = batch_of([page("a", good(1), good(2), good(3))], [PRODUCT])
    assert [row.version for row in batch.rows["product"]] == [version_of(STREAM, 3)]
    assert batch.changes == 3


def test_what_stands_before_a_bad_record_is_kept_with_its_position() -> None:
    batch = batch_of([page("a", good(1, 1), good(2, 2), bad(3), good(4, 4))], [PRODUCT])
    assert [row.key for row in batch.rows["product"]] == [(1,), (2,)]
    assert batch.changes == 2
    assert batch.positions == [
        Position(
            "a",
            "parent of a",
            sequence_number=2,
            state=ShardState.OPEN,
            record_time=START + timedelta(seconds=2),
            since=START,
        )
    ]


def test_a_shard_is_not_finished_when_a_bad_record_stands_in_its_last_page() -> None:
    batch = batch_of([page("a", good(1), bad(2), state=ShardState.FINISHED)], [PRODUCT])
    assert [position.state for position in batch.positions] == [ShardState.OPEN]


def test_a_shard_whose_first_record_is_bad_does_not_move() -> None:
    batch = batch_of([page("a", bad(1), good(2), state=ShardState.FINISHED)], [PRODUCT])
    assert (batch.positions, batch.rows["product"], batch.changes) == ([], [], 0)
    assert batch.bad is not None


@pytest.mark.parametrize("bad_first", [True, False])
def test_a_bad_record_does_not_hold_up_other_shards(bad_first: bool) -> None:
    pages = [page("a", bad(1)), page("b", good(2, 2), good(3, 3))]
    batch = batch_of(pages if bad_first else reversed(pages), [PRODUCT])
    assert [row.key for row in batch.rows["product"]] == [(2,), (3,)]
    assert batch.positions == [pages[1].position]
    assert batch.bad is not None


def test_a_finished_shard_stays_finished() -> None:
    batch = batch_of([page("a", good(1), state=ShardState.FINISHED), page("b", good(2))], [PRODUCT])
    assert [position.state for position in batch.positions] == [ShardState.FINISHED, ShardState.OPEN]


def test_an_empty_last_page_finishes_its_shard() -> None:
    batch = batch_of([page("a", state=ShardState.FINISHED)], [PRODUCT])
    assert [(p.shard_id, p.state) for p in batch.positions] == [("a", ShardState.FINISHED)]
    assert batch.changes == 0


def test_the_first_bad_record_is_the_one_that_is_named() -> None:
    batch = batch_of([page("a", good(1), bad(2)), page("b", bad(3))], [PRODUCT])
    assert batch.bad is not None
    assert "INSERT of ProductId 1 (sequence number 2) does not fit projection product" in batch.bad.message
    assert "Price: the attribute Price is missing" in batch.bad.message


def test_no_projection_gets_a_record_that_another_one_refuses() -> None:
    ids = Projection("ids", "Ids", (Column("Id", ColumnType.parse("bigint"), "ProductId", key=True),))
    for projections in ([PRODUCT, ids], [ids, PRODUCT]):
        batch = batch_of([page("a", good(1, 1), bad(2), good(3, 3))], projections)
        assert {name: [row.key for row in rows] for name, rows in batch.rows.items()} == {
            "product": [(1,)],
            "ids": [(1,)],
        }


def test_no_pages_make_an_empty_batch() -> None:
    batch = batch_of([], [PRODUCT])
    assert (batch.rows, batch.positions, batch.changes, batch.bad) == ({"product": []}, [], 0, None)
