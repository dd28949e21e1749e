"""What an operator does by the README, while shards rotate: no change is lost on the way, and nothing goes back."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from cqrsctl.errors import ConfigurationError, StreamGap, TransientAwsError, TransientDatabaseError
from cqrsctl.pipeline.rebuild import rebuilding
from cqrsctl.pipeline.rebuild.progress import Unfit
from cqrsctl.read_model import checkpoints, locks, rebuilds
from cqrsctl.read_model.connection import connect
from tests.simulation.history import PROJECTIONS
from tests.simulation.processes import Killed
from tests.simulation.readers import NARROW
from tests.simulation.stream import Product
from tests.simulation.test_whole_histories import world

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.simulation.history import History

SEEDS = range(8)


def written(history: History) -> None:
    """Let products be written, and each shard rotate in between."""
    for _ in range(2):
        for _ in range(8):
            history.writers.write()
            history.let_pass(0.5)
        for shard in history.stream.open_shards:
            history.stream.rotate(shard)
    for _ in range(4):
        history.writers.write()
    history.let_pass(5)


def deployed(history: History) -> None:
    """`function deploy`, until AWS takes it."""
    while not history.functions.is_at_work:
        history.deploy()
    written(history)


def switched(history: History) -> None:
    """`function pause` or `function resume`, until AWS takes it."""
    before = history.functions.is_at_work
    while history.functions.is_at_work is before:
        history.switch_function()


def another_view(history: History) -> list[str]:
    """`rebuild --projection` makes a second view beside the first; then `project` follows with both."""
    history.project_once(["product"])
    written(history)
    history.follow(["product"])
    written(history)
    history.rebuild(["gone"], to_its_end=True)
    history.eye.blind.discard("gone")
    written(history)
    history.stop_followers()
    written(history)
    history.follow(["product", "gone"])
    written(history)
    history.project_once(["product", "gone"])
    return ["product", "gone"]


def pause_and_resume(history: History) -> list[str]:
    """The function goes on where it stopped."""
    deployed(history)
    switched(history)
    written(history)
    switched(history)
    written(history)
    assert history.processes.until(lambda: history.functions.is_through, 3_600)
    return list(PROJECTIONS)


def takeover_and_back(history: History) -> list[str]:
    """`project` takes over from a paused function, and the function from it."""
    deployed(history)
    switched(history)
    written(history)
    history.project_once(list(PROJECTIONS))
    history.compare("after the takeover", list(PROJECTIONS))
    written(history)
    switched(history)
    written(history)
    assert history.processes.until(lambda: history.functions.is_through, 3_600)
    return list(PROJECTIONS)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("others", [[], ["product"]])
def test_a_first_rebuild_that_is_left_unfinished_is_a_gap(seed: int, others: list[str]) -> None:
    with world(seed, others) as history:
        written(history)
        history.stream.switch_off()
        history.stream.switch_on()
        for name in others:  # follows the new stream from its start, which is a gap to be ended first
            history.rebuild([name], to_its_end=True)
        with connect(history.endpoint) as connection:
            begun = False
            while not begun:
                history._run("rebuild", lambda: history._rebuilt(["there"], Unfit.SKIP), killed_after=1)
                begun = bool(rebuilds.under_way(connection, "there")) and checkpoints.has_any(
                    connection, "there", history.stream.arn
                )
        unfinished = failed(history, others)
        history._run("rebuild --discard", lambda: rebuilding.discard(history._wiring(), history.declared["there"]))
        discarded = failed(history, others)
        history.rebuild(["there"], to_its_end=True)
        history.eye.blind.discard("there")
        history.project_once([*others, "there"])
        history.compare("in the end", [*others, "there"])

        for failure in (unfinished, discarded):
            assert isinstance(failure, StreamGap)
            assert failure.followers == {"there"}
        assert not history.wrong + history.eye.wrong, "\n".join(history.told)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_rebuild_left_unfinished_while_the_function_stood_still_begins_again(seed: int) -> None:
    with world(seed) as history:
        history.processes.start("lambda", lambda: history.functions.work(history.processes.wait))
        deployed(history)
        history.stream.put(0, Product("x" * (NARROW + 1), Decimal(1), out_of_stock=False))
        unfinished = None
        while unfinished is None:
            history._run("rebuild", lambda: history._rebuilt(["there"], Unfit.STOP))
            with connect(history.endpoint) as connection:
                unfinished = rebuilds.under_way(connection, "there")
        written(history)  # the function fills the table that is being built, too
        switched(history)
        for key in range(1, history.writers.keys):
            history.stream.put(key, Product("changed", Decimal(2), out_of_stock=False))
        history.let_pass(30 * 3600, step_seconds=600)
        history.rebuild(["there"], to_its_end=True)
        history.project_once(["there"])
        history.compare("in the end", ["there"])

        assert not history.wrong + history.eye.wrong, "\n".join(history.told)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_first_rebuild_that_ended_before_anything_was_read_is_none_to_wait_for_a_day_later(seed: int) -> None:
    with world(seed, ["product"]) as history:
        history.project_once(["product"])
        with connect(history.endpoint) as connection:
            # Somebody projects "there" already, so that its rebuild waits, and ends before anything is read for it.
            assert locks.take(connection, locks.of_projector(history.endpoint.database, "there"))
            while not rebuilds.under_way(connection, "there"):
                history._run("rebuild", lambda: history._rebuilt(["there"], Unfit.SKIP), killed_after=5)
            assert not checkpoints.has_any(connection, "there", history.stream.arn)
        written(history)
        history.follow(["product"])
        history.let_pass(30 * 3600, step_seconds=600)
        history.stop_followers()
        new = failed(history, ["product"])
        with connect(history.endpoint) as connection:
            while not checkpoints.has_any(connection, "there", history.stream.arn):
                history._run("rebuild", lambda: history._rebuilt(["there"], Unfit.SKIP), killed_after=1)
        unfinished = failed(history, ["product"])
        history.rebuild(["there"], to_its_end=True)
        history.eye.blind.discard("there")
        history.project_once(["product", "there"])
        history.compare("in the end", ["product", "there"])

        assert isinstance(new, ConfigurationError)
        assert new.code == "projection_new"
        assert isinstance(unfinished, StreamGap)
        assert unfinished.followers == {"there"}
        assert not history.wrong + history.eye.wrong, "\n".join(history.told)


def failed(history: History, others: list[str]) -> BaseException | None:
    """How `project --once` of these and of `there` fails, once AWS and the database let it."""
    while True:
        history.gaps.clear()
        failure = history._run("project --once", lambda: history._project([*others, "there"], once=True))
        if not isinstance(failure, (TransientAwsError, TransientDatabaseError, Killed)):
            return failure


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("operation", [another_view, pause_and_resume, takeover_and_back])
def test_an_operation_loses_nothing_while_shards_rotate(seed: int, operation: Callable[[History], list[str]]) -> None:
    with world(seed, ["product"] if operation is another_view else list(PROJECTIONS)) as history:
        history.processes.start("lambda", lambda: history.functions.work(history.processes.wait))
        names = operation(history)
        history.compare("in the end", names)
        assert not history.gaps
        assert not history.wrong + history.eye.wrong, "\n".join(history.told)
