"""Histories of several projections over one stream, on the read model's own SQL in a database in memory.

Projectors with all of them or only some take turns and die, while shards split and rotate, children are listed late,
pages are empty, clocks are wrong, and records are trimmed. In the end each view equals the table, or a gap was
reported.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import pytest

from cqrsctl.errors import StreamGap, TransientAwsError, TransientDatabaseError
from cqrsctl.projection.declaration import conditions
from cqrsctl.projection.definition import Projection, default_product
from cqrsctl.projection.projector import Projector
from cqrsctl.projection.recovery import OnError
from cqrsctl.read_model.connection import connect
from cqrsctl.read_model.sink import MySqlSink, prepare
from cqrsctl.stream import following
from cqrsctl.stream.followers import furthest_behind
from cqrsctl.stream.reader import ReaderOptions, StreamReader
from tests.simulation import stream as streams
from tests.simulation.clock import VirtualClock
from tests.simulation.memory_database import MemoryServer, installed
from tests.simulation.processes import InlineExecutor, Killed
from tests.simulation.seeds import attempted, failures, parametrize
from tests.simulation.stream import Faults, Product, SimulatedStream
from tests.simulation.world import Crashes, Writers

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cqrsctl.change import Checkpoints, Followers, Position
    from cqrsctl.read_model.connection import Endpoint
    from cqrsctl.stream.lineage import Shard

PRODUCT = default_product()
PROJECTIONS = (
    PRODUCT,
    replace(PRODUCT, name="gone", view="Gone", where=conditions({"OutOfStock": True})),
    replace(PRODUCT, name="there", view="There", where=conditions({"OutOfStock": False})),
)
_SEEDS = range(40)
_SEEDS_A_TEST = 10
_MOST_DEATHS = 200


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "seeds" in metafunc.fixturenames:
        parametrize(metafunc, _SEEDS_A_TEST)


@dataclass(slots=True)
class History:
    """One seed's world."""

    rng: random.Random
    plan: random.Random
    clock: VirtualClock
    stream: SimulatedStream
    endpoint: Endpoint
    crashes: Crashes
    gaps: set[str] = field(default_factory=set)
    began: bool = False

    def live(self) -> list[str]:
        """Live through it; what is wrong in the end."""
        writers = Writers(
            self.rng, self.clock, self.stream, keys=self.plan.choice([3, 20]), reshards=0.06, misfits=0.05
        )
        pause_seconds = self.plan.choice([0.1, 0.5])
        for turn in range(self.plan.randint(2, 6)):
            writers.begin(pause_seconds)
            some = self.plan.sample(PROJECTIONS, self.plan.randint(1, len(PROJECTIONS))) if turn else PROJECTIONS
            self.run(some, seconds=self.plan.uniform(2, 15))
            self._stand_still(writers)
        writers.stop()
        self.run([each for each in PROJECTIONS if each.name not in self.gaps], seconds=None)
        return self.differences()

    def run(self, projections: Sequence[Projection], seconds: float | None) -> None:
        """Let projectors of some projections run for a time, or without one until one has caught up.

        The first one has to begin: before it, nothing is promised.
        """
        end = None if seconds is None else self.clock.monotonic() + seconds
        chosen = [each for each in projections if each.name not in self.gaps]
        for _ in range(_MOST_DEATHS):
            if not chosen or (end is not None and self.clock.monotonic() >= end and self.began):
                return
            self.clock.skew_seconds = self.plan.uniform(-299, 299)
            try:
                self._project(chosen, end)
            except (Killed, TransientAwsError, TransientDatabaseError):
                self.clock.sleep(1)
                continue
            except StreamGap as gap:
                if not self.stream.trimmed and not self.stream.strict:
                    raise AssertionError(f"a gap where nothing was lost: {gap}") from gap
                if not gap.followers:
                    raise
                self.gaps |= gap.followers
                chosen = [each for each in chosen if each.name not in self.gaps]
                continue
            if end is None:
                return
        raise AssertionError("projectors die again and again")

    def _project(self, projections: Sequence[Projection], end: float | None) -> None:
        sink = MySqlSink(lambda: self.endpoint, projections, self.stream.arn, self.clock.monotonic)
        projector = Projector(
            sink=sink,
            open_source=self._source,
            clock=self.clock,
            progress=lambda _: None,
            notice=lambda _: None,
            on_error=OnError.DEAD_LETTER,
        )
        projector.run(once=end is None, stopped=lambda: end is not None and self.clock.monotonic() >= end)

    def _source(self, followers: Followers) -> StreamReader:
        self.began = self.began or any(followers.values())
        executor = InlineExecutor()
        return StreamReader(self.stream, self.stream.arn, followers, self.clock, executor, ReaderOptions())

    def _stand_still(self, writers: Writers) -> None:
        hours = self.plan.choice([0, 0, 0, 0, 1, 12, 30])
        if hours:
            writers.begin(mean_pause_seconds=hours * 3600 / 40)
            self.clock.sleep(hours * 3600)

    def fail(self, _: int) -> None:
        """Before or after a commit: the process dies, or its connection is lost."""
        total = self.crashes.before_commit + self.crashes.after_commit
        if self.began and self.rng.random() < total / 2:
            if self.rng.random() < self.crashes.killed:
                raise Killed
            raise OSError("simulated: the connection was lost")

    def differences(self) -> list[str]:
        """What is wrong with the views of projections that have no gap, in words."""
        found = []
        with connect(self.endpoint) as connection:
            for projection in PROJECTIONS:
                if projection.name in self.gaps:
                    continue
                rows = connection.query(f"SELECT * FROM {projection.view}")
                seen = {row["ProductId"]: Product(row["Name"], row["Price"], bool(row["OutOfStock"])) for row in rows}
                found += self._compared(projection, seen)
        return found

    def _compared(self, projection: Projection, seen: dict[int, Product]) -> list[str]:
        true = {
            key: product
            for key, product in self.stream.table.items()
            if projection.includes({"OutOfStock": product.out_of_stock})
        }
        unfit = {key for key, product in self.stream.table.items() if not product.fits}
        return [
            f"{projection.name} {key}: is {true.get(key)}, seen as {seen.get(key)}"
            for key in sorted((seen.keys() | true.keys()) - unfit)
            if seen.get(key) != true.get(key)
        ]


