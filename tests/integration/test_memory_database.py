"""What the simulator's database in memory promises: it and MariaDB answer the read model's own statements alike."""

from __future__ import annotations

import random
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pymysql
import pytest

from cqrsctl.change import Position, SequenceNumber, ShardState
from cqrsctl.errors import (
    Busy,
    CqrsctlError,
    DatabaseError,
    TransactionConflict,
    TransientDatabaseError,
    ValueRejected,
)
from cqrsctl.projection.batch import Applied, Batch, DeadLetter
from cqrsctl.projection.definition import Column, ColumnType, Projection, default_product
from cqrsctl.projection.rows import Row
from cqrsctl.read_model import (
    checkpoints,
    dead_letters,
    heartbeat,
    inventory,
    loaded_segments,
    locks,
    purge,
    query,
    rebuilds,
    registry,
    repair,
    schema,
)
from cqrsctl.read_model.connection import ReadModelMissing, connect
from cqrsctl.read_model.dead_letters import Settled
from cqrsctl.read_model.inventory import Counted
from cqrsctl.read_model.loaded_segments import Segment
from cqrsctl.read_model.loading import Loader
from cqrsctl.read_model.rebuilds import RebuildState
from cqrsctl.read_model.sink import MySqlSink, prepare, release_lock, take_lock
from cqrsctl.read_model.writing import TableWriter
from tests.integration.read_model.test_sink import ARN, NEWER_ARN, batch, change
from tests.simulation.memory_database import MemoryServer, installed
from tests.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cqrsctl.read_model.connection import Connection, Endpoint
    from cqrsctl.wiring import Wiring

PRODUCT = default_product()
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
WIDE = Projection(
    "wide",
    "Wide",
    tuple(
        Column(name, ColumnType.parse(kind), name, key=name in {"Id", "Part"}, index=name == "Text")
        for name, kind in {
            "Id": "varchar(10)",
            "Part": "decimal(20,2)",
            "Price": "decimal(38,10)",
            "Text": "varchar(20)",
            "Long": "text",
            "Sold": "boolean",
            "Ratio": "double",
            "Made": "datetime",
            "More": "json",
            "Raw": "varbinary(4)",
        }.items()
    ),
)


@pytest.fixture
def in_memory() -> Iterator[Endpoint]:
    """A database in memory, of which nothing is there yet."""
    server = MemoryServer(lambda: datetime.now(UTC))
    with installed(server):
        yield server.endpoint("simulated")


@pytest.fixture(params=["memory", "mariadb"])
def endpoint(request: pytest.FixtureRequest) -> Endpoint:
    """Each kind of database, new."""
    if request.param == "memory":
        found: Endpoint = request.getfixturevalue("in_memory")
        return found
    wiring: Wiring = request.getfixturevalue("wiring")
    return wiring.database


@pytest.fixture
def made(endpoint: Endpoint) -> Endpoint:
    """The same with a read model."""
    prepare(endpoint, [PRODUCT, WIDE])
    return endpoint


@pytest.fixture
def connection(made: Endpoint) -> Iterator[Connection]:
    with impatient(made) as opened:
        yield opened


@pytest.fixture
def other(made: Endpoint) -> Iterator[Connection]:
    with impatient(made) as opened:
        yield opened


def impatient(endpoint: Endpoint) -> Connection:
    """A connection that waits for a lock as shortly as MariaDB allows."""
    opened = connect(endpoint)
    opened.execute("SET SESSION innodb_lock_wait_timeout = 1, lock_wait_timeout = 1")
    return opened


def number_of(error: BaseException) -> Any:
    """The server's number of an error."""
    assert isinstance(error.__cause__, pymysql.Error)
    return error.__cause__.args[0]


def row(key: int, version: int, name: str | None = "Lamp", at: datetime = NOW) -> Row:
    values = (None, None, None) if name is None else (name, Decimal("1.5"), False)
    return Row((key,), values, version, deleted=name is None, changed_at=at)


def apply(connection: Connection, *rows: Row) -> Applied:
    return TableWriter(connection, [PRODUCT]).apply(Batch({"product": rows}, (), len(rows)))


def stored(connection: Connection, table: str = "product_v1") -> list[dict[str, Any]]:
    found = connection.query(f"SELECT ProductId, Name, Price, _version, _deleted, _changed_at FROM {table}")
    connection.commit()
    return found


def names(connection: Connection) -> dict[int, str]:
    found = {each["ProductId"]: each["Name"] for each in connection.query("SELECT ProductId, Name FROM Product")}
    connection.commit()
    return found


# The guard, and what it counts


