"""The projector function's care for its connection, on a real server."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from cqrsctl.errors import DatabaseError, TransactionConflict, TransientDatabaseError
from cqrsctl.functions import projector_function as module
from cqrsctl.functions.events import EventRefused
from cqrsctl.functions.projector_function import ProjectorFunction
from cqrsctl.pipeline import settling
from cqrsctl.projection.definition import Column, ColumnType, Projection, default_product
from cqrsctl.read_model import rebuilds, schema
from cqrsctl.read_model.connection import Connection, Endpoint, Login, ReadModelMissing, connect
from cqrsctl.read_model.sink import connect_making_database, drop
from tests.integration.functions.test_lambda_runtime import ARN, event, golden, names, record, rows

if TYPE_CHECKING:
    from cqrsctl.wiring import Wiring

PRODUCT = default_product()
NOW = datetime(2024, 3, 1, 10, 6, 30, tzinfo=UTC)


class Logins:
    """Logins, one after the other where they are forgotten."""

    def __init__(self, *known: Login) -> None:
        self.known = list(known)

    def __call__(self) -> Login:
        return self.known[0]

    def forget(self) -> None:
        self.known = self.known[1:] or self.known


def made(wiring: Wiring, logins: Logins | None = None, projections: tuple[Projection, ...] = (PRODUCT,)) -> Function:
    database = wiring.database
    login = logins or Logins(database.login())
    endpoint = Endpoint(database.host, database.port, database.database, login)
    return Function("Products", projections, endpoint, login, lambda: NOW)


class Function(ProjectorFunction):
    """The function, with short words for the tests."""

    def run(self, *records: dict[str, Any]) -> tuple[float, ...]:
        measures = self(event(*records), "test").measures
        return tuple(measures[name] for name in ("Records", "Applied", "Stale", "DeadLettered"))

    @property
    def open(self) -> Connection:
        assert self.connection is not None
        return self.connection

    def session(self) -> int:
        return int(self.open.query("SELECT CONNECTION_ID() AS id")[0]["id"])


@pytest.fixture
def function(wiring: Wiring) -> Any:
    prepared = made(wiring)
    assert prepared.run(record(1, 1)) == (1, 1, 0, 0)
    yield prepared
    if prepared.connection:
        prepared.connection.close()


def run(wiring: Wiring, *statements: str) -> None:
    with connect(wiring.database) as connection:
        for sql in statements:
            connection.execute(sql)
        connection.commit()


def count_connections(monkeypatch: pytest.MonkeyPatch, broken: int = 0) -> list[Connection]:
    """The function's connections from now on; so many of them end as soon as they are made."""
    seen: list[Connection] = []

    def connecting(endpoint: Endpoint) -> Connection:
        connection = connect_making_database(endpoint)
        seen.append(connection)
        if len(seen) <= broken:
            kill(connection, endpoint)
        return connection

    monkeypatch.setattr(module, "connect_making_database", connecting)
    return seen


def kill(connection: Connection, endpoint: Endpoint) -> None:
    (found,) = connection.query("SELECT CONNECTION_ID() AS id")
    with connect(endpoint) as other:
        other.execute(f"KILL {int(found['id'])}")


def test_the_connection_is_kept_between_invocations(function: Function, wiring: Wiring) -> None:
    before = function.session()

    assert function.run(record(2, 2)) == (1, 1, 0, 0)

    assert function.session() == before
    assert names(wiring) == {1: "Lamp", 2: "Lamp"}


def test_lag_is_from_the_newest_record_to_the_end_of_its_batch(function: Function) -> None:
    assert function(golden(), "test").measures["LagSeconds"] == 30.0
    assert function(event(record(2, 2)), "test").measures["LagSeconds"] == 0.0  # our clock is behind


def test_a_kept_connection_that_was_killed_is_replaced_once(
    function: Function, wiring: Wiring, monkeypatch: pytest.MonkeyPatch
) -> None:
    kill(function.open, wiring.database)
    seen = count_connections(monkeypatch)

    assert function.run(record(2, 2)) == (1, 1, 0, 0)

    assert seen == [function.connection]
    assert names(wiring) == {1: "Lamp", 2: "Lamp"}


def test_a_new_connection_that_breaks_too_is_not_replaced(
    function: Function, wiring: Wiring, monkeypatch: pytest.MonkeyPatch
) -> None:
    kill(function.open, wiring.database)
    seen = count_connections(monkeypatch, broken=1)

    with pytest.raises(TransientDatabaseError):
        function.run(record(2, 2))

    assert len(seen) == 1
    assert function.connection is None
    assert function.run(record(2, 2)) == (1, 1, 0, 0)


