"""The projector killed with SIGKILL, which nothing can catch, at any moment of its life."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from cqrsctl.read_model.connection import connect
from tests.faults.load import assert_nothing_lost
from tests.faults.projector import projecting
from tests.faults.read_model import has_torn_rows, held_transaction, is_at_work, version, wait_for_progress
from tests.waiting import wait_for

if TYPE_CHECKING:
    import random

    from cqrsctl.read_model.connection import Connection
    from cqrsctl.wiring import Wiring
    from tests.conftest import Cqrsctl
    from tests.faults.load import Writer
    from tests.faults.projector import Projector

KILLS = {"starting": 8, "working": 18, "first batch": 12, "later batch": 12}
"""How many kills fall when: while it starts, after it took its lock, in the middle of a transaction."""


@pytest.mark.timeout(300)
def test_fifty_kills_in_a_row_lose_and_repeat_nothing(
    cqrsctl: Cqrsctl, wiring: Wiring, writer: Writer, chance: random.Random
) -> None:
    moments = [moment for moment, times in KILLS.items() for _ in range(times)]
    chance.shuffle(moments)
    at_work = torn = 0
    versions = set()
    with writer, connect(wiring.database) as looking:
        for moment in moments:
            with projecting(cqrsctl) as projector:
                torn += _kill(projector, moment, wiring, looking, chance)
                at_work += _was_at_work(looking, projector)
            versions.add(version(looking))
        writer.stop()

    cqrsctl.ok("project", "--once")
    assert_nothing_lost(cqrsctl, wiring, writer)
    assert len(moments) == 50
    assert at_work >= 42
    assert torn >= 12, "too few kills fell into the middle of a transaction"
    assert len(versions) >= 12, "the read model hardly got on between the kills"


def _kill(projector: Projector, moment: str, wiring: Wiring, looking: Connection, chance: random.Random) -> bool:
    """Kill at a random moment of that kind; whether rows were written then that were not committed."""
    if moment == "starting":
        time.sleep(chance.uniform(0, 1))
        projector.kill()
        return False
    wait_for(lambda: is_at_work(looking, projector), "the projector takes its lock")
    if moment == "working":
        time.sleep(chance.uniform(0, 1.2))
        projector.kill()
        return False
    if moment == "later batch":
        wait_for_progress(looking, projector)
    with held_transaction(wiring, looking, projector):
        time.sleep(chance.uniform(0, 0.1))
        torn = has_torn_rows(wiring, looking)
        projector.kill()
    return torn


def _was_at_work(looking: Connection, projector: Projector) -> bool:
    (row,) = looking.query("SELECT holder FROM cqrs_heartbeat")
    return bool(row["holder"].endswith(projector.name))
