"""What only a simulation asks of the database in memory: faults, waits, and time that is not the machine's."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

import pymysql
import pytest

from cqrsctl.errors import TransactionConflict, TransientDatabaseError
from cqrsctl.projection.batch import Batch
from cqrsctl.projection.definition import default_product
from cqrsctl.projection.rows import Row
from cqrsctl.read_model import purge
from cqrsctl.read_model.connection import connect
from cqrsctl.read_model.sink import prepare, take_lock
from cqrsctl.read_model.writing import TableWriter
from tests.simulation.clock import VirtualClock
from tests.simulation.memory_database import MemoryServer, installed
from tests.simulation.processes import Killed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cqrsctl.read_model.connection import Connection, Endpoint

PRODUCT = default_product()
INSERT = "INSERT INTO cqrs_snapshot VALUES (%s, 1, NULL)"
LOCK = "SELECT name FROM cqrs_projection WHERE name = 'product' FOR UPDATE"


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def server(clock: VirtualClock) -> Iterator[MemoryServer]:
    """A server with a read model."""
    made = MemoryServer(clock.now)
    with installed(made):
        prepare(made.endpoint("simulated"), [PRODUCT])
        yield made


@pytest.fixture
def endpoint(server: MemoryServer) -> Endpoint:
    return server.endpoint("simulated")


@pytest.fixture
def connection(endpoint: Endpoint) -> Iterator[Connection]:
    with connect(endpoint) as opened:
        yield opened


@pytest.fixture
def other(endpoint: Endpoint) -> Iterator[Connection]:
    with connect(endpoint) as opened:
        yield opened


def number(connection: Connection) -> int:
    found: int = connection.query("SELECT CONNECTION_ID() AS id")[0]["id"]
    return found


def snapshots(connection: Connection) -> list[str]:
    return [row["projection"] for row in connection.query("SELECT projection FROM cqrs_snapshot")]


def lost(_: int) -> None:
    raise pymysql.OperationalError(2013, "Lost connection to MySQL server during query")


def killed(_: int) -> None:
    raise Killed


def test_time_is_the_simulations(clock: VirtualClock, connection: Connection) -> None:
    before = purge.now(connection)
    clock.sleep(3.5)
    assert purge.now(connection) - before == timedelta(seconds=3.5)


def test_a_connection_that_is_lost_before_its_commit_has_committed_nothing(
    server: MemoryServer, endpoint: Endpoint, connection: Connection, other: Connection
) -> None:
    take_lock(connection, endpoint.database, [PRODUCT])
    connection.execute(INSERT, ("p",))
    assert server.changed(number(connection))
    server.before_commit = lost
    with pytest.raises(TransientDatabaseError):
        connection.commit()
    server.before_commit = None

    assert snapshots(other) == []
    take_lock(other, endpoint.database, [PRODUCT])
    with pytest.raises(TransientDatabaseError):
        connection.execute(INSERT, ("p",))


def test_a_process_that_is_killed_after_its_commit_has_committed_all(
    server: MemoryServer, connection: Connection, other: Connection
) -> None:
    connection.execute(INSERT, ("p",))
    server.after_commit = killed
    with pytest.raises(Killed):
        connection.commit()
    server.after_commit = None
    assert snapshots(other) == ["p"]


def test_a_process_can_die_at_any_statement(server: MemoryServer, connection: Connection, other: Connection) -> None:
    seen: list[str] = []

    def die(_: int, sql: str) -> None:
        seen.append(sql)
        if len(seen) == 2:
            raise Killed

    server.before_statement = die
    connection.execute(INSERT, ("p",))
    with pytest.raises(Killed):
        connection.execute(INSERT, ("q",))
    server.before_statement = None
    assert seen == [INSERT] * 2
    assert snapshots(other) == []


def test_a_killed_connection_ends_at_its_next_use(
    server: MemoryServer, connection: Connection, other: Connection
) -> None:
    connection.execute(INSERT, ("p",))
    server.kill(number(connection))
    assert snapshots(other) == []
    with pytest.raises(TransientDatabaseError, match="2013"):
        connection.commit()


def test_a_lock_that_is_not_free_is_waited_for_while_the_others_run(
    server: MemoryServer, clock: VirtualClock, connection: Connection, other: Connection
) -> None:
    connection.query(LOCK)
    connection.execute(INSERT, ("p",))
    clock.after(4, connection.commit)
    server.waits = lambda: clock.sleep(1)
    begin = clock.monotonic()

    assert other.query(LOCK) == [{"name": "product"}]

    assert clock.monotonic() - begin == 4
    assert snapshots(other) == ["p"]


def test_a_lock_that_never_comes_free_is_a_conflict_after_the_sessions_time(
    server: MemoryServer, clock: VirtualClock, connection: Connection, other: Connection
) -> None:
    connection.query(LOCK)
    server.waits = lambda: clock.sleep(1)
    begin = clock.monotonic()
    with pytest.raises(TransactionConflict, match="1205"):
        other.query(LOCK)
    assert clock.monotonic() - begin == 20
    with pytest.raises(TransactionConflict, match="1205"):
        other.query(f"{LOCK} NOWAIT")
    assert clock.monotonic() - begin == 20


def test_one_who_waits_sees_what_the_one_before_it_did(
    server: MemoryServer, clock: VirtualClock, connection: Connection, other: Connection
) -> None:
    def write(to: Connection, version: int) -> tuple[int, int]:
        row = Row(
            (1,), ("Lamp", Decimal(1), False), version, deleted=False, changed_at=datetime(2026, 1, 1, tzinfo=UTC)
        )
        applied = TableWriter(to, [PRODUCT]).apply_rows(Batch({"product": [row]}, (), 1))
        return applied.rows, applied.stale

    server.waits = lambda: clock.sleep(1)
    assert write(connection, 5) == (1, 0)
    clock.after(2, connection.commit)
    assert write(other, 5) == (0, 1)
    clock.after(2, other.rollback)
    assert write(connection, 6) == (1, 0)


def test_two_who_wait_for_each_other_are_a_deadlock_of_which_one_is_rolled_back(
    server: MemoryServer, clock: VirtualClock, connection: Connection, other: Connection
) -> None:
    connection.execute(INSERT, ("p",))
    other.execute(INSERT, ("q",))
    raised: list[TransactionConflict] = []

    def cross() -> None:
        try:
            other.execute(INSERT, ("p",))
        except TransactionConflict as conflict:
            raised.append(conflict)

    clock.after(1, cross)
    server.waits = lambda: clock.sleep(1)

    connection.execute(INSERT, ("q",))

    assert "1213" in str(raised[0])
    connection.commit()
    assert snapshots(other) == ["p", "q"]


def test_one_who_is_killed_while_it_waits_waits_no_longer(
    server: MemoryServer, clock: VirtualClock, connection: Connection, other: Connection
) -> None:
    connection.query(LOCK)
    waiting = number(other)
    clock.after(3, lambda: server.kill(waiting))
    server.waits = lambda: clock.sleep(1)
    with pytest.raises(TransientDatabaseError, match="2013"):
        other.query(LOCK)


def test_a_copy_has_the_same_content_and_goes_its_own_way(server: MemoryServer, connection: Connection) -> None:
    connection.execute(INSERT, ("p",))
    connection.commit()
    copied = server.copy()
    connection.execute(INSERT, ("q",))
    connection.commit()
    with installed(copied), connect(copied.endpoint("simulated")) as there:
        assert snapshots(there) == ["p"]
        assert prepare(copied.endpoint("simulated"), [PRODUCT]) == []


def test_a_server_that_is_read_only_refuses_to_write(server: MemoryServer, connection: Connection) -> None:
    connection.require_writable()
    server.read_only = True
    with pytest.raises(TransientDatabaseError):
        connection.require_writable()
    with pytest.raises(TransientDatabaseError):
        connection.execute(INSERT, ("p",))


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT SOUNDEX(name) FROM cqrs_projection",
        "SELECT name FROM cqrs_projection UNION SELECT created_at FROM cqrs_projection",
        "SELECT @@version",
        "SELECT name FROM cqrs_projection WHERE name = 1 / 2",
        "SELECT name FROM cqrs_projection WHERE created_at = 1",
        "SELECT NOW()",
        "SELECT GET_LOCK('a', 10)",
        "SET SESSION foreign_key_checks = 0",
        "SET GLOBAL read_only = 1",
        "ALTER TABLE product_v1 ADD CONSTRAINT c CHECK (Name <> '')",
        "CREATE TABLE t (id INT NOT NULL PRIMARY KEY) PARTITION BY KEY()",
        "CREATE TABLE t (id INT NOT NULL PRIMARY KEY, g GEOMETRY)",
        "UPDATE cqrs_snapshot SET version = 2",
        "LOAD DATA LOCAL INFILE 'x' INTO TABLE product_v1",
        "TRUNCATE TABLE product_v1",
        "DELETE product_v1 FROM product_v1",
        "INSERT INTO cqrs_snapshot SET version = 2",
        "SELECT 1; SELECT 2",
    ],
)
def test_what_is_not_understood_is_refused_loudly(connection: Connection, statement: str) -> None:
    with pytest.raises(NotImplementedError):
        connection.execute(statement)
