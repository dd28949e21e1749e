"""The world around the code under test: virtual time, a read model in memory, writers, and a projector that dies."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field, replace
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Generic, ParamSpec, Protocol, TypeVar

from cqrsctl.change import Position, ShardState
from cqrsctl.errors import StreamGap, TransientAwsError, TransientDatabaseError
from cqrsctl.projection.batch import Applied
from cqrsctl.projection.definition import default_product
from cqrsctl.projection.projector import Projector, Sink, Summary
from cqrsctl.projection.recovery import OnError
from cqrsctl.projection.rows import Row
from cqrsctl.projection.tables import PhysicalTable, Tables
from cqrsctl.stream.reader import ReaderOptions, StreamReader
from tests.simulation.clock import BEGINNING, VirtualClock
from tests.simulation.processes import InlineExecutor, Killed
from tests.simulation.stream import Faults, Product, SimulatedStream

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from cqrsctl.change import Followers
    from cqrsctl.projection.batch import Batch

P = ParamSpec("P")
T = TypeVar("T")
AnySink = TypeVar("AnySink", bound="WorldSink")

PRODUCT = default_product()
_MOST_FIRST_STARTS = 100
"""Before a first start nothing is promised, so a history goes on only after one."""


@dataclass(slots=True)
class Crashes:
    """How often a transaction goes wrong. `after_commit`: its outcome is not known to the projector."""

    at_open: float = 0.0
    before_commit: float = 0.0
    after_commit: float = 0.0
    killed: float = 0.0


class WorldSink(Sink, Protocol):
    """A read model that can be looked into, and that fails as it is told to."""

    crashes: Crashes
    stale: int
    commits: int
    backwards: list[str]
    """What went backwards, or was applied out of order, in words."""

    @property
    def products(self) -> dict[int, Product]:
        """What a reader of the view sees."""

    @property
    def letters(self) -> list[tuple[str, int]]:
        """Stream and sequence number of each dead letter."""

    def knows(self, stream_arn: str) -> bool:
        """Whether it was ever fed by a stream."""

    def has_positions(self, stream_arn: str) -> bool:
        """Whether the shards of a stream are registered; a snapshot alone registers none."""

    def remake(self, snapshot: dict[int, Product]) -> None:
        """Make the read model anew; streamed changes win over the snapshot.

        The stream is remembered with the snapshot: should the table be remade before a first position is known,
        the snapshot belongs to another table.
        """


class MemorySink:
    """A read model in memory: rows and checkpoints change together or not at all."""

    def __init__(
        self, rng: random.Random, stream_arn: Callable[[], str], *, guarded: bool = True, torn: bool = False
    ) -> None:
        """`guarded` False leaves out the guard, `torn` True commits checkpoints apart: mistakes, planted."""
        self.crashes = Crashes()
        self.rows: dict[tuple[object, ...], Row] = {}
        self.checkpoints: dict[str, dict[str, Position]] = {}
        self.letters: list[tuple[str, int]] = []
        self.applied: dict[tuple[object, ...], list[int]] = {}
        self.stale = 0
        self.backwards: list[str] = []
        self.commits = 0
        self._rng = rng
        self._stream_arn = stream_arn
        self._guarded = guarded
        self._torn = torn
        self._is_open = False

    @property
    def products(self) -> dict[int, Product]:
        return {row.key[0]: _product(row) for row in self.rows.values() if not row.deleted}

    def knows(self, stream_arn: str) -> bool:
        return stream_arn in self.checkpoints

    def has_positions(self, stream_arn: str) -> bool:
        return bool(self.checkpoints.get(stream_arn))

    def open(self) -> Followers:
        if self._rng.random() < self.crashes.at_open:
            raise TransientDatabaseError("simulated: no connection")
        self._is_open = True
        arn = self._stream_arn()
        if self.checkpoints and arn not in self.checkpoints:
            raise StreamGap(f"fed by another stream, never by {arn}")
        return {PRODUCT.name: dict(self.checkpoints.get(arn, {}))}

    def tables(self) -> Tables:
        return Tables((PhysicalTable(PRODUCT, 1),))

    def apply(self, batch: Batch) -> Applied:
        self._check_open()
        chance = self._rng.random()
        if self._torn:
            self._put_positions(batch)
        if chance < self.crashes.before_commit:
            self._fail()
        chance -= self.crashes.before_commit
        written = sum(self._put_row(row) for row in batch.rows[PRODUCT.name])
        stale = len(batch.rows[PRODUCT.name]) - written
        self.stale += stale
        new = [(letter.change.stream_arn, int(letter.change.sequence_number)) for letter in batch.letters]
        self.letters += [letter for letter in new if letter not in self.letters]
        self._put_positions(batch)
        self.commits += 1
        if chance < self.crashes.after_commit:
            self._fail()
        return Applied(written, stale)

    def beat(self) -> None:
        self._check_open()

    def mark_gap(self, position: Position, followers: Collection[str]) -> None:
        self._check_open()
        shards = self.checkpoints.setdefault(self._stream_arn(), {})
        shards[position.shard_id] = replace(position, state=ShardState.GAP)

    def close(self) -> None:
        self._is_open = False

    def remake(self, snapshot: dict[int, Product]) -> None:
        self.rows = {
            (key,): Row((key,), (item.name, item.price, item.out_of_stock), 0, deleted=False, changed_at=BEGINNING)
            for key, item in snapshot.items()
        }
        self.checkpoints = {self._stream_arn(): {}}
        self.applied = {}

    def _put_row(self, row: Row) -> bool:
        known = self.rows.get(row.key)
        if known is not None and row.version <= known.version:
            if self._guarded:
                return False
            self.backwards.append(f"{row.key}: {row.version} came after {known.version}")
        self.rows[row.key] = row
        versions = self.applied.setdefault(row.key, [])
        if versions and row.version <= versions[-1]:
            self.backwards.append(f"{row.key}: applied out of order: {versions[-1]}, then {row.version}")
        versions.append(row.version)
        return True

    def _put_positions(self, batch: Batch) -> None:
        shards = self.checkpoints.setdefault(self._stream_arn(), {})
        for position in batch.positions:
            shards[position.shard_id] = position

    def _fail(self) -> None:
        self._is_open = False
        total = self.crashes.before_commit + self.crashes.after_commit
        if self._rng.random() * total < self.crashes.killed:
            raise Killed
        raise TransientDatabaseError("simulated: the connection was lost")

    def _check_open(self) -> None:
        if not self._is_open:
            raise AssertionError("open() comes first")


def _product(row: Row) -> Product:
    name, price, out_of_stock = row.values
    assert isinstance(name, str)
    assert isinstance(price, Decimal)
    return Product(name, price, bool(out_of_stock))


@dataclass(slots=True)
class Writers:
    """Those who write products, and DynamoDB itself where it splits and rotates shards."""

    rng: random.Random
    clock: VirtualClock
    stream: SimulatedStream
    keys: int
    reshards: float
    merges: bool = False
    misfits: float = 0.0
    most_shards: int = 12
    least_age_seconds: float = 2.0
    """A shard is split, merged and rotated once it is so old."""
    most_listed: float = math.inf
    """The more shards the stream has, the less often one is rotated; as many as this it never has."""
    merge_pause_seconds: float = 0.0
    """The least time between two merges: of a shard that was merged into another's child, no child is ever listed."""
    _merge_due: float = 0.0
    _shift: int = 0

    def begin(self, mean_pause_seconds: float) -> None:
        """Write on, at another pace from now on."""
        self._shift += 1
        self._pause(self._shift, mean_pause_seconds)

    def stop(self) -> None:
        self._shift += 1

    def _pause(self, shift: int, mean_pause_seconds: float) -> None:
        pause_seconds = self.rng.expovariate(1 / mean_pause_seconds)
        self.clock.after(pause_seconds, lambda: self._go_on(shift, mean_pause_seconds))

    def _go_on(self, shift: int, mean_pause_seconds: float) -> None:
        if shift != self._shift:
            return
        for _ in range(self.rng.choice([1, 1, 1, 5])):
            self.write()
        if self.rng.random() < self.reshards * (1 - len(self.stream.shards) / self.most_listed):
            self._reshard()
        self._pause(shift, mean_pause_seconds)

    def write(self) -> None:
        key = min(self.rng.randrange(self.keys), self.rng.randrange(self.keys))
        chance = self.rng.random()
        if chance < 0.2:
            self.stream.delete(key, by_service=chance < 0.05)
        elif chance < 0.3 and key in self.stream.table:
            self.stream.put(key, self.stream.table[key])
        else:
            name = f"Product {self.rng.randrange(10**6)}" + "x" * (300 if self.rng.random() < self.misfits else 0)
            self.stream.put(key, Product(name, Decimal(self.rng.randrange(10**6)) / 100, chance > 0.8))

    def _reshard(self) -> None:
        now = self.clock.now()
        age = timedelta(seconds=self.least_age_seconds)
        old_enough = [shard for shard in self.stream.open_shards if now - shard.opened_at > age]
        if not old_enough:
            return
        shard = self.rng.choice(old_enough)
        neighbours = [other for other in old_enough if other.low == shard.high]
        may_merge = self.merges and self.clock.monotonic() >= self._merge_due
        if may_merge and neighbours and self.rng.random() < 0.3:
            self._merge_due = self.clock.monotonic() + self.merge_pause_seconds
            self.stream.merge(*self.rng.sample([shard, neighbours[0]], 2))
        elif len(self.stream.open_shards) < self.most_shards and self.rng.random() < 0.5:
            self.stream.split(shard)
        else:
            self.stream.rotate(shard)


