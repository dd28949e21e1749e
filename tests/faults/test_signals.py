"""Signals to a projector that is in the middle of a transaction."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from cqrsctl.read_model.connection import connect
from tests.faults.load import PRODUCTS, assert_nothing_lost
from tests.faults.projector import projecting
from tests.faults.read_model import connections, has_torn_rows, held_transaction, version
from tests.waiting import wait_for

if TYPE_CHECKING:
    from cqrsctl.wiring import Wiring
    from tests.conftest import Cqrsctl
    from tests.faults.load import Writer
    from tests.faults.projector import Projector

BOTH = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])


@BOTH
def test_a_signal_lets_the_running_transaction_finish_and_the_next_run_goes_on_from_there(
    cqrsctl: Cqrsctl, wiring: Wiring, writer: Writer, number: signal.Signals
) -> None:
    with writer, connect(wiring.database) as looking, projecting(cqrsctl) as projector:
        with held_transaction(wiring, looking, projector):
            assert has_torn_rows(wiring, looking)
            before = version(looking)
            projector.process.send_signal(number)
        report = projector.report(number)
        assert version(looking) > before, "the transaction was given up"
        writer.stop()

    rest = cqrsctl.ok("project", "--once", "-o", "json").json()
    assert PRODUCTS + report["changes"] + rest["changes"] == writer.changes
    assert report["stale"] == rest["stale"] == 0
    assert_nothing_lost(cqrsctl, wiring, writer)


@BOTH
def test_a_second_signal_leaves_at_once_and_loses_nothing(
    cqrsctl: Cqrsctl, wiring: Wiring, writer: Writer, number: signal.Signals
) -> None:
    with writer, connect(wiring.database) as looking, projecting(cqrsctl) as projector:
        with held_transaction(wiring, looking, projector):
            before = version(looking)
            wait_for(lambda: _has_left(projector, number), "the projector leaves", seconds=5)
            assert projector.process.returncode == -number
        wait_for(lambda: not connections(looking), "the server gives the projector's connection up")
        assert version(looking) == before
        writer.stop()

    cqrsctl.ok("project", "--once")
    assert_nothing_lost(cqrsctl, wiring, writer)


def _has_left(projector: Projector, number: signal.Signals) -> bool:
    """Whether it has ended; else signal it once more: two that come too close together are one."""
    if projector.process.poll() is not None:
        return True
    projector.process.send_signal(number)
    return False