def test_the_guard_counts_what_was_written_and_what_stayed(connection: Connection) -> None:
    assert apply(connection, row(1, 5)) == Applied(1, 0)
    assert apply(connection, row(1, 5)) == Applied(0, 1)
    assert apply(connection, row(1, 4, "old"), row(2, 6), row(3, 7)) == Applied(2, 1)
    assert apply(connection, row(1, 8, "new"), row(2, 9, None), row(3, 7)) == Applied(2, 1)
    assert [(each["Name"], each["_version"], each["_deleted"]) for each in stored(connection)] == [
        ("new", 8, 0),
        (None, 9, 1),
        ("Lamp", 7, 0),
    ]
    assert names(connection) == {1: "new", 3: "Lamp"}


def test_a_row_that_comes_twice_in_a_statement_is_written_by_the_later_version(connection: Connection) -> None:
    assert apply(connection, row(1, 5, "first"), row(1, 7, "second"), row(1, 6, "late")) == Applied(2, 1)
    assert names(connection) == {1: "second"}


@pytest.mark.parametrize(
    ("smaller", "larger"),
    [(9, 10), (0, 1), (99, 100), (10**20 - 1, 10**20), (2**63 - 1, 2**63), (10**39, 10**56 + 1), (10**56, 10**64)],
)
def test_versions_are_compared_as_integers_whatever_their_length(
    connection: Connection, smaller: int, larger: int
) -> None:
    assert apply(connection, row(1, smaller), row(2, larger)) == Applied(2, 0)
    assert apply(connection, row(1, larger, "newer"), row(2, smaller, "older")) == Applied(1, 1)
    assert names(connection) == {1: "newer", 2: "Lamp"}
    assert [each["_version"] for each in stored(connection)] == [larger, larger]
    found = connection.query("SELECT ProductId FROM product_v1 ORDER BY _version DESC, ProductId LIMIT 1")
    assert found == [{"ProductId": 1}]


def info(connection: Connection, sql: str) -> tuple[int, dict[str, int]]:
    with connection._raw.cursor() as cursor:
        touched = cursor.execute(sql)
        text: bytes = cursor._result.message  # type: ignore[attr-defined]
    return touched, {name: int(count) for name, count in re.findall(r"(\w+): (\d+)", text.decode())}


def test_the_info_text_counts_as_mysql_does(connection: Connection) -> None:
    head = "INSERT INTO cqrs_rebuild_segment (projection, segment, finished, items) VALUES "
    tail = " ON DUPLICATE KEY UPDATE items = VALUES(items)"
    assert info(connection, f"{head}('p', 1, FALSE, 1)") == (1, {})
    assert info(connection, f"{head}('p', 1, FALSE, 1), ('p', 2, FALSE, 1){tail}") == (
        1,
        {"Records": 2, "Duplicates": 0, "Warnings": 0},
    )
    assert info(connection, f"{head}('p', 1, FALSE, 2), ('p', 2, FALSE, 1), ('p', 3, FALSE, 1){tail}") == (
        3,
        {"Records": 3, "Duplicates": 1, "Warnings": 0},
    )
    assert info(connection, f"{head}('p', 1, FALSE, 3){tail}") == (2, {})
    assert info(connection, "UPDATE cqrs_rebuild_segment SET items = 1 WHERE projection = 'p'") == (
        1,
        {"matched": 3, "Changed": 1, "Warnings": 0},
    )
    ignoring = head.replace("INSERT", "INSERT IGNORE")
    assert info(connection, f"{ignoring}('p', 3, FALSE, 9)")[0] == 0
    replacing = head.replace("INSERT", "REPLACE")
    assert info(connection, f"{replacing}('p', 3, FALSE, 9), ('p', 4, FALSE, 9)")[0] == 3
    assert connection.execute("DELETE FROM cqrs_rebuild_segment WHERE segment > 1") == 3


def test_assignments_run_from_left_to_right(connection: Connection) -> None:
    connection.execute("INSERT INTO cqrs_rebuild_segment VALUES ('p', 1, NULL, FALSE, 5)")
    connection.execute("UPDATE cqrs_rebuild_segment SET items = items + 1, last_key = IF(items = 6, 'six', 'five')")
    assert connection.query("SELECT items, last_key FROM cqrs_rebuild_segment") == [{"items": 6, "last_key": "six"}]
    connection.execute(
        "INSERT INTO cqrs_rebuild_segment VALUES ('p', 1, 'new', TRUE, 7) ON DUPLICATE KEY UPDATE"
        " items = VALUES(items), last_key = IF(items = VALUES(items), last_key, VALUES(last_key))"
    )
    assert connection.query("SELECT items, last_key FROM cqrs_rebuild_segment") == [{"items": 7, "last_key": "six"}]


# Values


VALUES: list[tuple[Any, ...]] = [
    ("a", Decimal("1.50"), Decimal("1234567890123456789012345678.0123456789"), "text", "long\0text", True, 0.1),
    ("A", Decimal("-0.5"), Decimal("-3.1"), 'It\'s 100 % \\ "💡"\n', "", False, -1e300),
    ("a", Decimal(0), None, None, None, None, None),
]


