"""Rebuilds while products are written and the view is read: killed, resumed, discarded, undone, beside projectors.

REBUILD_ROUNDS sets how often the rebuilds of the first test are killed at each moment.
"""

from __future__ import annotations

import json
import os
import signal
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from cqrsctl.clock import SystemClock
from cqrsctl.pipeline import project
from cqrsctl.read_model import locks
from cqrsctl.read_model.connection import connect
from cqrsctl.stream.reader import Beginning
from cqrsctl.write_model.table import TableSpec, create
from tests.conftest import Cqrsctl
from tests.faults.load import assert_nothing_lost, wait_until_caught_up
from tests.faults.projector import projecting
from tests.faults.read_model import is_at_work
from tests.faults.rebuild_command import (
    SLOWLY,
    active_table,
    building_table,
    held,
    physical_tables,
    rebuilding,
    state,
    viewed_table,
    wait_until_loading,
    wait_until_state,
)
from tests.faults.rebuild_sampler import NotingWriter, Sampler
from tests.pipelines import MARK_GAP
from tests.waiting import wait_for

if TYPE_CHECKING:
    import random

    from cqrsctl.read_model.connection import Connection
    from cqrsctl.wiring import Wiring
    from tests.faults.rebuild_command import Rebuild

ROUNDS = int(os.environ.get("REBUILD_ROUNDS") or 1)
MOMENTS = ("starting", "beginning", "loading", "loaded", "cutover")
"""When a rebuild is killed, in the order in which it comes to them."""
WITH_CURRENCY = """
[[projections]]
name = "product"
view = "Product"
columns = [
  { name = "ProductId", type = "bigint", key = true },
  { name = "Name", type = "varchar(255)", required = true, index = true },
  { name = "Price", type = "decimal(18,4)", required = true },
  { name = "OutOfStock", type = "boolean", default = false },
  { name = "Currency", type = "varchar(3)", default = "EUR" },
]
"""


@pytest.fixture
def writer(wiring: Wiring, chance: random.Random) -> NotingWriter:
    """A writer that has written every product once; the read model has them."""
    create(wiring.dynamodb, TableSpec(wiring.environment.table), lambda _: None, SystemClock())
    writer = NotingWriter(wiring, chance)
    writer.fill()
    run = project.Run(wiring, wiring.environment.projections, SystemClock(), lambda _: None, lambda _: None)
    project.from_stream(run, once=True, beginning=Beginning.HORIZON, dry_run=False)
    return writer


@pytest.mark.timeout(100 + 100 * ROUNDS)
@pytest.mark.parametrize(
    ("moments", "alone"), [(MOMENTS, False), (MOMENTS[2:], True)], ids=["beside a projector", "projecting itself"]
)
def test_a_rebuild_that_is_killed_again_and_again_goes_on_and_nothing_goes_back(
    cqrsctl: Cqrsctl, wiring: Wiring, writer: NotingWriter, chance: random.Random, moments: tuple[str, ...], alone: bool
) -> None:
    with ExitStack() as stack:
        looking = stack.enter_context(connect(wiring.database))
        projector = None if alone else stack.enter_context(projecting(cqrsctl))
        wait_for(lambda: projector is None or is_at_work(looking, projector), "the projector takes its lock")
        sampler = stack.enter_context(Sampler(wiring, writer.history))
        stack.enter_context(writer)
        for moment in [moment for moment in moments for _ in range(ROUNDS)]:
            with rebuilding(cqrsctl, *SLOWLY) as rebuild:
                _kill(rebuild, moment, wiring, looking, chance)
        assert active_table(looking) == "product_v1", "it was not killed before its end"
        with rebuilding(cqrsctl) as rebuild:
            report = rebuild.report()
        sampler.look_on()
        writer.stop()
        if projector is None:
            cqrsctl.ok("project", "--once")
        else:
            wait_until_caught_up(wiring, writer)
            projector.stop()
        sampler.look_on()
        sampler.assert_nothing_went_back()
        assert report["table"] == active_table(looking) == viewed_table(looking)
        assert building_table(looking) is None
        assert physical_tables(looking) == {"product_v1", report["table"]}

    assert_nothing_lost(cqrsctl, wiring, writer)


