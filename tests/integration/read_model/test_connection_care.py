"""What a database does to its connections: locks lost, deadlocks, a writer that turned read-only."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from threading import Thread
from typing import TYPE_CHECKING

import pymysql
import pytest

from cqrsctl.errors import Busy, DatabaseError, TransactionConflict, TransientDatabaseError
from cqrsctl.local import engines
from cqrsctl.local.engines import MARIADB
from cqrsctl.local.state import StackState
from cqrsctl.projection.batch import DeadLetter
from cqrsctl.projection.definition import default_product
from cqrsctl.projection.rows import Row
from cqrsctl.projection.tables import PhysicalTable
from cqrsctl.read_model import dead_letters, grants, schema
from cqrsctl.read_model.connection import Connection, Login, connect, database_errors
from cqrsctl.read_model.loading import Loader
from tests.integration.read_model.test_sink import batch, change, make_sink, names, opens
from tests.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cqrsctl.change import Followers
    from cqrsctl.read_model.sink import MySqlSink
    from cqrsctl.wiring import Wiring

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


@pytest.fixture
def sink(wiring: Wiring) -> Iterator[MySqlSink]:
    opened = make_sink(wiring)
    opened.open()
    opened.apply(batch(change(1, 1)))
    yield opened
    opened.close()


@contextmanager
def administrator(stack_home: Path) -> Iterator[pymysql.cursors.Cursor]:
    """The root of the stack's server, over its socket."""
    state = StackState(stack_home / "local")
    socket = state.directory / "data" / engines.of(state).socket
    with pymysql.connect(unix_socket=str(socket), user="root") as root, root.cursor() as cursor:
        yield cursor


@contextmanager
def read_only_server(stack_home: Path) -> Iterator[None]:
    """The stack's server as it is after it was failed over from."""
    with administrator(stack_home) as cursor:
        cursor.execute("SET GLOBAL read_only = 1")
        try:
            yield
        finally:
            cursor.execute("SET GLOBAL read_only = 0")


@contextmanager
def small_packets(stack_home: Path) -> Iterator[None]:
    """The stack's server while it takes statements of 1 MB at most."""
    with administrator(stack_home) as cursor:
        cursor.execute("SELECT @@GLOBAL.max_allowed_packet")
        (before,) = cursor.fetchone() or (None,)
        cursor.execute("SET GLOBAL max_allowed_packet = 1048576")
        try:
            yield
        finally:
            cursor.execute(f"SET GLOBAL max_allowed_packet = {before}")


def test_statements_are_no_longer_than_the_server_takes(wiring: Wiring, stack_home: Path) -> None:
    long = "\N{ELECTRIC LIGHT BULB}" * 255
    changes = [change(number, number, long) for number in range(1, 1_001)]
    letters = tuple(
        DeadLetter("product", "shard-1", change(number, number, "x" * 60_000), "too long")
        for number in range(2_001, 2_041)
    )
    with small_packets(stack_home):
        sink = make_sink(wiring)
        sink.open()
        sink.apply(replace(batch(*changes), letters=letters))
        sink.close()
        with connect(wiring.database, bulk=True) as connection:
            loader = Loader(connection, PhysicalTable(default_product(), 1), by_file=False)
            rows = [Row((number,), (long, Decimal(1), 0), 0, False, NOW) for number in range(3_001, 4_001)]
            loader.load(loader.chunk(rows))
            connection.commit()

    assert len(names(wiring)) == 2_000
    with connect(wiring.database) as connection:
        assert len(list(dead_letters.listing(connection))) == len(letters)


def test_a_lost_lock_stops_the_applier_before_its_next_commit(sink: MySqlSink, wiring: Wiring) -> None:
    """As where a proxy changed the server behind the connection."""
    assert sink._open is not None
    sink._open.connection.execute("DO RELEASE_ALL_LOCKS()")
    other = make_sink(wiring)
    other.open()

    with pytest.raises(TransientDatabaseError) as raised:
        sink.apply(batch(change(2, 2)))

    assert raised.value.code == "lock_lost"
    assert names(wiring) == {1: "Lamp"}
    with pytest.raises(Busy):
        sink.open()
    other.close()
    opened: list[Followers] = []
    wait_for(lambda: opens(sink, opened), "the server gives up the other's lock")
    assert opened[0]["product"]["shard-1"].sequence_number == 1


def test_a_writer_that_turned_read_only_is_left_and_not_taken_for_the_writer(
    sink: MySqlSink, wiring: Wiring, stack_home: Path
) -> None:
    with read_only_server(stack_home):
        with pytest.raises(TransientDatabaseError):
            sink.apply(batch(change(2, 2)))
        with pytest.raises(TransientDatabaseError, match="read-only: it is not the writer"):
            sink.open()

    assert sink.open()["product"]["shard-1"].sequence_number == 1
    sink.apply(batch(change(2, 2)))
    assert sorted(names(wiring)) == [1, 2]


