"""What an operator does by the README, while shards rotate: no change is lost on the way, and nothing goes back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.simulation.history import PROJECTIONS
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
@pytest.mark.parametrize("operation", [another_view, pause_and_resume, takeover_and_back])
def test_an_operation_loses_nothing_while_shards_rotate(seed: int, operation: Callable[[History], list[str]]) -> None:
    with world(seed, ["product"] if operation is another_view else list(PROJECTIONS)) as history:
        history.processes.start("lambda", lambda: history.functions.work(history.processes.wait))
        names = operation(history)
        history.compare("in the end", names)
        assert not history.gaps
        assert not history.wrong + history.eye.wrong, "\n".join(history.told)