@dataclass(slots=True)
class World(Generic[AnySink]):
    """A stream, a read model, and projectors between them, all of one seed."""

    rng: random.Random
    clock: VirtualClock
    stream: SimulatedStream
    sink: AnySink
    on_error: OnError = OnError.STOP
    notices: list[str] = field(default_factory=list)

    def project(
        self,
        *,
        seconds: float | None = None,
        options: ReaderOptions | None = None,
        until: Callable[[], bool] | None = None,
    ) -> Summary:
        """Run a new projector for so long, or without a time until it has caught up."""
        deadline = None if seconds is None else self.clock.monotonic() + seconds
        projector = Projector(
            sink=self.sink,
            open_source=lambda followers: self.source(followers, options),
            clock=self.clock,
            progress=lambda summary: None,
            notice=self.notices.append,
            on_error=self.on_error,
        )
        return projector.run(
            once=deadline is None and until is None,
            stopped=lambda: (
                (deadline is not None and self.clock.monotonic() >= deadline) or (until is not None and until())
            ),
        )

    def source(self, followers: Followers, options: ReaderOptions | None = None) -> StreamReader:
        told = replace(options or ReaderOptions(), notice=self.notices.append)
        return StreamReader(self.stream, self.stream.arn, followers, self.clock, InlineExecutor(), told)

    def differences(self) -> list[str]:
        """What is wrong with the read model now, in words."""
        found = list(self.sink.backwards)
        seen, true = self.sink.products, self.stream.visible
        found += [
            f"{key}: is {true.get(key)}, seen as {seen.get(key)}"
            for key in sorted((seen.keys() | true.keys()) - self.stream.uncertain)
            if seen.get(key) != true.get(key)
        ]
        if self.sink.stale and not self.stream.merged:
            found.append(f"{self.sink.stale} changes came again, or late")
        if len(self.sink.letters) != len(set(self.sink.letters)):
            found.append("a dead letter is there twice")
        if not self.stream.trimmed:
            here = {number for arn, number in self.sink.letters if arn == self.stream.arn}
            found += [f"{number}: is no dead letter, or should be none" for number in here ^ self.stream.unfit]
        return found


