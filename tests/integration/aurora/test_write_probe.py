"""For how long nobody could write, as it is measured while a cluster fails over."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

from cqrsctl.local.ports import free_port
from cqrsctl.pipeline.failover import WriteProbe
from cqrsctl.projection.definition import default_product
from cqrsctl.read_model.endpoints import Servers, Topology
from cqrsctl.read_model.sink import prepare
from tests.waiting import wait_for

if TYPE_CHECKING:
    from cqrsctl.read_model.connection import Endpoint
    from cqrsctl.wiring import Wiring


@dataclass
class Moving:
    """A cluster whose writer's address can be changed; counts how often it was asked for."""

    writer: Endpoint
    asked: int = 0

    def refresh(self) -> Topology:
        self.asked += 1
        return Topology(self.writer)


def test_the_time_without_a_writer_is_measured(wiring: Wiring) -> None:
    there = wiring.database
    prepare(there, [default_product()])
    servers = Moving(there)
    with WriteProbe(cast("Servers", servers)) as probe:
        assert probe.settled() == 0
        began = time.monotonic()
        servers.writer = replace(there, port=free_port())
        asked = servers.asked
        wait_for(lambda: servers.asked >= asked + 4, "the writer is looked for where nobody is")
        servers.writer = there
        refused = probe.settled()

    assert refused is not None
    assert 0.2 < refused < time.monotonic() - began


def test_the_database_is_asked_more_often_than_rds(wiring: Wiring) -> None:
    prepare(wiring.database, [default_product()])
    servers = Moving(wiring.database)
    with WriteProbe(cast("Servers", servers), look_up_seconds=3_600) as probe:
        wait_for(lambda: len(probe._answered) >= 5, "the writer answers")

    assert servers.asked == 1
