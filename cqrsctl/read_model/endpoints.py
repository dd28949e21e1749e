"""The servers of the read model, and the choice of one for a query: the writer, or a reader that is fresh enough."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cqrsctl.errors import CqrsctlError, TransientDatabaseError
from cqrsctl.read_model import heartbeat
from cqrsctl.read_model.connection import connect

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from cqrsctl.read_model.connection import Connection, Endpoint

_log = logging.getLogger(__name__)

REMEMBERED_SECONDS = 5.0
"""As long as Aurora's endpoints live in the DNS."""
_TOLERATED_SECONDS = 1.0
_ARRIVAL_SECONDS = 0.5
_POLL_SECONDS = 0.01
_UPDATED_SECONDS = 5.0
"""A row of Aurora's that is younger than this is of now: Aurora writes each about once a second (observed)."""
_GONE_SECONDS = 300.0
"""A row that is older is of a reader that is gone, as AWS's own drivers take it (aws-advanced-jdbc-wrapper)."""


@dataclass(frozen=True, slots=True)
class Topology:
    """The servers as they are now."""

    writer: Endpoint
    readers: tuple[Endpoint, ...] = ()


class Servers:
    """The servers, remembered for seconds only: a failover changes who is the writer."""

    def __init__(self, look_up: Callable[[], Topology], monotonic: Callable[[], float] = time.monotonic) -> None:
        self._look_up = look_up
        self._monotonic = monotonic
        self._known: Topology | None = None
        self._known_until = 0.0

    def now(self) -> Topology:
        """The remembered servers, looked up if there are none. Raises what the look-up raises."""
        if self._known is None or self._monotonic() >= self._known_until:
            return self.refresh()
        return self._known

    def refresh(self) -> Topology:
        """The servers, looked up again: after a failure what is remembered may be wrong.

        If they cannot be looked up now, it is still the best there is.
        """
        try:
            self._known = self._look_up()
        except CqrsctlError as error:
            if self._known is None:
                raise
            _log.info("the servers cannot be looked up: %s", error.message)
        self._known_until = self._monotonic() + REMEMBERED_SECONDS
        return self._known


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which server a query asks for. `max_staleness_seconds` counts for readers only."""

    writer: bool = False
    max_staleness_seconds: float | None = None


class Freshness:
    """How stale readers are: by Aurora's own report, elsewhere by the heartbeat.

    A heartbeat older than what is tolerated proves nothing, so a new one is written then.
    """

    def __init__(self, writer: Endpoint, tolerated_seconds: float = _TOLERATED_SECONDS) -> None:
        self._aurora: dict[str, float] | None = None
        self._tolerated_seconds = tolerated_seconds
        self._renewed = False
        try:
            with connect(writer) as connection:
                self._aurora = aurora_lags(connection)
                if self._aurora is None:
                    age = heartbeat.age_seconds(connection)
                    self._renewed = age is not None and age > tolerated_seconds and heartbeat.renew(connection)
        except TransientDatabaseError as error:
            _log.info("the writer does not show it: %s", error.message)

    @property
    def reason(self) -> str:
        """Why a reader's staleness is unknown."""
        return "nobody wrote a heartbeat yet" if self._aurora is None else "Aurora has reported no lag of it lately"

    def seconds(self, reader: Connection, name: str) -> float | None:
        """How many seconds a reader is behind the writer at most; None if it is unknown."""
        if self._aurora is not None:
            return self._aurora.get(name)
        deadline = time.monotonic() + (_ARRIVAL_SECONDS if self._renewed else 0)
        while True:
            age = heartbeat.age_seconds(reader)
            if age is None or age <= self._tolerated_seconds or time.monotonic() >= deadline:
                return age
            time.sleep(_POLL_SECONDS)


def aurora_lags(connection: Connection) -> dict[str, float] | None:
    """Each reader's lag in seconds as Aurora reports it, asked on the writer; None if this is not Aurora.

    A reader whose row is too old, or has no lag, is left out. A row that was not updated for some seconds describes the
    past: its age is added to the lag.

    Source: information_schema.replica_host_status, Aurora User Guide, "Aurora MySQL-specific tables": the time of the
    last update is there to determine whether a row is stale.
    """
    if not connection.query("SHOW VARIABLES LIKE 'aurora\\_version'"):
        return None
    rows = connection.query(
        """
        SELECT server_id AS name,
               replica_lag_in_milliseconds AS lag_milliseconds,
               TIMESTAMPDIFF(MICROSECOND, last_update_timestamp, UTC_TIMESTAMP(6)) / 1000000 AS age_seconds
        FROM information_schema.replica_host_status
        WHERE session_id <> 'MASTER_SESSION_ID'
        """
    )
    lags: dict[str, float] = {}
    reported = [row for row in rows if row["lag_milliseconds"] is not None and row["age_seconds"] is not None]
    # A reader that was restarted may have two rows: the younger one counts.
    for row in sorted(reported, key=lambda row: float(row["age_seconds"]), reverse=True):
        age = float(row["age_seconds"])
        if age <= _GONE_SECONDS:
            lags[row["name"]] = float(row["lag_milliseconds"]) / 1_000 + (age if age > _UPDATED_SECONDS else 0)
    return lags


def reading(servers: Servers, wanted: Wanted, rng: random.Random, *, measured: bool = False) -> Connection:
    """A connection for queries: to one of the readers, else to the writer.

    Readers that are gone or too stale are passed over; with `measured` the log says how stale the chosen one is.
    Raises DatabaseError if no server answers.
    """
    topology = servers.now()
    if wanted.writer or not topology.readers:
        _log.info("%s answers (writer)", _called(topology.writer))
        return connect(topology.writer)
    readers = rng.sample(topology.readers, len(topology.readers))
    if wanted.max_staleness_seconds is None and not measured:
        chosen = _first(readers, None, None)
    else:
        limit = wanted.max_staleness_seconds
        freshness = Freshness(topology.writer, _TOLERATED_SECONDS if limit is None else limit)
        chosen = _first(readers, freshness, limit)
    if chosen is None:
        writer = servers.refresh().writer
        _log.info("%s answers (writer): no reader is there and fresh enough", _called(writer))
        return connect(writer)
    return chosen


def _first(readers: list[Endpoint], freshness: Freshness | None, limit: float | None) -> Connection | None:
    for endpoint in readers:
        try:
            connection = connect(endpoint)
            seconds = freshness.seconds(connection, endpoint.name) if freshness else None
        except TransientDatabaseError as error:
            _log.info("%s is passed over: %s", _called(endpoint), error.message)
            continue
        stale = "an unknown time" if seconds is None else f"{seconds:.3f} s"
        if limit is None or (seconds is not None and seconds <= limit):
            _log.info("%s answers (reader)%s", _called(endpoint), f", at most {stale} stale" if freshness else "")
            return connection
        _log.info("%s is passed over: it is %s stale", _called(endpoint), stale)
        connection.close()
    return None


def _called(endpoint: Endpoint) -> str:
    return endpoint.name or str(endpoint)
