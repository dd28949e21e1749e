"""The read model from outside: who writes to it, how far it is, and a transaction held up half-way."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from cqrsctl.read_model.connection import connect
from tests.faults.load import PRODUCTS
from tests.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cqrsctl.read_model.connection import Connection
    from cqrsctl.wiring import Wiring
    from tests.faults.projector import Projector

_WAITING_MILLISECONDS = 50
"""No upsert of the crash tests takes so long, unless a lock holds it up."""


def is_at_work(looking: Connection, projector: Projector) -> bool:
    """Whether the heartbeat is this projector's, which is the first that it writes with its lock held."""
    projector.assert_running()
    return any(row["holder"].endswith(projector.name) for row in looking.query("SELECT holder FROM cqrs_heartbeat"))


def version(looking: Connection) -> int:
    """The newest version in the table: how far the read model is."""
    return int(looking.query("SELECT MAX(_version) AS newest FROM product_v1")[0]["newest"])


def wait_for_progress(looking: Connection, projector: Projector) -> None:
    """Wait until the projector has committed something more."""
    before = version(looking)

    def got_on() -> bool:
        projector.assert_running()
        return version(looking) > before

    wait_for(got_on, "the read model gets on")


def connections(looking: Connection, *, waiting: bool = False, busy: bool = False) -> list[int]:
    """The ids of the other connections to the database; only those that run a statement, or wait in an upsert."""
    conditions = " AND command = 'Query'" if busy else ""
    if waiting:
        conditions += f" AND time_ms > {_WAITING_MILLISECONDS} AND LEFT(info, 11) = 'INSERT INTO'"
    found = looking.query(
        "SELECT id FROM information_schema.processlist"
        f" WHERE db = DATABASE() AND id <> CONNECTION_ID(){conditions} ORDER BY id"
    )
    return [row["id"] for row in found]


@contextmanager
def held_transaction(wiring: Wiring, looking: Connection, projector: Projector) -> Iterator[int]:
    """Hold the projector up in the middle of a transaction; the id of its connection.

    The rows of a batch are written in key order, and another transaction has locked the upper half of the table.
    """
    with connect(wiring.database) as locking:
        locking.query("SELECT ProductId FROM product_v1 WHERE ProductId > %s FOR UPDATE", (PRODUCTS // 2,))
        waiting: list[int] = []

        def is_held() -> bool:
            projector.assert_running()
            waiting[:] = connections(looking, busy=True, waiting=True)
            return bool(waiting)

        wait_for(is_held, "the projector waits for a locked row", seconds=15)
        yield waiting[0]


def has_torn_rows(wiring: Wiring, looking: Connection) -> bool:
    """Whether rows are written that are not committed yet."""
    with connect(wiring.database) as dirty:
        dirty.execute("SET SESSION TRANSACTION ISOLATION LEVEL READ UNCOMMITTED")
        return version(dirty) > version(looking)
