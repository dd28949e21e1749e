"""The projector's connection to the database is killed, again and again."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from cqrsctl.errors import DatabaseError
from cqrsctl.read_model.connection import connect
from tests.faults.load import assert_nothing_lost, wait_until_caught_up
from tests.faults.projector import projecting
from tests.faults.read_model import connections, held_transaction, wait_for_progress
from tests.waiting import wait_for

if TYPE_CHECKING:
    from cqrsctl.read_model.connection import Connection
    from cqrsctl.wiring import Wiring
    from tests.conftest import Cqrsctl
    from tests.faults.load import Writer
    from tests.faults.projector import Projector

KILLS = 24


@pytest.mark.timeout(200)
def test_killed_connections_in_the_middle_of_transactions_lose_and_repeat_nothing(
    cqrsctl: Cqrsctl, wiring: Wiring, writer: Writer
) -> None:
    with projecting(cqrsctl) as projector:
        with writer, connect(wiring.database) as looking:
            for number in range(KILLS):
                wait_for_progress(looking, projector)
                hiccups = projector.hiccups()
                if number % 2:
                    with held_transaction(wiring, looking, projector) as connection:
                        looking.execute(f"KILL CONNECTION {connection}")
                else:
                    wait_for(lambda: _kill_at_sight(looking, projector), "the projector runs a statement")
                wait_for(lambda told=hiccups: projector.hiccups() > told, "the projector notices")  # type: ignore[misc]
            writer.stop()
        wait_until_caught_up(wiring, writer)
        report = projector.stop()

    assert_nothing_lost(cqrsctl, wiring, writer)
    # A commit whose outcome is unknown may have been done: then its changes are not counted, and not applied again.
    assert report["changes"] <= writer.changes
    assert report["stale"] == 0


def _kill_at_sight(looking: Connection, projector: Projector) -> bool:
    """Kill a connection that runs a statement right now, whichever it is; whether there was one."""
    projector.assert_running()
    for connection in connections(looking, busy=True):
        with suppress(DatabaseError):  # it ended by itself, meanwhile
            looking.execute(f"KILL CONNECTION {connection}")
            return True
    return False