def a_world(
    seed: int = 0,
    *,
    shards: int = 1,
    faults: Faults | None = None,
    listed_a_page: int = 100,
    records_a_page: int = 1_000,
    rounded_to_seconds: int = 60,
    guarded: bool = True,
    torn: bool = False,
) -> World[MemorySink]:
    """A quiet world, in which nothing happens by itself."""
    random.seed(seed)  # the jitter of the code under test
    rng = random.Random(seed)
    clock = VirtualClock()
    stream = SimulatedStream(
        rng,
        clock,
        shards=shards,
        faults=faults,
        listed_a_page=listed_a_page,
        records_a_page=records_a_page,
        rounded_to_seconds=rounded_to_seconds,
    )
    sink = MemorySink(rng, lambda: stream.arn, guarded=guarded, torn=torn)
    return World(rng, clock, stream, sink)


def simulate(seed: int, *, guarded: bool = True, torn: bool = False, merges: bool = True) -> list[str]:
    """Live through one seed's history, then let a last projector catch up; what is wrong in the end."""
    plan = random.Random(f"plan of {seed}")
    world = a_planned_world(seed, plan, guarded=guarded, torn=torn)
    world.sink.crashes = planned_crashes(plan)
    return live(world, plan, merges=merges)


def a_planned_world(seed: int, plan: random.Random, *, guarded: bool = True, torn: bool = False) -> World[MemorySink]:
    """A world in which things go wrong as the seed's plan says."""
    world = a_world(
        seed,
        shards=plan.choice([1, 1, 2, 4]),
        faults=Faults(
            throttled=plan.choice([0, 0.02, 0.1]),
            failed=plan.choice([0, 0.02]),
            unreachable=plan.choice([0, 0.02]),
            expired=plan.choice([0, 0.02, 0.2]),
            empty_page=plan.choice([0, 0.3, 0.7]),
            separate_end=0.3,
            repeated=plan.choice([0, 0.2]),
            late_listing=plan.choice([0, 0.3]),
            call_seconds=plan.choice([0, 0.005]),
        ),
        listed_a_page=plan.choice([2, 5, 100]),
        records_a_page=plan.choice([1, 7, 1_000]),
        rounded_to_seconds=plan.choice([1, 60]),
        guarded=guarded,
        torn=torn,
    )
    world.on_error = plan.choice(list(OnError))
    return world


