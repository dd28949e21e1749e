"""A read model whose making was cut off: each DDL statement commits by itself, so a kill can fall between any two."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cqrsctl.errors import DatabaseError
from cqrsctl.projection.definition import default_product
from cqrsctl.read_model import schema
from cqrsctl.read_model.connection import connect
from tests.faults.load import Writer, assert_nothing_lost
from tests.faults.projector import projecting
from tests.waiting import wait_for

if TYPE_CHECKING:
    import random

    from cqrsctl.wiring import Wiring
    from tests.conftest import Cqrsctl
    from tests.faults.projector import Projector

STATEMENTS = schema.statements([default_product()])


def test_kills_while_the_read_model_is_made_leave_nothing_in_the_way(
    cqrsctl: Cqrsctl, wiring: Wiring, chance: random.Random
) -> None:
    cqrsctl.ok("table", "create")
    writer = Writer(wiring, chance)
    writer.fill()

    for made in range(len(STATEMENTS) + 1):
        with projecting(cqrsctl) as projector:
            wait_for(lambda made=made: _made(wiring, projector) >= made, "the read model is being made")  # type: ignore[misc]
            projector.kill()

    cqrsctl.ok("project", "--once")
    assert_nothing_lost(cqrsctl, wiring, writer)


@pytest.mark.parametrize("made", range(len(STATEMENTS) + 1))
def test_a_read_model_that_a_killed_run_left_half_made_is_made_whole(
    cqrsctl: Cqrsctl, wiring: Wiring, chance: random.Random, made: int
) -> None:
    cqrsctl.ok("table", "create")
    writer = Writer(wiring, chance)
    writer.fill()
    endpoint = wiring.database
    with connect(endpoint, with_database=False) as server:
        schema.create_database(server, endpoint.database)
    with connect(endpoint) as connection:
        for statement in STATEMENTS[:made]:
            connection.execute(statement)

    cqrsctl.ok("project", "--once")

    assert_nothing_lost(cqrsctl, wiring, writer)


def _made(wiring: Wiring, projector: Projector) -> int:
    """How many steps of making the read model are done: the database, then each table and view."""
    projector.assert_running()
    try:
        with connect(wiring.database) as connection:
            return 1 + len(connection.query("SHOW TABLES"))
    except DatabaseError:
        return 0