def _kill(rebuild: Rebuild, moment: str, wiring: Wiring, looking: Connection, chance: random.Random) -> None:
    """Kill at a random moment of that kind."""
    if moment == "starting":
        time.sleep(chance.uniform(0.1, 1))
    elif moment == "beginning":
        wait_until_state(looking, rebuild, "loading")
    elif moment == "loading":
        wait_until_loading(looking, rebuild)
        time.sleep(chance.uniform(0, 1))
    with ExitStack() as stack:
        if moment in {"loaded", "cutover"}:
            stack.enter_context(held(wiring, "cqrs_projection"))
            wait_until_state(looking, rebuild, moment)
            time.sleep(chance.uniform(0, 0.3))
        assert rebuild.kill(), "it had ended before"


def test_a_projector_that_is_killed_meanwhile_is_replaced_by_the_rebuild(
    cqrsctl: Cqrsctl, wiring: Wiring, writer: NotingWriter
) -> None:
    with connect(wiring.database) as looking, Sampler(wiring, writer.history) as sampler, writer:
        with projecting(cqrsctl) as projector:
            wait_for(lambda: is_at_work(looking, projector), "the projector takes its lock")
            with rebuilding(cqrsctl, *SLOWLY) as rebuild:
                wait_until_loading(looking, rebuild)
                projector.kill()
                rebuild.report()
        sampler.look_on()
        writer.stop()
        cqrsctl.ok("project", "--once")
        sampler.look_on()
        sampler.assert_nothing_went_back()
        assert viewed_table(looking) == "product_v2"

    assert_nothing_lost(cqrsctl, wiring, writer)


def test_connections_that_are_lost_meanwhile_are_opened_anew(
    cqrsctl: Cqrsctl, wiring: Wiring, writer: NotingWriter
) -> None:
    database = wiring.environment.database.name
    names = [locks.of_rebuild(database, "product"), locks.of_projector(database, "product")]
    with connect(wiring.database) as looking, Sampler(wiring, writer.history) as sampler, writer:
        with rebuilding(cqrsctl, *SLOWLY) as rebuild:
            wait_until_loading(looking, rebuild)
            for lock in names:
                wait_for(lambda lock=lock: _holder(looking, lock) is not None, f"somebody holds {lock}")  # type: ignore[misc]
                killed = _holder(looking, lock)
                looking.execute(f"KILL CONNECTION {killed}")
                wait_for(
                    lambda lock=lock, killed=killed: _holder(looking, lock) not in {None, killed},  # type: ignore[misc]
                    f"another connection holds {lock}",
                )
            assert "Trying again." in rebuild.remarks()
            report = rebuild.report()
        sampler.look_on()
        writer.stop()
        cqrsctl.ok("project", "--once")
        sampler.look_on()
        sampler.assert_nothing_went_back()
        assert report["table"] == viewed_table(looking) == "product_v2"

    assert_nothing_lost(cqrsctl, wiring, writer)


def _holder(looking: Connection, lock: str) -> int | None:
    """The id of the connection that holds a lock."""
    (found,) = looking.query("SELECT IS_USED_LOCK(%s) AS connection", (lock,))
    connection: int | None = found["connection"]
    return connection


def test_the_cutover_waits_for_a_projector_that_is_behind_the_snapshot(
    cqrsctl: Cqrsctl, wiring: Wiring, writer: NotingWriter
) -> None:
    with (
        connect(wiring.database) as looking,
        Sampler(wiring, writer.history) as sampler,
        projecting(cqrsctl) as projector,
    ):
        wait_for(lambda: is_at_work(looking, projector), "the projector takes its lock")
        projector.process.send_signal(signal.SIGSTOP)
        for _ in range(3):  # the snapshot has the last of three states, the stream leads there through the others
            writer.write_some(10)
        with rebuilding(cqrsctl) as rebuild:
            wait_until_state(looking, rebuild, "loaded")
            sampler.look_on(100)
            rebuild.assert_running()
            assert viewed_table(looking) == "product_v1"
            projector.process.send_signal(signal.SIGCONT)
            rebuild.report()
        wait_until_caught_up(wiring, writer)
        projector.stop()
        sampler.look_on()
        sampler.assert_nothing_went_back()
        assert viewed_table(looking) == "product_v2"

    assert_nothing_lost(cqrsctl, wiring, writer)


