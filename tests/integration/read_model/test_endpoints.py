"""Which server answers a query: readers that are there and fresh enough, else the writer."""

from __future__ import annotations

import logging
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

import pytest

from cqrsctl.errors import CqrsctlError, DatabaseError, TransientDatabaseError
from cqrsctl.local.ports import free_port
from cqrsctl.projection.definition import default_product
from cqrsctl.read_model import heartbeat
from cqrsctl.read_model.connection import Connection, Login, connect
from cqrsctl.read_model.endpoints import REMEMBERED_SECONDS, Freshness, Servers, Topology, Wanted, aurora_lags, reading
from cqrsctl.read_model.sink import prepare

if TYPE_CHECKING:
    from cqrsctl.read_model.connection import Endpoint
    from cqrsctl.wiring import Wiring

ANY = Wanted()


@pytest.fixture
def writer(wiring: Wiring) -> Endpoint:
    """A server with a read model; as there is one only, it plays the readers too, under other names."""
    prepare(wiring.database, [default_product()])
    return replace(wiring.database, name="writer")


def named(endpoint: Endpoint, *names: str) -> tuple[Endpoint, ...]:
    return tuple(replace(endpoint, name=name) for name in names)


def gone(endpoint: Endpoint, name: str) -> Endpoint:
    return replace(endpoint, name=name, port=free_port())


def beat(endpoint: Endpoint, seconds_ago: float) -> None:
    with connect(endpoint) as connection:
        heartbeat.write(connection, "a test")
        connection.execute(
            "UPDATE cqrs_heartbeat SET beat_at = NOW(6) - INTERVAL %s SECOND, projected_at = beat_at", (seconds_ago,)
        )
        connection.commit()


def answering(
    caplog: pytest.LogCaptureFixture, topology: Topology, wanted: Wanted = ANY, *, measured: bool = False, seed: int = 0
) -> str:
    """The line that tells who answers."""
    caplog.clear()
    with (
        caplog.at_level(logging.INFO, "cqrsctl.read_model.endpoints"),
        reading(Servers(lambda: topology), wanted, random.Random(seed), measured=measured) as connection,
    ):
        assert connection.query("SELECT 1 AS one") == [{"one": 1}]
    (line,) = [message for message in caplog.messages if " answers (" in message]
    return line


def test_queries_spread_over_the_readers(caplog: pytest.LogCaptureFixture, writer: Endpoint) -> None:
    topology = Topology(writer, named(writer, "r1", "r2", "r3"))

    answers = {answering(caplog, topology, seed=seed).split()[0] for seed in range(40)}

    assert answers == {"r1", "r2", "r3"}


def test_without_readers_or_asked_for_the_writer_answers(caplog: pytest.LogCaptureFixture, writer: Endpoint) -> None:
    assert answering(caplog, Topology(writer)) == "writer answers (writer)"
    assert answering(caplog, Topology(writer, named(writer, "r1")), Wanted(writer=True)) == "writer answers (writer)"


def test_a_reader_that_is_gone_is_passed_over(caplog: pytest.LogCaptureFixture, writer: Endpoint) -> None:
    topology = Topology(writer, (gone(writer, "r1"), *named(writer, "r2")))

    assert {answering(caplog, topology, seed=seed) for seed in range(10)} == {"r2 answers (reader)"}
    alone = Topology(writer, (gone(writer, "r1"),))
    assert answering(caplog, alone) == "writer answers (writer): no reader is there and fresh enough"
    assert any("r1 is passed over" in message for message in caplog.messages)


def test_a_heartbeat_that_is_new_enough_lets_a_reader_answer(
    caplog: pytest.LogCaptureFixture, writer: Endpoint
) -> None:
    topology = Topology(writer, named(writer, "r1"))
    beat(writer, 5)

    assert answering(caplog, topology, Wanted(max_staleness_seconds=60)).startswith("r1 answers (reader), at most 5.")


def test_an_old_heartbeat_is_renewed_on_the_writer_and_waited_for(
    caplog: pytest.LogCaptureFixture, writer: Endpoint
) -> None:
    topology = Topology(writer, named(writer, "r1"))
    beat(writer, 3600)

    assert answering(caplog, topology, Wanted(max_staleness_seconds=1)).startswith("r1 answers (reader), at most 0.0")
    with connect(writer) as connection:  # who projected last, and when, is another question
        last = heartbeat.last(connection)
    assert last is not None
    assert (last.holder, (datetime.now(UTC) - last.at) > timedelta(minutes=59)) == ("a test", True)


def test_a_heartbeat_in_use_by_a_projector_is_not_waited_for(
    caplog: pytest.LogCaptureFixture, writer: Endpoint
) -> None:
    topology = Topology(writer, named(writer, "r1"))
    beat(writer, 3600)
    with connect(writer) as projector:
        heartbeat.write(projector, "a projector")

        assert answering(caplog, topology, Wanted(max_staleness_seconds=1)).startswith("writer answers")
    assert any("r1 is passed over: it is 36" in message for message in caplog.messages)


def test_without_a_heartbeat_nothing_proves_a_reader_fresh(caplog: pytest.LogCaptureFixture, writer: Endpoint) -> None:
    topology = Topology(writer, named(writer, "r1"))

    assert answering(caplog, topology, Wanted(max_staleness_seconds=60)).startswith("writer answers")
    assert any("r1 is passed over: it is an unknown time stale" in message for message in caplog.messages)
    assert answering(caplog, topology, measured=True) == "r1 answers (reader), at most an unknown time stale"