def test_values_come_back_as_they_went_in(connection: Connection) -> None:
    made = (datetime(2026, 11, 23, 8, 0, 0, 123456), datetime(1000, 1, 1), None)  # noqa: DTZ001 -- as the driver has it
    more = ('{"list": [1, null, true]}', "[]", None)
    raw = (b"\x00\xff'\\", b"", None)
    rows = [
        Row(values[:2], (*values[2:], made[number], more[number], raw[number]), number, False, NOW)
        for number, values in enumerate(VALUES)
    ]
    assert TableWriter(connection, [WIDE]).apply(Batch({"wide": rows}, (), 3)) == Applied(3, 0)

    found = connection.query("SELECT * FROM Wide ORDER BY Id, Part")

    expected = [
        {**dict(zip([column.name for column in WIDE.columns], (*one.key, *one.values), strict=True))} for one in rows
    ]
    expected.sort(key=lambda each: (each["Id"], each["Part"]))
    for each in expected:
        each["Sold"] = None if each["Sold"] is None else int(each["Sold"])
    assert found == expected
    assert [str(each["Price"]) for each in found] == [
        "-3.1000000000",
        "None",
        "1234567890123456789012345678.0123456789",
    ]
    by_key = query.rows_by_key(connection, WIDE, [("a", Decimal("1.5")), ("A", Decimal("-0.50")), ("b", Decimal(1))])
    assert set(by_key) == {("a", Decimal("1.5")), ("A", Decimal("-0.5"))}
    dearest = connection.query("SELECT Id FROM Wide WHERE Price >= %s ORDER BY Price DESC", (Decimal("-3.10001"),))
    assert [each["Id"] for each in dearest] == ["a", "A"]


def test_text_is_compared_by_its_columns_collation(connection: Connection) -> None:
    connection.execute(
        "INSERT INTO wide_v1 (Id, Part, Text, _version, _deleted, _changed_at, _applied_at) VALUES"
        " ('é', 1, 'Été ', 1, FALSE, NOW(6), NOW(6)), ('E', 1, 'b', 1, FALSE, NOW(6), NOW(6))"
    )
    assert len(connection.query("SELECT Id FROM Wide WHERE Text = 'ete'")) == 1
    assert len(connection.query("SELECT Id FROM Wide WHERE Text LIKE 'ÉT%'")) == 1
    assert connection.query("SELECT Id FROM Wide WHERE Id = 'e'") == []
    assert len(connection.query("SELECT Id FROM Wide WHERE Id = 'E '")) == 1
    assert (
        connection.execute(
            "INSERT IGNORE INTO wide_v1 (Id, Part, _version, _deleted, _changed_at, _applied_at)"
            " VALUES ('E ', 1, 1, FALSE, NOW(6), NOW(6))"
        )
        == 0
    )


REFUSED = [
    ("Text", "'" + "x" * 21 + "'", 1406),
    ("Id", "'" + "é" * 11 + "'", 1406),
    ("Raw", "_binary X'0001020304'", 1406),
    ("Part", "NULL", 1048),
    ("_version", "NULL", 1048),
    ("Part", "1e18", 1264),
    ("Price", "-1234567890123456789012345678901", 1264),
    ("Sold", "128", 1264),
    ("Made", "'2026-02-30 00:00:00'", 1292),
    ("Price", "'cheap'", 1366),
    ("Sold", "'yes'", 1366),
]


@pytest.mark.parametrize(("column", "value", "number"), REFUSED)
def test_a_value_that_does_not_fit_is_refused_and_its_whole_statement_with_it(
    connection: Connection, column: str, value: str, number: int
) -> None:
    cells = {
        "Id": "'a'",
        "Part": "1",
        "_version": "1",
        "_deleted": "0",
        "_changed_at": "NOW(6)",
        "_applied_at": "NOW(6)",
    }
    good, bad = ", ".join(cells.values()), ", ".join((cells | {column: value}).values())
    columns = ", ".join((cells | {column: value}).keys())
    good += ", NULL" if column not in cells else ""
    with pytest.raises(ValueRejected) as raised:
        connection.upsert(f"INSERT INTO wide_v1 ({columns}) VALUES ({good}), ({bad})", 2)
    assert number_of(raised.value) == number
    connection.commit()
    assert connection.query("SELECT Id FROM wide_v1") == []