def test_one_rebuild_at_a_time_and_one_that_is_discarded_leaves_nothing(
    cqrsctl: Cqrsctl, wiring: Wiring, writer: NotingWriter
) -> None:
    with (
        connect(wiring.database) as looking,
        Sampler(wiring, writer.history) as sampler,
        projecting(cqrsctl) as projector,
    ):
        wait_for(lambda: is_at_work(looking, projector), "the projector takes its lock")
        with writer:
            with rebuilding(cqrsctl, *SLOWLY) as rebuild:
                wait_until_loading(looking, rebuild)
                with held(wiring, "cqrs_rebuild"):
                    for options in ((), ("--undo",), ("--discard",)):
                        second = cqrsctl("rebuild", *options, "--yes", "-o", "json")
                        assert (second.code, json.loads(second.err.splitlines()[-1])["error"]["code"]) == (9, "busy")
                    assert rebuild.kill()
            cqrsctl.ok("rebuild", "--discard", "--yes")
            assert physical_tables(looking) == {"product_v1"}
            assert viewed_table(looking) == active_table(looking) == "product_v1"
            assert building_table(looking) is None
            assert state(looking) is None
            writer.stop()
        wait_until_caught_up(wiring, writer)
        projector.stop()
        sampler.look_on()
        sampler.assert_nothing_went_back()

    assert_nothing_lost(cqrsctl, wiring, writer)


def test_a_new_column_comes_while_the_old_projector_runs_on(
    cqrsctl: Cqrsctl, wiring: Wiring, writer: NotingWriter
) -> None:
    folder = cqrsctl.directory / "new"
    folder.mkdir()
    (folder / "cqrsctl.toml").write_text(WITH_CURRENCY)
    new = Cqrsctl(folder, cqrsctl.variables)
    with (
        connect(wiring.database) as looking,
        Sampler(wiring, writer.history) as sampler,
        projecting(cqrsctl) as projector,
    ):
        wait_for(lambda: is_at_work(looking, projector), "the projector takes its lock")
        with writer:
            refused = new("project", "--once", "-o", "json")
            assert (refused.code, json.loads(refused.err)["error"]["code"]) == (5, "schema_differs")
            new.ok("rebuild", "--yes")
            sampler.look_on()
            writer.stop()
        wait_until_caught_up(wiring, writer)
        assert new("rebuild", "--undo", "--yes").code == 9, "its checkpoints would go back under the running projector"
        projector.stop()
        sampler.look_on()
        sampler.assert_nothing_went_back()
        assert looking.query("SELECT DISTINCT Currency FROM Product") == [{"Currency": "EUR"}]
        assert looking.query("SHOW INDEX FROM product_v2 WHERE column_name = 'Name'")

    assert_nothing_lost(new, wiring, writer)
    assert cqrsctl("project", "--once").code == 5


def test_an_undone_rebuild_shows_all_that_was_written_since(
    cqrsctl: Cqrsctl, wiring: Wiring, writer: NotingWriter
) -> None:
    with connect(wiring.database) as looking, Sampler(wiring, writer.history) as sampler:
        cqrsctl.ok("rebuild", "--all", "--yes")
        assert viewed_table(looking) == "product_v2"
        writer.write_some(10)
        cqrsctl.ok("project", "--once")
        sampler.look_on()
        with writer:
            cqrsctl.ok("rebuild", "--undo", "--yes")
            sampler.look_on()
            writer.stop()
        cqrsctl.ok("project", "--once")
        sampler.look_on()
        sampler.assert_nothing_went_back()
        assert viewed_table(looking) == active_table(looking) == "product_v1"

    assert_nothing_lost(cqrsctl, wiring, writer)


def test_a_rebuild_ends_a_gap(cqrsctl: Cqrsctl, wiring: Wiring, writer: NotingWriter) -> None:
    with connect(wiring.database) as looking, Sampler(wiring, writer.history) as sampler:
        looking.execute(MARK_GAP)
        looking.commit()
        writer.write_some(5)
        assert cqrsctl("project", "--once").code == 6

        cqrsctl.ok("rebuild", "--yes")
        writer.write_some(5)
        cqrsctl.ok("project", "--once")

        sampler.look_on()
        sampler.assert_nothing_went_back()
    assert_nothing_lost(cqrsctl, wiring, writer)