def test_without_a_read_model_nothing_proves_a_reader_fresh(caplog: pytest.LogCaptureFixture, wiring: Wiring) -> None:
    empty = replace(wiring.database, database="cqrs", name="writer")  # the stack makes it, and this test no tables

    told = answering(caplog, Topology(empty, named(empty, "r1")), Wanted(max_staleness_seconds=60))

    assert told.startswith("writer answers")


class MayOnlyRead:
    """A connection whose user may lock no row and write none."""

    def query(self, _: str) -> list[dict[str, Any]]:
        raise DatabaseError("SELECT, LOCK TABLES command denied", code="database_permission")

    def rollback(self) -> None:
        """There is nothing to undo."""


def test_a_user_that_may_only_read_leaves_the_heartbeat_as_it_is() -> None:
    assert not heartbeat.renew(cast("Connection", MayOnlyRead()))


def test_renewing_on_a_server_that_has_become_read_only_is_a_hiccup(writer: Endpoint) -> None:
    beat(writer, 3600)
    with connect(writer) as connection:
        connection.execute("SET SESSION TRANSACTION READ ONLY")

        with pytest.raises(TransientDatabaseError):
            heartbeat.renew(connection)


def test_freshness_is_told_also_where_the_writer_is_gone(writer: Endpoint) -> None:
    beat(writer, 5)
    (reader,) = named(writer, "r1")

    with connect(reader) as connection:
        found = Freshness(gone(writer, "writer")).seconds(connection, "r1")

    assert found is not None
    assert 5 <= found < 60


class AuroraSays:
    """A connection to Aurora, as far as lag is concerned."""

    def __init__(self, rows: list[dict[str, Any]] | None) -> None:
        self._rows = rows
        self.asked: list[str] = []

    def query(self, sql: str) -> list[dict[str, Any]]:
        self.asked.append(sql)
        if sql.startswith("SHOW VARIABLES"):
            return [] if self._rows is None else [{"Variable_name": "aurora_version", "Value": "3.08.2"}]
        return self._rows or []


def row(name: str, lag_milliseconds: float | None, age_seconds: float | None) -> dict[str, Any]:
    return {"name": name, "lag_milliseconds": lag_milliseconds, "age_seconds": age_seconds}


def lags_of(*rows: dict[str, Any]) -> dict[str, float] | None:
    return aurora_lags(cast("Connection", AuroraSays(list(rows))))


def test_on_aurora_each_readers_lag_is_what_the_writer_says() -> None:
    says = AuroraSays([row("products-2", 18.5, 0.4), row("products-3", 2_500.0, 1.2)])

    assert aurora_lags(cast("Connection", says)) == {"products-2": 0.0185, "products-3": 2.5}
    assert "information_schema.replica_host_status" in says.asked[-1]
    assert "last_update_timestamp" in says.asked[-1]
    assert aurora_lags(cast("Connection", AuroraSays(None))) is None


def test_a_reader_that_is_gone_has_no_lag_though_its_row_is_still_there() -> None:
    assert lags_of(row("products-2", 18.5, 301.0), row("products-3", 20.0, None), row("products-4", None, 1.0)) == {}


def test_a_row_that_is_not_updated_any_more_counts_by_its_age() -> None:
    assert lags_of(row("products-2", 500.0, 60.0), row("products-3", 500.0, -0.5)) == {
        "products-2": 60.5,
        "products-3": 0.5,
    }


def test_of_two_rows_of_a_reader_that_was_restarted_the_newer_one_counts() -> None:
    assert lags_of(row("products-2", 10.0, 100.0), row("products-2", 20.0, 0.2)) == {"products-2": 0.02}
    assert lags_of(row("products-2", 20.0, 0.2), row("products-2", 10.0, 100.0)) == {"products-2": 0.02}


def test_servers_are_remembered_for_seconds_and_looked_up_anew_when_asked() -> None:
    now = [0.0]
    looked: list[Topology] = []

    def look_up() -> Topology:
        looked.append(Topology(cast("Endpoint", object())))
        return looked[-1]

    servers = Servers(look_up, lambda: now[0])

    assert servers.now() is servers.now()
    assert servers.refresh() is looked[1]
    now[0] = REMEMBERED_SECONDS
    assert servers.now() is looked[2]
    assert len(looked) == 3


def test_servers_that_cannot_be_looked_up_any_more_are_those_that_are_known() -> None:
    there = Topology(cast("Endpoint", object()))
    answers: list[Topology | CqrsctlError] = [there, CqrsctlError("the endpoint is down")]

    def look_up() -> Topology:
        answer = answers.pop(0)
        if isinstance(answer, CqrsctlError):
            raise answer
        return answer

    servers = Servers(look_up)

    assert servers.refresh() is there
    assert servers.refresh() is there
    assert answers == []
    with pytest.raises(CqrsctlError, match="down"):
        Servers(lambda: raised(CqrsctlError("it is down"))).now()


def raised(error: CqrsctlError) -> Topology:
    raise error


def test_an_endpoints_login_never_shows(writer: Endpoint) -> None:
    login = Login("somebody", "hidden-word")

    assert "hidden-word" not in repr(login) + repr(replace(writer, login=lambda: login))