@pytest.mark.parametrize(
    ("statement", "number"),
    [
        ("INSERT INTO cqrs_snapshot VALUES ('p', 1, NULL), ('q', 1, NULL), ('p', 1, NULL)", 1062),
        ("INSERT INTO cqrs_snapshot VALUES ('p', -1, NULL)", 1264),
        ("INSERT INTO cqrs_snapshot VALUES ('p', 1)", 1136),
        ("INSERT INTO cqrs_heartbeat (id, holder) VALUES (1, 'me')", 1364),
        ("UPDATE cqrs_projection SET declaration = NULL", 1048),
        ("UPDATE cqrs_projection SET view_name = nothing", 1054),
        ("SELECT nothing FROM cqrs_snapshot", 1054),
        ("SELECT * FROM nowhere", 1146),
        ("DROP TABLE nowhere", 1051),
        ("INSERT INTO cqrs_checkpoint VALUES ('p', 's', 's', NULL, NULL, 'lost', NULL, NULL, NULL, NOW(6))", 1265),
    ],
)
def test_a_wrong_statement_is_refused_with_mysqls_number(connection: Connection, statement: str, number: int) -> None:
    with pytest.raises(DatabaseError) as raised:
        connection.execute(statement)
    assert number_of(raised.value) == number
    assert connection.query("SELECT * FROM cqrs_snapshot") == []


def test_a_database_that_is_not_there_is_missing(endpoint: Endpoint) -> None:
    with pytest.raises(ReadModelMissing):
        connect(endpoint)


# Transactions and locks


def test_nobody_sees_what_is_not_committed_but_its_own_connection(connection: Connection, other: Connection) -> None:
    apply(connection, row(1, 1), row(2, 1))
    connection.execute("UPDATE product_v1 SET Name = 'mine' WHERE ProductId = 1")
    connection.execute("DELETE FROM product_v1 WHERE ProductId = 2")
    other.execute("INSERT INTO cqrs_snapshot VALUES ('p', 1, NULL)")

    assert names(other) == {1: "Lamp", 2: "Lamp"}
    other.execute("INSERT INTO cqrs_snapshot VALUES ('p', 2, NULL)")
    assert connection.query("SELECT ProductId, Name FROM Product") == [{"ProductId": 1, "Name": "mine"}]
    assert connection.query("SELECT version FROM cqrs_snapshot") == [{"version": 1}]
    other.rollback()
    connection.commit()
    assert names(other) == {1: "mine"}
    assert other.query("SELECT version FROM cqrs_snapshot") == [{"version": 1}]


def test_closing_rolls_back_and_gives_the_locks_back(made: Endpoint, connection: Connection) -> None:
    with connect(made) as closed:
        take_lock(closed, made.database, [PRODUCT])
        closed.execute("INSERT INTO cqrs_snapshot VALUES ('p', 1, NULL)")
        with pytest.raises(Busy):
            take_lock(connection, made.database, [PRODUCT])
    wait_for(lambda: takes(connection, made), "the lock is free")
    assert connection.query("SELECT * FROM cqrs_snapshot") == []


def takes(connection: Connection, endpoint: Endpoint) -> bool:
    try:
        take_lock(connection, endpoint.database, [PRODUCT])
    except Busy:
        return False
    return True


def test_an_advisory_lock_is_its_holders_until_released(
    made: Endpoint, connection: Connection, other: Connection
) -> None:
    lock = locks.of_projector(made.database, "product")
    held = "SELECT IS_USED_LOCK(%s) = CONNECTION_ID() AS held"
    assert connection.query(held, (lock,)) == [{"held": None}]
    take_lock(connection, made.database, [PRODUCT])
    assert (connection.query(held, (lock,)), other.query(held, (lock,))) == ([{"held": 1}], [{"held": 0}])
    release_lock(other, made.database, [PRODUCT])
    assert not takes(other, made)
    release_lock(connection, made.database, [PRODUCT])
    assert takes(other, made)


def test_a_killed_connection_is_transient_and_nothing_of_it_stays(connection: Connection, other: Connection) -> None:
    connection.execute("INSERT INTO cqrs_snapshot VALUES ('p', 1, NULL)")
    (found,) = connection.query("SELECT CONNECTION_ID() AS id")
    other.execute(f"KILL {int(found['id'])}")

    for _ in range(2):
        with pytest.raises(TransientDatabaseError):
            connection.query("SELECT * FROM cqrs_snapshot")
    connection.close()
    wait_for(lambda: other.query("SELECT * FROM cqrs_snapshot") == [], "it is rolled back")


SHARED = "SELECT name FROM cqrs_projection WHERE name = 'product' LOCK IN SHARE MODE"
EXCLUSIVE = "SELECT name FROM cqrs_projection WHERE name = 'product' FOR UPDATE"