def test_a_first_connection_that_breaks_is_raised_at_once(wiring: Wiring, monkeypatch: pytest.MonkeyPatch) -> None:
    function = made(wiring)
    seen = count_connections(monkeypatch, broken=1)

    with pytest.raises(TransientDatabaseError):
        function.run(record(2, 2))

    assert len(seen) == 1
    assert function.connection is None


def test_a_server_that_is_read_only_is_refused_with_its_connection_closed(
    function: Function, wiring: Wiring, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a failover: the kept connection breaks, and the endpoint still leads to the old writer."""
    kill(function.open, wiring.database)
    seen = count_connections(monkeypatch)
    with monkeypatch.context() as failing:
        failing.setattr(Connection, "require_writable", read_only)
        with pytest.raises(TransientDatabaseError, match="read-only"):
            function.run(record(2, 2))

    with pytest.raises(TransientDatabaseError):
        seen[0].query("SELECT 1")
    assert function.connection is None
    assert function.run(record(2, 2)) == (1, 1, 0, 0)


def read_only(connection: Connection) -> None:
    raise TransientDatabaseError("it is read-only", code="database_read_only")


def test_a_conflict_is_raised_and_the_connection_kept(function: Function, wiring: Wiring) -> None:
    before = function.session()
    function.open.execute("SET SESSION innodb_lock_wait_timeout = 1")
    with connect(wiring.database) as other:
        other.query("SELECT * FROM product_v1 WHERE ProductId = 1 FOR UPDATE")
        with pytest.raises(TransactionConflict):
            function.run(record(2, 1, "changed"), record(3, 9))
        other.rollback()

    assert names(wiring) == {1: "Lamp"}
    assert function.run(record(2, 1, "changed"), record(3, 9)) == (2, 2, 0, 0)
    assert function.session() == before


def test_another_error_rolls_the_transaction_back_and_keeps_the_connection(function: Function, wiring: Wiring) -> None:
    before = function.session()
    run(wiring, "RENAME TABLE cqrs_heartbeat TO elsewhere")  # the last statement of the transaction fails
    with pytest.raises(DatabaseError, match="cqrs_heartbeat"):
        function.run(record(2, 2))
    with connect(wiring.database) as other:
        assert other.query("SELECT ProductId FROM product_v1 WHERE ProductId = 2 FOR UPDATE NOWAIT") == []
    run(wiring, "RENAME TABLE elsewhere TO cqrs_heartbeat")

    assert function.run(record(2, 2)) == (1, 1, 0, 0)
    assert function.session() == before


def test_a_connection_that_cannot_roll_back_is_closed(
    function: Function, wiring: Wiring, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(wiring, "DROP TABLE cqrs_heartbeat")

    def dying(connection: Connection) -> None:
        raise TransientDatabaseError("gone")

    monkeypatch.setattr(Connection, "rollback", dying)
    with pytest.raises(DatabaseError, match="cqrs_heartbeat"):
        function.run(record(2, 2))
    assert function.connection is None


def test_a_read_model_that_was_dropped_is_made_anew(function: Function, wiring: Wiring) -> None:
    drop(wiring.database, wiring.environment.projections)
    with pytest.raises(DatabaseError):
        function.run(record(2, 2))

    assert function.run(record(2, 2)) == (1, 1, 0, 0)
    assert names(wiring) == {2: "Lamp"}


def test_a_projection_that_was_dropped_beside_another_is_made_anew(wiring: Wiring) -> None:
    other = Projection("other", "Other", PRODUCT.columns)
    function = made(wiring, projections=(PRODUCT, other))
    function.run(record(1, 1))
    drop(wiring.database, wiring.environment.projections)  # drops what the environment declares: product
    with pytest.raises(ReadModelMissing, match="Projection product has no tables any more"):
        function.run(record(2, 2))

    assert function.run(record(2, 2)) == (1, 2, 0, 0)
    assert names(wiring) == {2: "Lamp"}


def test_a_projection_that_was_registered_later_is_filled_too(function: Function, wiring: Wiring) -> None:
    """A rebuild made it after the function was deployed, and the function runs all the while."""
    later = Projection("later", "Later", PRODUCT.columns[:2])
    with connect(wiring.database) as connection:
        schema.create_missing(connection, later)
    assert function.run(record(2, 2)) == (1, 2, 0, 0)

    with connect(wiring.database) as connection:
        rebuilds.begin(connection, later, ARN, 1)
        assert function.run(record(3, 3)) == (1, 2, 0, 0)
        assert [row["ProductId"] for row in connection.query("SELECT ProductId FROM later_v2")] == [3]
    assert [row["ProductId"] for row in rows(wiring, "Later")] == [2, 3]
    assert names(wiring) == {1: "Lamp", 2: "Lamp", 3: "Lamp"}


def test_a_change_that_does_not_fit_a_later_projection_is_its_dead_letter(function: Function, wiring: Wiring) -> None:
    strict = Column("Colour", ColumnType.parse("varchar(20)"), "Colour", required=True)
    with connect(wiring.database) as connection:
        schema.create_missing(connection, Projection("later", "Later", (PRODUCT.columns[0], strict)))

    assert function.run(record(2, 2)) == (1, 1, 0, 1)
    assert [letter.projection for letter in settling.listing(wiring)] == ["later"]


def test_tables_of_another_declaration_are_filled_as_they_were_declared(function: Function, wiring: Wiring) -> None:
    """Rebuilds may have changed a projection more than once since the function was deployed."""
    narrower = Projection(
        "product",
        "Product",
        (*PRODUCT.columns[:1], Column("Name", ColumnType.parse("varchar(2)"), "Name"), *PRODUCT.columns[2:]),
    )
    assert made(wiring, projections=(narrower,)).run(record(2, 2)) == (1, 1, 0, 0)
    assert names(wiring) == {1: "Lamp", 2: "Lamp"}


def test_a_refused_login_is_got_anew_once(wiring: Wiring) -> None:
    right = wiring.database.login()
    wrong = Login(right.user, "not-it")

    logins = Logins(wrong, right)
    assert made(wiring, logins).run(record(1, 1)) == (1, 1, 0, 0)
    assert logins.known == [right]

    twice = Logins(wrong, wrong, right)
    function = made(wiring, twice)
    with pytest.raises(DatabaseError) as raised:
        function.run(record(2, 2))
    assert (raised.value.code, len(twice.known)) == ("database_login", 2)
    assert "not-it" not in str(raised.value)
    assert function.run(record(2, 2)) == (1, 1, 0, 0)


def test_what_the_database_itself_refuses_becomes_a_letter_and_its_neighbours_are_applied(
    function: Function, wiring: Wiring
) -> None:
    run(wiring, "ALTER TABLE product_v1 ADD CONSTRAINT no_swearing CHECK (Name NOT LIKE 'damn%')")

    records = [record(n, n, "damned" if n == 70 else "Lamp") for n in range(2, 102)]

    assert function.run(*records) == (100, 99, 0, 1)
    assert len(names(wiring)) == 100
    (letter,) = settling.listing(wiring)
    assert letter.change.keys == {"ProductId": Decimal(70)}
    assert not letter.shard_id
    assert "no_swearing" in letter.error


def test_a_poison_record_that_comes_again_is_one_letter(function: Function, wiring: Wiring) -> None:
    poison = record(2, 2, "x" * 300)
    assert function.run(poison) == (1, 0, 0, 1)
    assert function.run(poison) == (1, 0, 0, 1)
    assert len(list(settling.listing(wiring))) == 1


def test_a_late_insert_does_not_bring_a_removed_product_back(function: Function, wiring: Wiring) -> None:
    removal = record(6, 1)
    removal["eventName"] = "REMOVE"
    del removal["dynamodb"]["NewImage"]

    assert function.run(removal) == (1, 1, 0, 0)
    assert function.run(record(5, 1, "late")) == (1, 0, 1, 0)
    assert names(wiring) == {}


def test_a_refused_event_opens_no_connection(wiring: Wiring, monkeypatch: pytest.MonkeyPatch) -> None:
    function = made(wiring)

    def preparing(*_: object) -> None:
        raise AssertionError("the database was touched")

    monkeypatch.setattr(module, "connect_making_database", preparing)
    odd = record(1, 1)
    odd["dynamodb"]["StreamViewType"] = "KEYS_ONLY"
    with pytest.raises(EventRefused):
        function.run(odd)
    assert function.run() == (0, 0, 0, 0)


def test_environments_that_start_at_the_same_time_make_one_read_model(wiring: Wiring) -> None:
    """As with a parallelization factor: each has keys of its own, and all beat."""
    together = 8
    functions = [made(wiring) for _ in range(together)]

    def work(number: int) -> list[tuple[float, ...]]:
        batches = range(1, 500, 100)
        return [
            functions[number].run(*(record(n, together * n + number) for n in range(first, first + 100)))
            for first in batches
        ]

    with ThreadPoolExecutor(together) as pool:
        done = list(pool.map(work, range(together)))

    assert done == [[(100, 100, 0, 0)] * 5] * together
    assert len(names(wiring)) == together * 500
    for function in functions:
        function.open.close()
