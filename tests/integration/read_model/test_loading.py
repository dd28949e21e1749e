"""Loading a snapshot: by file and by inserts, each value comes in exactly as it was, or not at all."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from cqrsctl.errors import DatabaseError, ValueRejected
from cqrsctl.projection.definition import Column, ColumnType, Projection
from cqrsctl.projection.rows import Row, snapshot_rows
from cqrsctl.projection.tables import PhysicalTable
from cqrsctl.read_model import schema
from cqrsctl.read_model.connection import connect
from cqrsctl.read_model.loading import Loader
from cqrsctl.read_model.sink import prepare

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cqrsctl.change import Item
    from cqrsctl.read_model.connection import Connection
    from cqrsctl.wiring import Wiring

NOW = datetime(2026, 11, 23, tzinfo=UTC)
WIDE = Projection(
    "wide",
    "Wide",
    (
        Column("Code", ColumnType.parse("varbinary(8)"), "Code", key=True),
        Column("Number", ColumnType.parse("bigint"), "Number", key=True),
        *(
            Column(name, ColumnType.parse(kind), name)
            for name, kind in {
                "Short": "varchar(40)",
                "Long": "text",
                "Price": "decimal(38,10)",
                "Ratio": "double",
                "Sold": "boolean",
                "Made": "datetime",
                "Rest": "json",
                "Raw": "varbinary(300)",
            }.items()
        ),
    ),
)
TABLE = PhysicalTable(WIDE, 2)


@pytest.fixture
def connection(wiring: Wiring) -> Iterator[Connection]:
    prepare(wiring.database, [WIDE])
    with connect(wiring.database, bulk=True) as connection:
        connection.execute(schema.table_ddl(TABLE, indexed=False))
        yield connection


def load(connection: Connection, items: list[Item], *, by_file: bool) -> None:
    rows, unfit = snapshot_rows(WIDE, items, NOW)
    assert not unfit
    loader = Loader(connection, TABLE, by_file=by_file)
    loader.load(loader.chunk(rows))
    connection.commit()


@pytest.mark.parametrize("by_file", [True, False])
def test_every_type_and_every_character_comes_in_exactly(connection: Connection, by_file: bool) -> None:
    awkward = "a\tb\nc\\d\0e'f\"g\r\\N\\.\x1a 😀ä`"
    items: list[Item] = [
        {
            "Code": b"\x00\xff\\\t",
            "Number": Decimal(-(2**63)),
            "Short": awkward,
            "Long": awkward * 200,
            "Price": Decimal("-1234567890123456789012345678.0123456789"),
            "Ratio": Decimal("0.1"),
            "Sold": True,
            "Made": "2026-11-23T10:00:00.123456+02:00",
            "Rest": {"list": [Decimal(1), None, awkward]},
            "Raw": bytes(range(256)),
        },
        {"Code": b"", "Number": Decimal(1), "Short": "", "Long": "\\N", "Raw": b""},
        {"Code": b"", "Number": Decimal("1E+3"), "Price": Decimal("1E+3"), "Ratio": Decimal("1E-300"), "Sold": False},
    ]
    load(connection, items, by_file=by_file)

    rows = connection.query(f"SELECT * FROM {TABLE.name} ORDER BY Number")

    assert [row["Short"] for row in rows] == [awkward, "", None]
    assert [row["Long"] for row in rows] == [awkward * 200, "\\N", None]
    assert [row["Code"] for row in rows] == [b"\x00\xff\\\t", b"", b""]
    assert [row["Number"] for row in rows] == [-(2**63), 1, 1_000]
    assert [row["Price"] for row in rows] == [items[0]["Price"], None, Decimal(1_000)]
    assert [row["Ratio"] for row in rows] == [0.1, None, 1e-300]
    assert [row["Sold"] for row in rows] == [1, None, 0]
    assert rows[0]["Made"] == datetime(2026, 11, 23, 8, 0, 0, 123456)  # noqa: DTZ001 -- UTC in the database
    assert rows[0]["Rest"].count("\\u0000") == 1
    assert [row["Raw"] for row in rows] == [bytes(range(256)), b"", None]
    assert {(row["_version"], row["_deleted"]) for row in rows} == {(Decimal(0), 0)}


@pytest.mark.parametrize("by_file", [True, False])
def test_a_row_that_is_there_already_stays_as_it_is(connection: Connection, by_file: bool) -> None:
    load(connection, [{"Code": b"a", "Number": Decimal(1), "Short": "streamed"}], by_file=by_file)
    connection.execute(f"UPDATE {TABLE.name} SET _version = 7")
    more: list[Item] = [{"Code": b"a", "Number": Decimal(number), "Short": "snapshot"} for number in range(4)]
    load(connection, more, by_file=by_file)
    rows = connection.query(f"SELECT Number, Short, _version FROM {TABLE.name} ORDER BY Number")
    assert [(row["Short"], int(row["_version"])) for row in rows] == [
        ("snapshot", 0),
        ("streamed", 7),
        ("snapshot", 0),
        ("snapshot", 0),
    ]


@pytest.mark.parametrize(("by_file", "error"), [(True, ValueRejected), (False, DatabaseError)])
def test_a_value_that_the_server_would_bend_is_refused(
    connection: Connection, by_file: bool, error: type[DatabaseError]
) -> None:
    values: tuple[Any, ...] = ("x" * 41, *[None] * 7)
    there = Row((b"a", 1), ("fits", *[None] * 7), 0, deleted=False, changed_at=NOW)
    bent = Row((b"a", 2), values, 0, deleted=False, changed_at=NOW)
    loader = Loader(connection, TABLE, by_file=by_file)
    loader.load(loader.chunk([there]))
    with pytest.raises(error, match="Short"):
        loader.load(loader.chunk([there, bent]))


def test_nothing_is_loaded_of_nothing(connection: Connection) -> None:
    loader = Loader(connection, TABLE)
    loader.load(loader.chunk([]))
    assert connection.query(f"SELECT COUNT(*) AS n FROM {TABLE.name}") == [{"n": 0}]