@pytest.mark.parametrize(
    ("first", "second", "waits"),
    [
        (SHARED, SHARED, False),
        (SHARED, EXCLUSIVE, True),
        (EXCLUSIVE, SHARED, True),
        (EXCLUSIVE, EXCLUSIVE, True),
        (EXCLUSIVE, EXCLUSIVE.replace("product", "wide"), False),
        (EXCLUSIVE, EXCLUSIVE.replace(" FOR UPDATE", ""), False),
        (SHARED, "UPDATE cqrs_projection SET view_name = 'V' WHERE name = 'product'", True),
        (EXCLUSIVE, "DELETE FROM cqrs_projection WHERE name = 'product'", True),
        (EXCLUSIVE, f"{EXCLUSIVE} NOWAIT", True),
        (
            "INSERT INTO cqrs_snapshot VALUES ('p', 1, NULL)",
            "INSERT INTO cqrs_snapshot VALUES ('p', 1, NOW(6)) ON DUPLICATE KEY UPDATE since = VALUES(since)",
            True,
        ),
        ("INSERT INTO cqrs_snapshot VALUES ('p', 1, NULL)", "INSERT INTO cqrs_snapshot VALUES ('p', 2, NULL)", False),
    ],
)
def test_a_lock_is_in_the_way_of_those_that_mysql_says(
    connection: Connection, other: Connection, first: str, second: str, waits: bool
) -> None:
    connection.query(first)
    if waits:
        with pytest.raises(TransactionConflict) as raised:
            other.query(second)
        assert number_of(raised.value) == 1205
    else:
        other.query(second)
    connection.rollback()
    if waits:
        other.query(second)


def test_the_shared_lock_on_the_tables_covers_the_rebuild_and_the_snapshot_too(
    connection: Connection, other: Connection
) -> None:
    begun = rebuilds.begin(connection, PRODUCT, ARN, 1, lambda: NOW)
    registry.read(connection, [PRODUCT, WIDE], locked=True)

    for statement in (
        "UPDATE cqrs_rebuild SET state = 'loaded' WHERE projection = 'product'",
        "DELETE FROM cqrs_snapshot WHERE projection = 'product' AND version = 2",
        "SELECT name FROM cqrs_projection WHERE name = 'wide' FOR UPDATE",
    ):
        with pytest.raises(TransactionConflict):
            other.execute(statement)
        other.rollback()
    loaded_segments.write(other, "product", Segment(0, None, finished=True, items=1))
    other.commit()
    connection.commit()
    rebuilds.cut_over(other, begun)


def test_two_transactions_write_different_rows_of_a_table_at_once(connection: Connection, other: Connection) -> None:
    connection.execute("INSERT INTO cqrs_snapshot VALUES ('p', 1, NULL)")
    other.execute("INSERT INTO cqrs_snapshot VALUES ('q', 1, NULL)")
    connection.execute("INSERT INTO cqrs_snapshot VALUES ('p', 2, NULL)")
    connection.commit()
    other.rollback()
    assert connection.query("SELECT projection, version FROM cqrs_snapshot ORDER BY version") == [
        {"projection": "p", "version": 1},
        {"projection": "p", "version": 2},
    ]


def test_a_definition_waits_for_transactions_that_use_it_and_commits_its_own(
    connection: Connection, other: Connection
) -> None:
    other.query("SELECT * FROM Product")
    connection.execute("INSERT INTO cqrs_snapshot VALUES ('p', 1, NULL)")
    for statement in (schema.view_ddl(registry.read(connection, [PRODUCT]).active[0]), "DROP TABLE product_v1"):
        with pytest.raises(TransactionConflict):
            connection.execute(statement)
    connection.rollback()
    assert connection.query("SELECT version FROM cqrs_snapshot") == [{"version": 1}]
    connection.rollback()
    other.rollback()
    connection.execute("DROP TABLE product_v1")


# What the package keeps beside its rows


def test_a_heartbeat_ages_by_the_servers_clock(connection: Connection, other: Connection) -> None:
    assert heartbeat.age_seconds(connection) is None
    assert not heartbeat.renew(connection)
    heartbeat.write(connection, heartbeat.FUNCTION)
    assert not heartbeat.renew(other)
    connection.commit()
    assert heartbeat.by_function(connection)
    connection.execute("UPDATE cqrs_heartbeat SET beat_at = NOW(6) - INTERVAL 90 SECOND")
    connection.commit()
    assert 89 < (heartbeat.age_seconds(other) or 0) < 120
    assert heartbeat.renew(other)
    assert 0 <= (heartbeat.age_seconds(other) or 0) < 30


