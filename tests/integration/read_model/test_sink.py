"""The read model's sink on a real server: the guard, the checkpoints, the lock, the schema."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from cqrsctl.change import ChangeRecord, Event, Item, Page, Position, SequenceNumber, Value
from cqrsctl.errors import Busy, ConfigurationError, DatabaseError, TransientDatabaseError
from cqrsctl.projection.batch import Applied, Batch, batch_of
from cqrsctl.projection.definition import Column, ColumnType, Projection, default_product
from cqrsctl.read_model import heartbeat, inventory, locks, paging, query, schema
from cqrsctl.read_model.connection import connect
from cqrsctl.read_model.sink import MySqlSink, holder, prepare
from tests.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cqrsctl.change import Followers
    from cqrsctl.wiring import Wiring

ARN = "arn:aws:dynamodb:us-east-1:123456789012:table/Products/stream/2026-11-23T10:00:00.000"
NEWER_ARN = ARN.replace("2026-11-23", "2026-11-24")
PRODUCT = default_product()


def change(sequence: int, product: int, name: str | None = "Lamp", arn: str = ARN) -> ChangeRecord:
    """An insert of a product, or with no name its removal."""
    keys: Item = {"ProductId": Decimal(product)}
    image: Item = {**keys, "Name": name, "Price": Decimal("1.5")}
    return ChangeRecord(
        stream_arn=arn,
        sequence_number=sequence,
        event=Event.REMOVE if name is None else Event.INSERT,
        keys=keys,
        old_image=image if name is None else None,
        new_image=None if name is None else image,
        created_at=datetime(2026, 11, 23, 12, tzinfo=UTC),
    )


def batch(*changes: ChangeRecord, shard: str = "shard-1") -> Batch:
    position = Position(shard, None, changes[-1].sequence_number if changes else None)
    return batch_of([Page(changes, position)], [PRODUCT])


@pytest.fixture
def sink(wiring: Wiring) -> Iterator[MySqlSink]:
    opened = make_sink(wiring)
    opened.open()
    yield opened
    opened.close()


def make_sink(wiring: Wiring, arn: str = ARN, projections: tuple[Projection, ...] = (PRODUCT,)) -> MySqlSink:
    return MySqlSink(lambda: wiring.database, projections, arn, lambda: 0.0)


def names(wiring: Wiring) -> dict[int, str]:
    with connect(wiring.database) as connection:
        return {row["ProductId"]: row["Name"] for row in connection.query("SELECT * FROM Product")}


def test_written_and_stale_rows_are_counted_exactly(sink: MySqlSink, wiring: Wiring) -> None:
    assert sink.apply(batch(change(5, 1))) == Applied(1, 0)
    assert sink.apply(batch(change(5, 1))) == Applied(0, 1)
    assert sink.apply(batch(change(4, 1, "old"), change(6, 2), change(7, 3))) == Applied(2, 1)
    assert sink.apply(batch(change(8, 1, "new"), change(9, 2, "new"), change(7, 3))) == Applied(2, 1)
    assert names(wiring) == {1: "new", 2: "new", 3: "Lamp"}


def test_a_tombstone_keeps_nothing_but_key_and_version(sink: MySqlSink, wiring: Wiring) -> None:
    sink.apply(batch(change(1, 1), change(2, 1, None)))

    with connect(wiring.database) as connection:
        (row,) = connection.query("SELECT * FROM product_v1")
    assert (row["Name"], row["Price"], row["_deleted"]) == (None, None, 1)
    assert row["_version"] == change(2, 1).version


def test_rows_and_checkpoints_commit_together_or_not_at_all(sink: MySqlSink, wiring: Wiring) -> None:
    sink.apply(batch(change(1, 1)))
    too_long = replace(batch(change(2, 2)), positions=[Position("x" * 66, None, 2)])

    with pytest.raises(DatabaseError):
        sink.apply(too_long)

    assert names(wiring) == {1: "Lamp"}
    assert sink.open()["product"]["shard-1"].sequence_number == 1


def test_a_newer_stream_wins_although_its_sequence_numbers_start_over(sink: MySqlSink, wiring: Wiring) -> None:
    sink.apply(batch(change(10**30, 1, "old table")))

    assert sink.apply(batch(change(1, 1, "new table", NEWER_ARN))) == Applied(1, 0)
    assert names(wiring) == {1: "new table"}


def test_a_second_sink_is_refused_until_the_first_lets_go(sink: MySqlSink, wiring: Wiring) -> None:
    second = make_sink(wiring)
    with connect(wiring.database) as connection:
        heartbeat.write(connection, f"{heartbeat.FUNCTION} beside it")
        connection.commit()
    with pytest.raises(Busy, match=rf"held by another projector: {holder()}\.$"):
        second.open()
    sink.close()

    wait_for(lambda: opens(second, []), "the server gives up the first one's lock")
    second.close()


def test_a_killed_connection_is_transient_and_nothing_of_its_transaction_stays(sink: MySqlSink, wiring: Wiring) -> None:
    sink.apply(batch(change(1, 1)))
    lock = locks.of_projector(wiring.database.database, "product")
    with connect(wiring.database) as connection:
        (found,) = connection.query("SELECT IS_USED_LOCK(%s) AS id", (lock,))
        connection.execute(f"KILL {int(found['id'])}")

    with pytest.raises(TransientDatabaseError):
        sink.apply(batch(change(2, 2)))

    assert names(wiring) == {1: "Lamp"}
    opened: list[Followers] = []
    wait_for(lambda: opens(sink, opened), "the server gives up the lock of the killed connection")
    assert opened[0]["product"]["shard-1"].sequence_number == 1


def opens(sink: MySqlSink, opened: list[Followers]) -> bool:
    """Whether a sink could be opened, and what it then said."""
    try:
        opened.append(sink.open())
    except Busy:
        return False
    return True


def test_a_batch_of_many_large_rows_is_split_over_statements(sink: MySqlSink, wiring: Wiring) -> None:
    changes = [change(number, number, "💡" * 255) for number in range(1, 6_001)]

    assert sink.apply(batch(*changes)) == Applied(6_000, 0)
    with connect(wiring.database) as connection:
        assert paging.count(connection, PRODUCT, []) == 6_000


def test_a_new_projection_is_brought_up_alone_and_then_shares_the_transaction(wiring: Wiring) -> None:
    narrow = Projection(
        "stock",
        "Stock",
        (
            Column("Id", ColumnType.parse("bigint"), "ProductId", key=True),
            Column("Sold", ColumnType.parse("boolean"), "OutOfStock", index=True),
        ),
    )
    first = make_sink(wiring)
    first.open()
    first.apply(batch(change(5, 1)))
    first.close()
    both = make_sink(wiring, projections=(PRODUCT, narrow))
    with pytest.raises(ConfigurationError, match="Projection stock is new") as caught:
        both.open()
    assert "rebuild --projection stock" in (caught.value.hint or "")
    both.close()
    alone = make_sink(wiring, projections=(narrow,))
    assert alone.open() == {"stock": {}}
    alone.apply(batch_of([Page((change(4, 1),), Position("shard-1", None, SequenceNumber("4")))], [narrow]))
    alone.close()

    opened = both.open()
    assert {name: positions["shard-1"].sequence_number for name, positions in opened.items()} == {
        "product": 5,
        "stock": 4,
    }
    both.apply(batch_of([Page((change(5, 1), change(6, 2)), Position("shard-1", None, 6))], [PRODUCT, narrow]))
    assert {positions["shard-1"].sequence_number for positions in both.open().values()} == {6}
    both.close()
    with connect(wiring.database) as connection:
        assert [row["Id"] for row in connection.query("SELECT * FROM Stock")] == [1, 2]


def test_a_table_made_from_another_declaration_is_refused_naming_the_difference(wiring: Wiring) -> None:
    prepare(wiring.database, [PRODUCT])
    columns = [*PRODUCT.columns[:2], Column("Colour", ColumnType.parse("varchar(9)"), "Colour")]

    with pytest.raises(DatabaseError, match="column Colour is new; column OutOfStock is gone; column Price is gone"):
        prepare(wiring.database, [Projection("product", "Product", tuple(columns))])


def test_a_condition_that_is_1_and_was_true_is_another_declaration(wiring: Wiring) -> None:
    prepare(wiring.database, [replace(PRODUCT, where=(("OutOfStock", True),))])

    with pytest.raises(DatabaseError, match=r"where: was .*true.*, is .*1") as refused:
        prepare(wiring.database, [replace(PRODUCT, where=(("OutOfStock", Decimal(1)),))])
    assert refused.value.code == "schema_differs"


def test_every_column_type_holds_its_values_exactly(wiring: Wiring) -> None:
    kinds: dict[str, tuple[str, Value]] = {
        "A": ("decimal(38,10)", Decimal("1234567890123456789012345678.0123456789")),
        "B": ("double", Decimal("0.1")),
        "C": ("datetime", "2026-11-23T10:00:00.123456+02:00"),
        "D": ("json", {"list": [Decimal(1), None, True], "ä": Decimal("0.5")}),
        "E": ("varbinary(16)", b"\x00\xff"),
        "F": ("text", "long\0text"),
    }
    columns = [Column("Id", ColumnType.parse("varchar(20)"), "Id", key=True)]
    columns += [Column(name, ColumnType.parse(kind), name) for name, (kind, _) in kinds.items()]
    projection = Projection("wide", "Wide", tuple(columns))
    keys: Item = {"Id": "a"}
    image: Item = {**keys, **{name: value for name, (_, value) in kinds.items()}}
    record = ChangeRecord(ARN, 1, Event.INSERT, keys, None, image, datetime(2026, 11, 23, tzinfo=UTC))
    upper = ChangeRecord(ARN, 2, Event.INSERT, {"Id": "A"}, None, {"Id": "A"}, datetime(2026, 11, 23, tzinfo=UTC))
    sink = make_sink(wiring, projections=(projection,))
    sink.open()

    sink.apply(batch_of([Page((record, upper), Position("s", None, 2))], [projection]))
    sink.close()

    with connect(wiring.database) as connection:
        rows = query.rows_by_key(connection, projection, [("a",), ("A",)])
    assert set(rows) == {("a",), ("A",)}
    expected: dict[str, object] = {
        "Id": "a",
        "A": kinds["A"][1],
        "B": 0.1,
        "C": datetime(2026, 11, 23, 8, 0, 0, 123456),  # noqa: DTZ001 -- as the driver returns it
        "D": {"list": [1, None, True], "ä": 0.5},
        "E": b"\x00\xff",
        "F": "long\0text",
    }
    assert rows["a",] == expected


def test_a_unique_index_of_ones_own_is_refused_since_two_items_would_share_a_row(sink: MySqlSink) -> None:
    sink.apply(batch(change(1, 1)))
    assert sink._open is not None
    sink._open.connection.execute("ALTER TABLE product_v1 ADD UNIQUE KEY one_name (Name)")

    with pytest.raises(DatabaseError, match=r"product_v1\.one_name") as raised:
        sink.open()
    assert raised.value.code == "unique_index"


def test_a_drop_that_ended_half_way_is_told_and_can_be_done_again(sink: MySqlSink, wiring: Wiring) -> None:
    sink.apply(batch(change(1, 1)))
    sink.close()
    with connect(wiring.database) as connection:
        connection.execute("DROP TABLE product_v1")
        with pytest.raises(DatabaseError, match="a drop ended half-way"):
            sink.open()
        (stored,) = inventory.read(connection, wiring.database.database, [PRODUCT]).projections
        assert stored.all_differences == ("table product_v1 is gone",)
        schema.drop(connection, [PRODUCT])
        assert connection.query("SHOW TABLES") == []


def test_dropping_leaves_an_empty_database(sink: MySqlSink, wiring: Wiring) -> None:
    sink.apply(batch(change(1, 1)))
    sink.close()
    with connect(wiring.database) as connection:
        assert schema.drop(connection, [PRODUCT]) == ["product_v1"]
        assert connection.query("SHOW TABLES") == []