def planned_crashes(plan: random.Random) -> Crashes:
    return Crashes(
        at_open=plan.choice([0, 0.1]),
        before_commit=plan.choice([0, 0.05, 0.2]),
        after_commit=plan.choice([0, 0.05, 0.2]),
        killed=plan.choice([0, 0.3]),
    )


def live(world: World[AnySink], plan: random.Random, *, merges: bool) -> list[str]:
    """Live through a world's history; what is wrong in the end."""
    writers = Writers(
        world.rng,
        world.clock,
        world.stream,
        keys=plan.choice([3, 20, 100]),
        reshards=0.04,
        merges=merges and plan.random() < 0.3,
        misfits=0.1 if world.on_error is OnError.DEAD_LETTER else 0.0,
    )
    pause_seconds = plan.choice([0.05, 0.3, 1.0])
    for _ in range(plan.randint(1, 4)):
        writers.begin(pause_seconds)
        _run(world, seconds=plan.uniform(2, 20))
        for _ in range(_MOST_FIRST_STARTS):
            if world.sink.has_positions(world.stream.arn):
                break
            _run(world, seconds=5)
        else:
            raise AssertionError("no projector ever began")
        _stand_still(plan, world, writers)
    writers.stop()
    _run(world, seconds=None)
    return world.differences()


def _run(world: World[AnySink], *, seconds: float | None) -> None:
    """Let a projector run, starting another where it was killed; with no time given, until it has caught up."""
    deadline = None if seconds is None else world.clock.monotonic() + seconds
    while deadline is None or world.clock.monotonic() < deadline:
        try:
            world.project(seconds=None if deadline is None else deadline - world.clock.monotonic())
        except (Killed, TransientAwsError, TransientDatabaseError):
            world.clock.sleep(1)
            continue
        except StreamGap as gap:
            if not world.stream.trimmed and world.sink.knows(world.stream.arn):
                raise AssertionError(f"a gap where nothing was lost: {gap}") from gap
            world.sink.remake(world.stream.snapshot())
            continue
        return


def _stand_still(plan: random.Random, world: World[AnySink], writers: Writers) -> None:
    """No projector runs for a while: a moment, hours, or so long that records are trimmed; or the table is remade."""
    chance = plan.random()
    if chance < 0.1:
        world.stream.remake()
    elif chance < 0.4:
        hours = plan.choice([1, 10, 23, 26, 40])
        writers.begin(mean_pause_seconds=hours * 3600 / 60)
        world.clock.sleep(hours * 3600)
    else:
        world.clock.sleep(plan.uniform(0, 5))
