"""Two projectors of one stream at once, which the lock prevents and the guard makes safe."""

from __future__ import annotations

import signal
import sys
import time
from typing import TYPE_CHECKING

import pytest

from cqrsctl.read_model.connection import connect
from tests.faults.load import assert_nothing_lost, wait_until_caught_up
from tests.faults.projector import projecting
from tests.faults.read_model import wait_for_progress

if TYPE_CHECKING:
    import random

    from cqrsctl.read_model.connection import Connection
    from cqrsctl.wiring import Wiring
    from tests.conftest import Cqrsctl
    from tests.faults.load import Writer
    from tests.faults.projector import Projector

WITHOUT_LOCK = """
import cqrsctl.read_model.sink
from cqrsctl.cli.app import main
cqrsctl.read_model.sink.take_lock = lambda *_: None
cqrsctl.read_model.sink.require_lock = lambda *_: None
main()
"""
ROUNDS = 40

# The trigger sees every update, where samples would see only some.
WATCHED = (
    "CREATE TABLE went_back (ProductId BIGINT, before_ DECIMAL(65), after_ DECIMAL(65))",
    """
    CREATE TRIGGER watch BEFORE UPDATE ON product_v1 FOR EACH ROW
    IF NEW._version < OLD._version OR (NEW._version = OLD._version AND NOT (
        NEW.Name <=> OLD.Name AND NEW.Price <=> OLD.Price AND NEW.OutOfStock <=> OLD.OutOfStock
        AND NEW._deleted = OLD._deleted))
    THEN INSERT INTO went_back VALUES (OLD.ProductId, OLD._version, NEW._version);
    END IF
    """,
)


@pytest.mark.timeout(200)
def test_two_projectors_at_once_never_take_a_row_back(
    cqrsctl: Cqrsctl, wiring: Wiring, writer: Writer, chance: random.Random
) -> None:
    command = (sys.executable, "-c", WITHOUT_LOCK)
    with connect(wiring.database) as looking:
        for statement in WATCHED:
            looking.execute(statement)
        with projecting(cqrsctl, "first", command) as first, projecting(cqrsctl, "second", command) as second:
            with writer:
                seen: dict[int, int] = {}
                for _ in range(ROUNDS):
                    suspended, other = chance.sample((first, second), 2)
                    _suspend(suspended, chance)
                    wait_for_progress(looking, other)
                    now = _versions(looking)
                    assert all(now[product] >= version for product, version in seen.items())
                    seen = now
                writer.stop()
            wait_until_caught_up(wiring, writer)
            reports = [first.stop(), second.stop()]
        assert looking.query("SELECT * FROM went_back") == []

    assert_nothing_lost(cqrsctl, wiring, writer)
    assert all(report["rows"] for report in reports), "one of them did nothing"
    assert sum(report["stale"] for report in reports), "they never applied the same change"


def _suspend(projector: Projector, chance: random.Random) -> None:
    """Let it fall behind, if it happens so with changes that were read and not applied yet."""
    projector.assert_running()
    projector.process.send_signal(signal.SIGSTOP)
    time.sleep(chance.uniform(0.1, 0.5))
    projector.process.send_signal(signal.SIGCONT)


def _versions(looking: Connection) -> dict[int, int]:
    found = looking.query("SELECT ProductId, _version FROM product_v1")
    return {row["ProductId"]: int(row["_version"]) for row in found}
