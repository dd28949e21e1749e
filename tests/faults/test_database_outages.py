"""The database goes away under a following projector, and comes back."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from cqrsctl.config import Flags, load
from cqrsctl.local import engines, stack
from cqrsctl.local.state import StackState
from cqrsctl.read_model.connection import connect
from cqrsctl.wiring import Wiring
from tests.conftest import Cqrsctl
from tests.faults.conftest import filled
from tests.faults.load import assert_nothing_lost, wait_until_caught_up
from tests.faults.projector import projecting
from tests.faults.read_model import wait_for_progress
from tests.waiting import wait_for

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator
    from pathlib import Path

    from cqrsctl.local.state import Service

OUTAGES = (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL, signal.SIGTERM)


@pytest.fixture
def own(tmp_path: Path, database: str) -> Iterator[Cqrsctl]:
    """The command on a stack of the test's own, which runs."""
    cqrsctl = Cqrsctl(tmp_path, {"CQRSCTL_STATE_DIR": str(tmp_path / "state")})
    try:
        cqrsctl.ok("local", "up", "--database", database)
        yield cqrsctl
    finally:
        stack.down(_state(cqrsctl), wipe=True)


@pytest.mark.timeout(200)
def test_a_following_projector_outlives_its_database_killed_or_stopped(own: Cqrsctl, chance: random.Random) -> None:
    wiring = Wiring(load(Flags(), own.variables, own.directory))
    writer = filled(own, wiring, chance)
    before = _database(own)
    with projecting(own) as projector:
        with writer:
            for number in OUTAGES:
                with connect(wiring.database) as looking:
                    wait_for_progress(looking, projector)
                hiccups = projector.hiccups()
                _end(_database(own), number)
                wait_for(lambda told=hiccups: projector.hiccups() > told, "the projector notices")  # type: ignore[misc]
                own.ok("local", "up")
                with connect(wiring.database) as looking:
                    wait_for_progress(looking, projector)
            writer.stop()
        wait_until_caught_up(wiring, writer)
        projector.stop()

    after = _database(own)
    assert after.port == before.port
    assert after.pid != before.pid
    assert_nothing_lost(own, wiring, writer)


def _state(own: Cqrsctl) -> StackState:
    return StackState(own.directory / "state" / "local")


def _database(own: Cqrsctl) -> Service:
    (found,) = (_state(own).services()[name] for name in engines.NAMES & _state(own).services().keys())
    return found


def _end(service: Service, number: signal.Signals) -> None:
    process = service.process()
    assert process is not None
    process.send_signal(number)
    wait_for(lambda: service.process() is None, "the server has ended")