def lock_row(connection: Connection, product_id: int) -> None:
    connection.query("SELECT * FROM product_v1 WHERE ProductId = %s FOR UPDATE", (product_id,))


def is_waiting(wiring: Wiring, database: str) -> bool:
    waits = "time_ms > 20" if database == MARIADB.name else "time > 0"
    with connect(wiring.database) as connection:
        return bool(
            connection.query(
                "SELECT 1 FROM information_schema.processlist WHERE db = DATABASE() AND info LIKE 'INSERT INTO `prod%%'"
                f" AND {waits}"
            )
        )


def test_a_deadlock_is_a_conflict_after_which_the_same_connection_goes_on(
    sink: MySqlSink, wiring: Wiring, database: str
) -> None:
    sink.apply(batch(change(2, 2)))
    outcome: list[BaseException] = []

    def apply() -> None:
        try:
            sink.apply(batch(change(11, 1), change(12, 2)))
        except TransactionConflict as conflict:
            outcome.append(conflict)

    with connect(wiring.database) as other:
        for product_id in range(50, 60):  # the lighter transaction is the victim
            other.execute("INSERT INTO product_v1 VALUES (%s, 'x', 1, FALSE, 1, FALSE, NOW(), NOW())", (product_id,))
        lock_row(other, 2)
        thread = Thread(target=apply)
        thread.start()
        wait_for(lambda: is_waiting(wiring, database), "the sink waits for product 2, having locked product 1")
        lock_row(other, 1)
        thread.join()
        other.rollback()

    assert len(outcome) == 1
    before = sink._open
    sink.apply(batch(change(11, 1, "after"), change(12, 2, "after")))
    assert sink._open is before
    assert names(wiring) == {1: "after", 2: "after"}


def test_a_lock_that_is_waited_for_too_long_is_a_conflict(sink: MySqlSink, wiring: Wiring) -> None:
    assert sink._open is not None
    sink._open.connection.execute("SET SESSION innodb_lock_wait_timeout = 1")
    with connect(wiring.database) as other:
        lock_row(other, 1)
        with pytest.raises(TransactionConflict):
            sink.apply(batch(change(2, 1)))
        other.rollback()

    sink.apply(batch(change(2, 1, "after")))
    assert names(wiring) == {1: "after"}


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (1205, TransactionConflict),
        (1213, TransactionConflict),
        *((number, TransientDatabaseError) for number in (1290, 1792, 1836, 1927, 2006, 2013, 4031)),
    ],
)
def test_each_error_of_the_server_is_of_its_class(wiring: Wiring, number: int, kind: type[Exception]) -> None:
    with pytest.raises(TransientDatabaseError) as raised, database_errors(wiring.database):
        raise pymysql.err.OperationalError(number, "planned")
    assert type(raised.value) is kind


def test_who_may_read_the_view_alone_reads_it_after_a_rebuild_too(
    sink: MySqlSink, wiring: Wiring, stack_home: Path
) -> None:
    endpoint, name = wiring.database, wiring.environment.database.name
    reporting = replace(endpoint, login=lambda: Login("reporting", "pw"))
    with administrator(stack_home) as root, connect(endpoint) as owner:
        root.execute("CREATE USER reporting@'127.0.0.1' IDENTIFIED BY 'pw'")
        try:
            root.execute(f"GRANT SELECT ON `{name}`.Product TO reporting@'127.0.0.1'")
            rebuilt = PhysicalTable(default_product(), 2)
            owner.execute(schema.table_ddl(rebuilt))
            for statement in ("", schema.view_ddl(rebuilt)):
                owner.execute(statement or "DO 0")
                with connect(reporting) as reader:
                    assert len(reader.query("SELECT * FROM Product")) == (0 if statement else 1)
                    with pytest.raises(DatabaseError):
                        reader.query("SELECT * FROM product_v1")
        finally:
            root.execute("DROP USER reporting@'127.0.0.1'")


def test_the_sql_for_a_user_of_ones_own_runs_and_grants_all_that_is_needed(wiring: Wiring, stack_home: Path) -> None:
    name = wiring.environment.database.name
    with administrator(stack_home) as root:
        root.execute("DROP USER IF EXISTS 'cqrsctl'@'%'")
        try:
            for statement in grants.own_user(name, by_token=False).split("; "):
                root.execute(statement)
            root.execute("SHOW GRANTS FOR 'cqrsctl'@'%'")
            found = grants.parse(line for (line,) in root.fetchall())
        finally:
            root.execute("DROP USER IF EXISTS 'cqrsctl'@'%'")
    assert found.missing(name) == ()
    assert all(grant.within(name) for grant in found.grants)