def test_checkpoints_are_read_as_they_were_written_and_a_gap_stays_one(connection: Connection) -> None:
    positions = [
        Position("shard-1", None, SequenceNumber("00007"), ShardState.OPEN, NOW, NOW - timedelta(hours=1)),
        Position("shard-2", "shard-1", None, ShardState.GAP, None, None),
        Position("shard-3", "shard-1", SequenceNumber("9" * 40), ShardState.FINISHED, NOW, None),
    ]
    checkpoints.write(connection, ARN, {"product": positions, "wide": positions})
    later = [replace(position, state=ShardState.OPEN, record_time=NOW) for position in positions[:2]]
    checkpoints.write(connection, ARN, {"product": later, "wide": later})
    connection.commit()

    found = checkpoints.read(connection, [PRODUCT, WIDE], ARN)

    expected = [replace(each, record_time=NOW, read_through=NOW) for each in positions]
    assert [list(each.values()) for each in found.values()] == [expected, expected]
    assert str(found["wide"]["shard-1"].sequence_number) == "00007"
    assert checkpoints.are_lost(connection, "product", ARN)
    assert checkpoints.has_any(connection, "product", ARN)
    assert not checkpoints.has_any(connection, "product", NEWER_ARN)
    with pytest.raises(CqrsctlError):
        checkpoints.read(connection, [PRODUCT], NEWER_ARN)
    connection.execute("UPDATE cqrs_checkpoint SET updated_at = NOW(6) - INTERVAL 8 DAY")
    checkpoints.forget_finished(connection, ARN)
    assert [each["shard"] for each in checkpoints.listing(connection)] == ["shard-1", "shard-2", "shard-3"] * 2
    checkpoints.write(connection, ARN, {"product": [Position("shard-4", "shard-3")]})
    checkpoints.forget_finished(connection, ARN)
    left = [each["shard"] for each in checkpoints.listing(connection) if each["projection"] == "product"]
    assert left == ["shard-1", "shard-2", "shard-4"]


def test_checkpoints_that_are_kept_as_text_can_be_put_back(connection: Connection) -> None:
    checkpoints.write(
        connection, ARN, {"product": [Position("s", "p", SequenceNumber("1"), ShardState.OPEN, NOW, NOW)]}
    )
    connection.commit()
    before = checkpoints.listing(connection)
    text = checkpoints.serialised(connection, "product")
    checkpoints.forget(connection, ARN, ["product"])
    assert checkpoints.listing(connection) == []
    checkpoints.restore(connection, "product", text)
    assert checkpoints.listing(connection) == before


def test_letters_are_kept_once_counted_tried_and_removed(connection: Connection) -> None:
    letters = [DeadLetter("product", "shard-1", change(n, n, "💡 'quoted' \\"), f"error {n}") for n in (1, 2, 3)]
    dead_letters.write(connection, letters[:2])
    dead_letters.write(connection, [replace(letters[1], error="again"), letters[2]])
    connection.commit()

    found = list(dead_letters.listing(connection))

    assert [letter.change for letter in found] == [letter.change for letter in letters]
    assert [letter.error for letter in found] == ["error 1", "again", "error 3"]
    assert [letter.attempts for letter in found] == [1, 1, 1]
    assert [letter.number for letter in found] == sorted(dead_letters.numbers(connection))
    number = found[1].number
    dead_letters.failed_again(connection, number, "x" * 3_000)
    known = dead_letters.find(connection, number, for_update=True)
    assert known is not None
    assert (known.attempts, known.error) == (2, "x" * 2_000)
    assert dead_letters.count(connection, "product") == 3
    later = connection.query("SELECT NOW(6) + INTERVAL 1 SECOND AS later")[0]["later"]
    assert dead_letters.count(connection, "product", later) == 0
    assert dead_letters.settle(connection, number, Settled.RETRIED)
    assert not dead_letters.settle(connection, number, Settled.RETRIED)
    assert dead_letters.find(connection, number) is None


def test_two_projectors_do_not_make_two_letters_of_one_change(connection: Connection, other: Connection) -> None:
    letter = DeadLetter("product", "shard-1", change(1, 1), "planted")
    dead_letters.write(connection, [letter])
    with pytest.raises(TransactionConflict):
        dead_letters.write(other, [letter])
    connection.commit()
    dead_letters.write(other, [letter])
    other.commit()
    assert len(dead_letters.numbers(connection)) == 1


# A sink, and a rebuild from end to end


def test_a_sink_resumes_where_its_transaction_ended(endpoint: Endpoint) -> None:
    sink = MySqlSink(lambda: endpoint, [PRODUCT], ARN, lambda: 0.0)
    assert sink.open() == {"product": {}}
    assert sink.apply(batch(change(1, 1), change(2, 2))) == Applied(2, 0)
    with pytest.raises(DatabaseError):
        sink.apply(replace(batch(change(3, 3)), positions=[Position("x" * 66, None, 3)]))
    assert sink.open()["product"]["shard-1"].sequence_number == 2
    sink.close()
    with connect(endpoint) as connection:
        assert names(connection) == {1: "Lamp", 2: "Lamp"}
        found = inventory.read(connection, endpoint.database, [PRODUCT])
        assert (found.holder, found.by_function) == (None, False)
        assert found.progress_seconds is not None


