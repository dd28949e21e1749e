"""Histories of a whole pipeline, in which all goes wrong that can; see `tests.simulation.history`.

In the end each view equals the table, or a gap was reported; on the way no reader saw anything go backwards, and no
dead letter vanished.
"""

from __future__ import annotations

import random
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from cqrsctl.read_model.sink import prepare
from tests.simulation import stream as streams
from tests.simulation.aws import SimulatedDynamoDb, SimulatedLambda
from tests.simulation.history import MOST_SKEW_SECONDS, PROJECTIONS, History, Mishaps
from tests.simulation.memory_database import MemoryServer, installed
from tests.simulation.processes import Process, Processes
from tests.simulation.readers import Eye
from tests.simulation.real_database import RealServer
from tests.simulation.seeds import failures, parametrize
from tests.simulation.stream import Faults, SimulatedStream
from tests.simulation.world import Writers

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from datetime import datetime

    from cqrsctl.wiring import Wiring
    from tests.simulation.clock import VirtualClock

_SEEDS_A_TEST = 5
_SEEDS_A_DATABASE_SEED = 10


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Some of the seeds also run against the real database."""
    if "real_server" in metafunc.fixturenames:
        parametrize(metafunc, 1, step=_SEEDS_A_DATABASE_SEED)
    elif "seeds" in metafunc.fixturenames:
        parametrize(metafunc, _SEEDS_A_TEST)


class Hooks:
    """The hooks of a database server: connections are lost and processes end at commits, and others get their turn."""

    def __init__(
        self, rng: random.Random, server: MemoryServer | RealServer, processes: Processes, mishaps: Mishaps, eye: Eye
    ) -> None:
        self._eye = eye
        self._rng = rng
        self._server = server
        self._processes = processes
        self._mishaps = mishaps
        self._owners: dict[int, Process] = {}
        self._changed: set[str] = set()
        """The tables that the transaction which is being committed changed."""
        server.before_statement = self.before_statement
        server.before_commit = self.before_commit
        server.after_commit = self.after_commit
        server.waits = lambda: processes.wait(0.05)
        processes.killed = self.killed

    def before_statement(self, number: int, _: str) -> None:
        process = self._process(number)
        if process is None:
            return
        self._owners[number] = process
        self._processes.require_alive()
        if self._rng.random() < self._mishaps.between_statements:
            self._processes.wait(self._rng.uniform(0, 0.2))

    def before_commit(self, number: int) -> None:
        if self._process(number) is not None:
            self._changed = set(self._server.changed(number))
            self._fail(self._mishaps.before_commit)

    def after_commit(self, number: int) -> None:
        if self._process(number) is not None:
            if any(not name.startswith("cqrs_") or name == "cqrs_projection" for name in self._changed):
                self._eye.look()
            self._fail(self._mishaps.after_commit)

    def killed(self, process: Process) -> None:
        """The server ends the connections of a process that ended."""
        for number in [number for number, owner in self._owners.items() if owner is process]:
            del self._owners[number]
            self._server.kill_if_there(number)

    def _process(self, number: int) -> Process | None:
        """Whose connection it is; None where it is the reader's or the history's own."""
        return None if number == self._eye.number else self._processes.current

    def _fail(self, chance: float) -> None:
        if not self._changed or not self._mishaps.happen or self._rng.random() >= chance:
            return
        if self._rng.random() < self._mishaps.killed:
            self._processes.kill()
        raise OSError("simulated: the connection was lost")


@contextmanager
def world(
    seed: int,
    made: Collection[str] = tuple(PROJECTIONS),
    serving: Callable[[Callable[[], datetime]], MemoryServer | RealServer] = MemoryServer,
) -> Iterator[History]:
    """The world of a seed, in which its history can be lived.

    `made` are the projections that have a table and a view; `serving` makes the database server, given its clock.
    """
    random.seed(seed)  # the jitter of the code under test
    plan, rng, processes = random.Random(f"plan of {seed}"), random.Random(seed), Processes()
    clock = processes.clock
    stream = a_stream(plan, rng, clock)
    skew = timedelta(seconds=plan.uniform(-MOST_SKEW_SECONDS, MOST_SKEW_SECONDS))
    server = serving(lambda: clock.aws_now() + skew)
    mishaps = Mishaps(
        before_commit=plan.choice([0, 0.03]),
        after_commit=plan.choice([0, 0.03]),
        killed=0.5,
        between_statements=plan.choice([0, 0.01]) if isinstance(server, MemoryServer) else 0,
    )
    with installed(server), processes.in_place_of_threads(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(streams, "MOST_EMPTY_PAGES", 15)
        endpoint = server.endpoint(f"simulated_{seed}")
        prepare(endpoint, [PROJECTIONS[name] for name in made])
        eye = Eye(endpoint, stream, PROJECTIONS.values())
        eye.blind = PROJECTIONS.keys() - made
        Hooks(rng, server, processes, mishaps, eye)
        url = (
            "https://dynamodb.eu-central-1.amazonaws.com" if stream.rounds_to_seconds == 1 else "http://127.0.0.1:8000"
        )
        writers = Writers(
            rng,
            clock,
            stream,
            keys=plan.choice([3, 12, 40]),
            reshards=0.05,
            merges=plan.random() < 0.1,
            misfits=0.05,
            most_shards=4,
            least_age_seconds=10,
            most_listed=100,
            merge_pause_seconds=3600,
        )
        try:
            yield History(
                rng=rng,
                plan=plan,
                clock=clock,
                processes=processes,
                stream=stream,
                dynamodb=SimulatedDynamoDb(rng, clock, stream, url, plan.choice([2, 1_000]), stream.faults.throttled),
                functions=SimulatedLambda(rng, clock, stream, plan.choice([3, 1_000])),
                endpoint=endpoint,
                eye=eye,
                writers=writers,
                mishaps=mishaps,
            )
        finally:
            processes.end_all()
            eye.close()


def a_stream(plan: random.Random, rng: random.Random, clock: VirtualClock) -> SimulatedStream:
    """A table and its stream, on which all goes wrong that the plan says."""
    stream = SimulatedStream(
        rng,
        clock,
        shards=plan.choice([1, 1, 2]),
        faults=Faults(
            throttled=plan.choice([0, 0.05]),
            failed=plan.choice([0, 0.02]),
            unreachable=plan.choice([0, 0.02]),
            expired=plan.choice([0, 0.1]),
            empty_page=plan.choice([0, 0.5]),
            separate_end=0.3,
            repeated=plan.choice([0, 0.2]),
            late_listing=plan.choice([0, 0.3]),
        ),
        listed_a_page=plan.choice([5, 100]),
        records_a_page=plan.choice([20, 1_000]),
        rounded_to_seconds=plan.choice([1, 1, 60]),
    )
    stream.listings_a_second = 10
    stream.strict = plan.random() < 0.5
    stream.lists_children_of_ended = plan.random() < 0.5
    stream.attempts = 2
    stream.delay_seconds = plan.choice([0, 4])
    return stream


def live(seed: int) -> list[str]:
    """One seed's history; what is wrong in the end."""
    with world(seed) as history:
        return history.live()


@pytest.fixture
def real_server(wiring: Wiring) -> Iterator[Callable[[Callable[[], datetime]], RealServer]]:
    """Makes servers of the real database, each with a database of its own."""
    made: list[RealServer] = []

    def make(clock: Callable[[], datetime]) -> RealServer:
        made.append(RealServer(wiring.database, clock))
        return made[-1]

    yield make
    for server in made:
        server.close()


def test_after_any_history_each_view_of_a_real_database_is_the_table_or_a_gap_was_reported(
    seeds: range, real_server: Callable[[Callable[[], datetime]], RealServer]
) -> None:
    def live_on_it(seed: int) -> list[str]:
        with world(seed, serving=real_server) as history:
            return history.live()

    assert not (wrong := failures(seeds, live_on_it)), wrong


def test_after_any_history_each_view_is_the_table_or_a_gap_was_reported(seeds: range) -> None:
    assert not (wrong := failures(seeds, live)), wrong
