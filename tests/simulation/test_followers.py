"""Several projections follow one stream: each has a position of its own, and none misses a change."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from decimal import Decimal

import pytest

from cqrsctl.change import Followers, Page, Position, ShardState
from cqrsctl.errors import AwsError
from cqrsctl.stream.reader import ReaderOptions, StreamReader
from cqrsctl.stream.shard_reader import ShardLost
from tests.simulation.processes import InlineExecutor
from tests.simulation.stream import RETENTION, Product
from tests.simulation.world import MemorySink, World, a_world

DAY = RETENTION.total_seconds()


class Reading:
    """Projections that read along, with their positions, and the keys of all changes that each was handed."""

    def __init__(self, world: World[MemorySink]) -> None:
        self.world = world
        self.positions: dict[str, dict[str, Position]] = defaultdict(dict)
        self.seen: dict[str, set[str]] = defaultdict(set)

    def read(self, *names: str) -> None:
        """Let some projections read until they are caught up, as one projector would."""
        following = {name: dict(self.positions[name]) for name in names}
        source = reader(self.world, following)
        pages: list[Page] = []
        while pages or not source.caught_up:
            pages = source.take()
            for page in pages:
                for name in names:
                    self._take(name, page)

    def _take(self, name: str, page: Page) -> None:
        assert page.position is not None
        known = self.positions[name]
        known[page.shard_id] = page.position.unless_further(known.get(page.shard_id))
        self.seen[name] |= {f"{change.keys['ProductId']!s}: {change.new_image}" for change in page.changes}


def reader(world: World[MemorySink], following: Followers, options: ReaderOptions | None = None) -> StreamReader:
    return StreamReader(
        world.stream, world.stream.arn, following, world.clock, InlineExecutor(), options or ReaderOptions()
    )


def put(world: World[MemorySink], *keys: int, price: int = 1) -> None:
    for key in keys:
        world.stream.put(key, Product(f"Product {key}", Decimal(price)))


def rotate(world: World[MemorySink]) -> None:
    world.stream.rotate(world.stream.open_shards[0])


@pytest.fixture
def world() -> World[MemorySink]:
    return a_world()


def test_a_projection_that_was_left_out_for_a_while_reads_what_it_missed_also_of_a_new_shard(
    world: World[MemorySink],
) -> None:
    both = Reading(world)
    put(world, 1)
    both.read("product", "cheap")
    rotate(world)
    put(world, 2)
    put(world, 1, price=2)
    both.read("product")
    put(world, 3)
    both.read("product", "cheap")
    assert both.seen["cheap"] == both.seen["product"]
    assert len(both.seen["cheap"]) == 4


def test_one_that_is_further_does_not_go_back(world: World[MemorySink]) -> None:
    both = Reading(world)
    put(world, 1)
    both.read("product", "cheap")
    put(world, 2, 3)
    both.read("product")
    shard_id = world.stream.open_shards[0].shard_id
    ahead = both.positions["product"][shard_id]
    source = reader(world, {name: dict(both.positions[name]) for name in ("product", "cheap")})
    while not source.take():
        pass
    assert both.positions["product"][shard_id] == ahead
    both.read("product", "cheap")
    assert both.positions["product"][shard_id].sequence_number == both.positions["cheap"][shard_id].sequence_number


def test_what_was_trimmed_is_a_gap_of_those_that_needed_it_though_another_one_begins_afresh(
    world: World[MemorySink],
) -> None:
    """After a rebuild one view has no position yet: it hides no gap of the other."""
    both = Reading(world)
    put(world, 1)
    both.read("product", "cheap")
    put(world, 2)
    world.clock.sleep(DAY + 3_600)
    put(world, 3)
    both.positions["product"].clear()
    with pytest.raises(ShardLost) as lost:
        both.read("product", "cheap")
    assert lost.value.followers == {"cheap"}
    both.read("product")
    assert [seen[:1] for seen in both.seen["product"] if seen.startswith("3")] == ["3"]


def test_a_shard_that_only_others_know_is_a_gap_once_it_was_trimmed(world: World[MemorySink]) -> None:
    both = Reading(world)
    put(world, 1)
    both.read("product", "cheap")
    rotate(world)
    put(world, 2)
    both.read("product")
    world.clock.sleep(DAY / 2)
    put(world, 3)
    both.read("product")
    world.clock.sleep(DAY / 2 + 3_600)
    put(world, 4)
    with pytest.raises(ShardLost) as lost:
        both.read("product", "cheap")
    assert lost.value.followers == {"cheap"}


def test_a_gap_of_one_projection_names_it_and_the_other_can_be_read_alone(world: World[MemorySink]) -> None:
    both = Reading(world)
    put(world, 1)
    both.read("product", "cheap")
    shard_id = world.stream.open_shards[0].shard_id
    put(world, 2)
    world.clock.sleep(DAY + 3_600)
    put(world, 3)
    both.positions["cheap"][shard_id] = replace(both.positions["cheap"][shard_id], state=ShardState.GAP)
    both.positions["product"].clear()
    with pytest.raises(ShardLost) as lost:
        both.read("product", "cheap")
    assert lost.value.followers == {"cheap"}


# How far a shard was read.


def test_a_sparse_table_that_is_projected_twice_a_day_has_no_gap(world: World[MemorySink]) -> None:
    """The last record that was read is gone, but nothing came between it and what is kept."""
    world.stream.strict = True
    alone = Reading(world)
    put(world, 1)
    for _ in range(6):
        alone.read("product")
        world.clock.sleep(DAY / 2)
    put(world, 2)
    alone.read("product")
    assert len(alone.seen["product"]) == 2


def test_a_closed_shard_whose_last_record_was_read_is_no_gap_however_old_it_is(world: World[MemorySink]) -> None:
    world.stream.strict = True
    alone = Reading(world)
    put(world, 1)
    alone.read("product")
    closed = world.stream.open_shards[0]
    rotate(world)
    closed.ending = closed.numbers[-1]
    put(world, 2)
    closed.closed_at = world.clock.now() + 2 * RETENTION  # listed for longer than its records are kept
    world.clock.sleep(DAY + 3_600)
    put(world, 3)
    with pytest.raises(ShardLost) as lost:
        alone.read("product")
    assert lost.value.position is not None
    assert lost.value.position.shard_id == world.stream.open_shards[0].shard_id  # the child's first record is gone


def test_what_cannot_be_known_is_a_gap(world: World[MemorySink]) -> None:
    """A day and more without a projector: records may have come and gone."""
    world.stream.strict = True
    alone = Reading(world)
    put(world, 1)
    alone.read("product")
    world.clock.sleep(DAY + 3_600)
    put(world, 2)
    with pytest.raises(ShardLost, match="may have left the stream"):
        alone.read("product")


@pytest.mark.parametrize("minutes", [-4.9, 4.9])
def test_a_clock_that_is_wrong_by_minutes_hides_no_gap_and_makes_none(world: World[MemorySink], minutes: float) -> None:
    alone = Reading(world)
    put(world, 1)
    alone.read("product")
    rotate(world)
    alone.read("product")
    put(world, 2)
    world.clock.sleep(DAY + 30)
    put(world, 3)
    world.clock.skew_seconds = minutes * 60
    with pytest.raises(ShardLost):
        alone.read("product")


# Shards that are gone.


def vanished_unread(reading: Reading, *names: str) -> str:
    """The id of a shard that projections registered and never read; it was closed long before, and is gone by now."""
    world = reading.world
    put(world, 1)
    reading.read(*names)
    rotate(world)
    shard = world.stream.open_shards[0]
    for name in names:
        promised = Position(
            shard.shard_id, shard.parent_id, record_time=world.clock.now(), read_through=world.clock.now()
        )
        reading.positions[name][shard.shard_id] = promised
    rotate(world)
    world.stream.vanish(shard.shard_id)
    put(world, 2)
    return shard.shard_id


def test_a_shard_that_vanished_before_it_was_read_is_over_for_those_who_were_promised_nothing_of_it(
    world: World[MemorySink],
) -> None:
    """Its changes were all older than what it was registered for: AWS keeps them, and lists it, for a day."""
    both = Reading(world)
    gone = vanished_unread(both, "product", "cheap")
    begun = world.clock.monotonic()
    both.read("product", "cheap")
    assert both.seen["product"] == both.seen["cheap"]
    assert len(both.seen["product"]) == 2
    assert both.positions["cheap"][gone].state is ShardState.FINISHED
    assert 120 <= world.clock.monotonic() - begun < 300  # one answer may have been wrong


def test_a_shard_is_not_over_while_one_of_those_who_follow_needs_it(world: World[MemorySink]) -> None:
    both = Reading(world)
    gone = vanished_unread(both, "product", "cheap")
    before = replace(both.positions["product"][gone], sequence_number=1)
    both.positions["product"][gone] = before
    both.positions["cheap"].pop(before.parent_id or "")  # nobody promised it the shard
    with pytest.raises(AwsError, match="does not list"):
        both.read("cheap", "product")
    assert both.positions["product"][gone] == before