def test_a_rebuild_fills_the_next_table_swaps_and_can_be_undone(
    made: Endpoint, connection: Connection, other: Connection
) -> None:
    apply(connection, row(1, 5, "Old"))
    checkpoints.write(connection, ARN, {"product": [Position("s", None, 5)]})
    connection.commit()
    rebuilds.take_lock(connection, made.database, "product")
    with pytest.raises(Busy):
        rebuilds.take_lock(other, made.database, "product")
    begun = rebuilds.begin(connection, PRODUCT, ARN, 2, lambda: NOW)
    assert (begun.table.name, begun.former.name, begun.state) == ("product_v2", "product_v1", RebuildState.LOADING)
    rebuilds.require_lock(connection, made.database, "product")

    loader = Loader(connection, begun.table, by_file=False)
    loader.load(loader.chunk([row(number, 0, "Snapshot") for number in (1, 2, 3)]))
    loaded_segments.write(connection, "product", Segment(0, {"ProductId": Decimal(3)}, finished=True, items=3))
    connection.commit()
    assert [segment.items for segment in loaded_segments.read(connection, "product")] == [3, 0]
    building = registry.read(other, [PRODUCT]).building
    other.commit()
    assert [(table.name, table.since) for table in building] == [("product_v2", NOW)]
    writer = TableWriter(other, [PRODUCT])
    rows = [row(1, 6, "Stale", NOW - timedelta(seconds=1)), row(2, 6, "New")]
    assert writer.apply(Batch({"product": rows}, (), 2, building={"product": rows})) == Applied(2, 0)

    rebuilds.mark_loaded(connection, begun)
    assert names(other) == {1: "Stale", 2: "New"}
    rebuilds.cut_over(connection, begun)
    assert names(other) == {1: "Snapshot", 2: "New", 3: "Snapshot"}
    done = rebuilds.find(connection, "product")
    assert done is not None
    assert (done.state, done.undoing, done.table.version) == (RebuildState.DONE, False, 2)
    assert sorted(schema.physical_tables(connection, "product")) == ["product_v1", "product_v2"]

    checkpoints.write(connection, ARN, {"product": [Position("s", None, 9)]})
    connection.commit()
    undoing = rebuilds.begin_undo(connection, "product", ARN)
    assert checkpoints.read(connection, [PRODUCT], ARN)["product"]["s"].sequence_number == 5
    rebuilds.abandon(connection, undoing)
    assert checkpoints.read(connection, [PRODUCT], ARN)["product"]["s"].sequence_number == 9
    rebuilds.cut_over(connection, rebuilds.begin_undo(connection, "product", ARN))
    assert names(other) == {1: "Stale", 2: "New"}


def test_a_rebuild_that_is_given_up_brings_the_gap_back(connection: Connection) -> None:
    gap = Position("s", None, 5, ShardState.GAP)
    checkpoints.write(connection, ARN, {"product": [gap]})
    connection.commit()
    begun = rebuilds.begin(connection, PRODUCT, ARN, 1)
    assert checkpoints.read(connection, [PRODUCT], ARN) == {"product": {}}
    rebuilds.abandon(connection, begun)
    assert checkpoints.read(connection, [PRODUCT], ARN) == {"product": {"s": gap}}
    assert rebuilds.under_way(connection, "product") is None
    assert schema.physical_tables(connection, "product") == ["product_v1"]


def test_a_rebuild_waits_for_the_transaction_of_a_projector(connection: Connection, other: Connection) -> None:
    TableWriter(other, [PRODUCT]).apply_rows(Batch({"product": [row(1, 1)]}, (), 1))
    with pytest.raises(TransactionConflict):
        rebuilds.begin(connection, PRODUCT, ARN, 1)
    other.commit()
    connection.rollback()
    assert rebuilds.begin(connection, PRODUCT, ARN, 1).table.name == "product_v3"


def test_a_changed_declaration_gets_its_indexes_and_its_view(connection: Connection) -> None:
    coloured = replace(
        PRODUCT,
        view="Article",
        columns=(*PRODUCT.columns, Column("Colour", ColumnType.parse("varchar(9)"), "C", index=True)),
    )
    begun = rebuilds.begin(connection, coloured, ARN, 1)
    assert schema.indexes_ddl(connection, begun.table) is not None
    rebuilds.mark_loaded(connection, begun)
    assert schema.indexes_ddl(connection, begun.table) is None
    rebuilds.cut_over(connection, begun)
    assert connection.query("SELECT ProductId, Colour FROM Article") == []
    with pytest.raises(ReadModelMissing):
        connection.query("SELECT * FROM Product")
    connection.rollback()
    (found,) = inventory.read(connection, "any", [PRODUCT]).projections
    assert (found.table, bool(found.differences), found.building) == ("product_v2", True, None)