def live(seed: int) -> list[str]:
    """One seed's history; what is wrong in the end."""
    random.seed(seed)  # the jitter of the code under test
    plan, rng, clock = random.Random(f"plan of {seed}"), random.Random(seed), VirtualClock()
    faults = Faults(
        throttled=plan.choice([0, 0.05]),
        failed=plan.choice([0, 0.02]),
        expired=plan.choice([0, 0.1]),
        empty_page=plan.choice([0, 0.5]),
        separate_end=0.3,
        repeated=plan.choice([0, 0.2]),
        late_listing=plan.choice([0, 0.3]),
    )
    stream = SimulatedStream(
        rng,
        clock,
        shards=plan.choice([1, 1, 2]),
        faults=faults,
        listed_a_page=plan.choice([2, 100]),
        records_a_page=plan.choice([3, 1_000]),
        rounded_to_seconds=plan.choice([1, 60]),
    )
    stream.listings_a_second = 10
    stream.strict = plan.random() < 0.5
    stream.lists_children_of_ended = plan.random() < 0.5
    crashes = Crashes(before_commit=plan.choice([0, 0.1]), after_commit=plan.choice([0, 0.1]), killed=0.5)
    server = MemoryServer(clock.now)
    with installed(server), pytest.MonkeyPatch.context() as patch:
        patch.setattr(streams, "MOST_EMPTY_PAGES", 15)
        endpoint = server.endpoint("simulated")
        prepare(endpoint, PROJECTIONS)
        history = History(rng, plan, clock, stream, endpoint, crashes)
        server.before_commit = server.after_commit = history.fail
        wrong = history.live()
        server.before_commit = server.after_commit = lambda _: None
        return wrong


def test_after_any_history_each_view_is_the_table_or_a_gap_was_reported(seeds: range) -> None:
    assert not (wrong := failures(seeds, live)), wrong


# Mistakes, planted, are found.


def found() -> bool:
    """Whether some history goes wrong; without a mistake none does."""
    return any(attempted(live, seed) for seed in _SEEDS)


def test_a_projection_without_a_checkpoint_taken_to_be_as_far_as_the_others_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    start = following.Following.registered

    def as_far_as_the_others(self: following.Following, listed: Mapping[str, Shard], begin: object) -> object:
        def beginning(shard: Shard, positions: Checkpoints, now: object) -> Position:
            known = self.in_shard(shard.shard_id)
            if known and positions:
                return furthest_behind(known.values())
            return begin(shard, positions, now)  # type: ignore[operator,no-any-return]

        return start(self, listed, beginning)

    monkeypatch.setattr(following.Following, "registered", as_far_as_the_others)
    assert found()