def test_a_read_model_is_made_once_described_and_dropped(made: Endpoint, connection: Connection) -> None:
    assert prepare(made, [PRODUCT, WIDE]) == []
    apply(connection, row(1, 1), row(2, 1, None))
    made_now = inventory.read(connection, made.database, [PRODUCT, WIDE]).projections
    assert [(each.name, each.all_differences) for each in made_now] == [("product", ()), ("wide", ())]
    assert inventory.counted(connection, made_now)["product"] == Counted(1, 1, 1)
    with pytest.raises(DatabaseError, match="column OutOfStock is gone"):
        prepare(made, [replace(PRODUCT, columns=PRODUCT.columns[:3])])
    connection.execute("ALTER TABLE product_v1 ADD UNIQUE KEY one_name (Name)")
    with pytest.raises(DatabaseError, match=r"product_v1\.one_name"):
        prepare(made, [PRODUCT])
    connection.execute("ALTER TABLE cqrs_checkpoint DROP COLUMN read_since")
    prepare(made, [WIDE])
    assert connection.query("SELECT read_since FROM cqrs_checkpoint") == []
    connection.rollback()
    assert sorted(schema.drop(connection, [PRODUCT, WIDE])) == ["product_v1", "wide_v1"]
    assert connection.query("SHOW TABLES") == []


# Repair and purge


def test_a_row_is_repaired_only_if_it_is_as_it_was_read(connection: Connection) -> None:
    (active,) = registry.read(connection, [PRODUCT]).active
    apply(connection, row(1, 10**50), row(2, 3))
    known = repair.stored(connection, active, [(1,), (2,), (3,)])
    assert known == {(1,): repair.Stored(10**50, deleted=False), (2,): repair.Stored(3, deleted=False)}
    values = ("Mended", Decimal(2), True)
    assert repair.overwrite(connection, active, (1,), values, known[(1,)], NOW)
    assert not repair.overwrite(connection, active, (2,), values, repair.Stored(4, deleted=False), NOW)
    assert not repair.overwrite(connection, active, (2,), values, None, NOW)
    assert repair.overwrite(connection, active, (2,), None, known[(2,)], NOW)
    assert repair.overwrite(connection, active, (3,), values, None, NOW)
    with pytest.raises(ValueRejected):
        repair.overwrite(connection, active, (3,), ("x" * 256, Decimal(2), True), repair.Stored(0, deleted=False), NOW)
    connection.commit()
    assert names(connection) == {1: "Mended", 3: "Mended"}
    again = repair.stored(connection, active, [(1,)])[(1,)]
    assert again.version == 0
    assert not repair.overwrite(connection, active, (1,), values, again, NOW - timedelta(seconds=1))
    assert repair.overwrite(connection, active, (1,), values, again, NOW)
    connection.rollback()


def test_old_tombstones_are_purged_and_young_ones_stay(connection: Connection) -> None:
    old = datetime.now(UTC) - timedelta(days=3)
    apply(connection, row(1, 1, None, old), row(2, 1, "Lamp", old), row(3, 1, None, datetime.now(UTC)))
    plan = purge.plan(connection, PRODUCT, timedelta(days=2))
    assert (plan.removable, plan.kept) == (1, 0)
    assert [purge.remove(connection, plan, keys) for keys in purge.batches(connection, plan)] == [1]
    assert [each["ProductId"] for each in stored(connection)] == [2, 3]


# Chance


@pytest.mark.parametrize("seed", range(3))
def test_any_history_ends_the_same_on_both(wiring: Wiring, in_memory: Endpoint, seed: int) -> None:
    assert history(in_memory, random.Random(seed)) == history(wiring.database, random.Random(seed))


def history(endpoint: Endpoint, rng: random.Random) -> list[Any]:
    """What every step of a random history of two connections answered."""
    prepare(endpoint, [PRODUCT])
    told: list[Any] = []
    with impatient(endpoint) as one, impatient(endpoint) as two:
        for number in range(60):
            connection = rng.choice([one, two])
            keys = rng.sample(range(6), rng.randint(1, 4))
            versions = [rng.choice([1, 9, 10, 10**20, 10**55]) + rng.randrange(3) for _ in keys]
            rows = [
                row(*each, rng.choice([None, f"Lamp {number}"])) for each in zip(sorted(keys), versions, strict=True)
            ]
            step = rng.choice([_applied, _applied, _pending, _purged, _ended])
            try:
                told.append(step(connection, rows, rng))
            except TransactionConflict as conflict:
                connection.rollback()
                told.append(number_of(conflict))
            told.append(stored(rng.choice([one, two])) if rng.random() < 0.3 else None)
        one.commit()
        two.commit()
        return [*told, stored(one)]


def _applied(connection: Connection, rows: list[Row], rng: random.Random) -> Any:
    return apply(connection, *rows)


def _pending(connection: Connection, rows: list[Row], rng: random.Random) -> Any:
    (active,) = registry.read(connection, [PRODUCT]).active
    return TableWriter(connection, [PRODUCT])._upsert(active, rows[:1], again=False)


def _purged(connection: Connection, rows: list[Row], rng: random.Random) -> Any:
    return connection.execute(f"DELETE FROM product_v1 WHERE ProductId = {rows[0].key[0]} AND _deleted = TRUE")


def _ended(connection: Connection, rows: list[Row], rng: random.Random) -> Any:
    end: Callable[[], None] = rng.choice([connection.commit, connection.rollback])
    return end()
