"""The reader and the projector, run against a simulated stream on which all goes wrong that can."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from cqrsctl.aws import error_code
from cqrsctl.change import Page, Position, ShardState, version_of
from cqrsctl.errors import AwsError, StreamGap, TransientAwsError, TransientDatabaseError
from cqrsctl.projection.recovery import BadRecord, OnError
from cqrsctl.stream import lineage, shards
from cqrsctl.stream.listing import RELIST_SECONDS
from cqrsctl.stream.reader import Beginning, ReaderOptions, StreamReader
from cqrsctl.stream.shard_reader import Read, ShardLost, ShardReader
from tests.simulation.processes import InlineExecutor, Killed
from tests.simulation.seeds import attempted, failures, parametrize
from tests.simulation.stream import RETENTION, Faults, Product
from tests.simulation.world import Crashes, MemorySink, a_world, simulate
from tests.simulation.world import World as AnyWorld

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from cqrsctl.stream.lineage import Shard
    from cqrsctl.stream.shards import StreamsClient

_SEEDS_A_TEST = 25
_TEETH = range(1_000, 1_040)
World = AnyWorld[MemorySink]
LATEST = ReaderOptions(beginning=Beginning.LATEST)


def product(number: int) -> Product:
    return Product(f"Product {number}", Decimal(number))


def write(world: World, keys: range, number: int = 0) -> None:
    for key in keys:
        world.stream.put(key, product(number + key))


def the_shard(world: World) -> str:
    (shard,) = world.stream.open_shards
    return shard.shard_id


def position_of(world: World, shard_id: str) -> Position:
    return world.sink.checkpoints[world.stream.arn][shard_id]


def drained(source: StreamReader) -> list[Page]:
    """The pages of a stream, up to its tip: what is there now is read, even where the reader was at the tip before."""
    pages = source.take() + source.take()
    while not source.caught_up:
        pages += source.take()
    return pages


def changes_of(pages: list[Page]) -> list[str]:
    return [str(change.keys["ProductId"]) for page in pages for change in page.changes]


# The whole of it.


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "seeds" in metafunc.fixturenames:
        parametrize(metafunc, _SEEDS_A_TEST)


def test_after_any_history_the_read_model_is_the_write_model(seeds: range) -> None:
    assert not (wrong := failures(seeds, simulate)), wrong


def test_one_seed_is_one_history() -> None:
    def served() -> list[tuple[str, int, bool]]:
        world = a_world(7, shards=3, faults=Faults(throttled=0.1, empty_page=0.3), records_a_page=3)
        write(world, range(50))
        world.project()
        return world.stream.served

    assert served() == served()


# Lineage.


def test_a_parent_is_read_before_its_child() -> None:
    for seed in range(20):
        world = a_world(seed, listed_a_page=1, records_a_page=2)
        for generation in range(4):
            write(world, range(10), generation * 100)
            world.stream.split(world.rng.choice(world.stream.open_shards))
        parents = {shard.shard_id: shard.parent_id for shard in world.stream._shards.values()}
        world.project()
        ended: set[str | None] = {None}
        for shard_id, _, last in world.stream.served:
            assert parents[shard_id] in ended
            if last:
                ended.add(shard_id)
        assert len(ended) == 5
        assert world.differences() == []


def test_a_childs_changes_are_not_given_out_with_its_parents() -> None:
    world = a_world()
    write(world, range(3))
    world.stream.split(world.stream.open_shards[0])
    write(world, range(3), 100)
    parents = {shard.shard_id: shard.parent_id for shard in world.stream._shards.values()}
    for taken in drained_shards(world):
        assert len(taken) == len(set(taken))
        assert not {parents[shard_id] for shard_id in taken} & set(taken)


def drained_shards(world: World) -> list[list[str]]:
    source = world.source({})
    taken = []
    while not source.caught_up:
        taken.append([page.shard_id for page in source.take() if page.changes])
    return taken


@pytest.mark.parametrize("separate_end", [0.0, 1.0])
def test_the_last_page_of_a_closed_shard_is_applied(separate_end: float) -> None:
    world = a_world(faults=Faults(separate_end=separate_end))
    write(world, range(5))
    closed = the_shard(world)
    world.stream.rotate(world.stream.open_shards[0])
    world.project()
    assert world.differences() == []
    assert len(world.sink.rows) == 5
    assert position_of(world, closed).state is ShardState.FINISHED


def test_more_than_a_hundred_shards_are_all_found() -> None:
    world = a_world(shards=257)
    write(world, range(1_000))
    world.project()
    assert world.stream.calls["DescribeStream"] >= 3
    assert len(world.sink.checkpoints[world.stream.arn]) == 257
    assert world.differences() == []


def test_children_are_found_while_the_projector_runs() -> None:
    world = a_world()
    world.clock.after(5, lambda: world.stream.split(world.stream.open_shards[0]))
    world.clock.after(6, lambda: write(world, range(20)))
    world.project(seconds=10)
    assert world.differences() == []
    assert len(world.sink.rows) == 20


def test_it_is_not_caught_up_while_the_children_of_a_shard_cannot_be_listed() -> None:
    for seed in range(20):
        world = a_world(seed)
        write(world, range(5))
        source = world.source({})
        assert source.take()
        world.stream.rotate(world.stream.open_shards[0])
        write(world, range(5), 100)
        world.stream.outage = "DescribeStream"
        end = world.clock.monotonic() + 60
        while world.clock.monotonic() < end:
            source.take()
            assert not source.caught_up, f"seed {seed}: the child was not read"


def test_a_child_waits_for_a_parent_that_exists_though_it_is_not_listed() -> None:
    """At a first start: the child is listed before its parent."""
    world = a_world()
    write(world, range(5))
    parent = world.stream.open_shards[0]
    world.stream.rotate(parent)
    write(world, range(5), 100)
    parent.listed_from = 10.0
    world.project()
    assert world.clock.monotonic() > 10
    assert [shard_id for shard_id, records, _ in world.stream.served if records] == [
        parent.shard_id,
        the_shard(world),
    ]
    assert world.differences() == []


def test_descendants_of_an_unlisted_shard_wait_too() -> None:
    world = a_world()
    write(world, range(5))
    parent = world.stream.open_shards[0]
    for generation in range(1, 4):
        world.stream.split(world.stream.open_shards[0])
        write(world, range(5), generation * 100)
    parent.listed_from = 10.0
    world.project()
    assert world.differences() == []


def test_an_unfinished_shard_that_a_listing_leaves_out_is_no_gap_and_is_read_when_it_is_listed_again() -> None:
    world = a_world()
    write(world, range(5))
    world.project()
    shard = world.stream.open_shards[0]
    write(world, range(5), 100)
    world.stream.rotate(shard)
    write(world, range(5), 200)
    shard.listed_from = world.clock.monotonic() + 10
    world.project()
    assert world.differences() == []


def test_a_shard_that_exists_and_is_never_listed_is_told_after_five_minutes() -> None:
    world = a_world()
    parent = world.stream.open_shards[0]
    world.stream.rotate(parent)
    parent.listed_from = float("inf")
    with pytest.raises(AwsError, match=f"does not list shard {parent.shard_id}, though it exists"):
        world.project()
    assert 300 <= world.clock.monotonic() < 330


def test_after_a_merge_of_shards_the_newest_change_of_each_key_wins() -> None:
    """The child names one of its parents only, so it may be read before the other one's rest."""
    world = a_world(shards=2, records_a_page=1)
    write(world, range(10))
    named, other = world.stream.open_shards
    for generation in range(1, 10):
        for key in range(10):
            if world.stream.shard_of(key) is other:
                world.stream.put(key, product(generation * 100 + key))
    world.stream.merge(named, other)
    write(world, range(10), 5_000)
    world.project()
    assert world.sink.stale > 0
    assert world.differences() == []


# What comes twice, and what does not fit.


def test_records_that_are_delivered_twice_are_applied_once() -> None:
    world = a_world(faults=Faults(repeated=0.9), records_a_page=3)
    for generation in range(10):
        write(world, range(5), generation * 100)
    summary = world.project()
    assert sum(records for _, records, _ in world.stream.served) > 50
    assert (summary.changes, world.sink.stale) == (50, 0)
    assert world.differences() == []


def test_what_does_not_fit_is_set_aside_and_later_changes_of_its_key_go_on() -> None:
    world = a_world(records_a_page=2)
    world.on_error = OnError.DEAD_LETTER
    write(world, range(3))
    for key in range(2):
        world.stream.put(key, Product("x" * 300, Decimal(1)))
    write(world, range(1), 100)
    summary = world.project()
    assert summary.dead_lettered == 2
    assert world.sink.products == {0: product(100), 1: product(1), 2: product(2)}
    assert world.differences() == []


def test_what_does_not_fit_stops_the_projector_again_and_again_with_all_before_it_applied() -> None:
    world = a_world()
    write(world, range(3))
    world.stream.put(3, Product("x" * 300, Decimal(1)))
    write(world, range(4, 6))
    for _ in range(2):
        with pytest.raises(BadRecord, match="ProductId 3"):
            world.project()
        assert sorted(world.sink.products) == [0, 1, 2]


def test_a_closed_shard_is_not_at_its_tip_however_many_of_its_pages_are_empty() -> None:
    for seed in range(20):
        world = a_world(seed, faults=Faults(empty_page=0.95))
        write(world, range(5))
        world.stream.rotate(world.stream.open_shards[0])
        write(world, range(5), 100)
        assert world.project().caught_up
        assert world.differences() == []


# Iterators.


def test_an_expired_iterator_is_renewed_without_loss() -> None:
    world = a_world(records_a_page=2)
    write(world, range(5))
    source = world.source({})
    pages = source.take() + source.take()
    world.clock.sleep(16 * 60)
    write(world, range(5, 9))
    pages += drained(source)
    assert changes_of(pages) == [str(key) for key in range(9)]
    assert world.stream.iterator_types == ["TRIM_HORIZON", "AFTER_SEQUENCE_NUMBER"]


def test_an_iterator_that_expires_before_the_first_record_loses_nothing() -> None:
    world = a_world()
    source = world.source({})
    source.take()
    source.take()
    world.clock.sleep(16 * 60)
    write(world, range(3))
    assert changes_of(drained(source)) == ["0", "1", "2"]


def test_iterators_that_expire_all_the_time_lose_and_repeat_nothing() -> None:
    world = a_world(faults=Faults(expired=0.9), records_a_page=1)
    write(world, range(50))
    world.project()
    assert world.differences() == []


# Gaps.


def a_world_with_a_gap() -> World:
    """One record was applied, one was lost, one is there."""
    world = a_world()
    write(world, range(1))
    world.project()
    world.clock.sleep(60)
    write(world, range(1, 2))
    world.clock.sleep(RETENTION.total_seconds() + 600)
    write(world, range(2, 3))
    return world


def test_trimmed_records_are_a_gap_and_stay_one() -> None:
    world = a_world_with_a_gap()
    with pytest.raises(StreamGap) as raised:
        world.project()
    assert raised.value.exit_code == 6
    assert raised.value.position is not None
    marked = position_of(world, the_shard(world))
    assert marked == replace(raised.value.position, state=ShardState.GAP)
    assert marked.sequence_number is not None
    reads = world.stream.calls["GetRecords"]
    with pytest.raises(StreamGap):
        world.project()
    assert world.stream.calls["GetRecords"] == reads
    assert position_of(world, the_shard(world)) == marked
    assert list(world.sink.rows) == [(0,)]


def test_records_trimmed_while_a_projector_was_suspended_are_a_gap() -> None:
    """The machine slept for two days: the iterator has expired, and what comes after the position is gone."""
    world = a_world()
    write(world, range(1))
    source = world.source({})
    drained(source)
    write(world, range(1, 2))
    world.clock.sleep(2 * RETENTION.total_seconds())
    with pytest.raises(ShardLost):
        drained(source)


def test_records_trimmed_before_a_waiting_iterator_was_used_are_a_gap() -> None:
    world = a_world()
    write(world, range(1))
    source = world.source({})
    drained(source)
    write(world, range(1, 2))
    world.clock.sleep(RETENTION.total_seconds())
    world.stream.trim(world.clock.now())
    with pytest.raises(ShardLost):
        drained(source)


def test_a_child_whose_first_records_were_trimmed_is_a_gap() -> None:
    """The parent was read to its end, so all of the child was promised, though nothing of it was read yet."""
    world = a_world()
    write(world, range(3))
    world.stream.rotate(world.stream.open_shards[0])
    world.project()
    child = the_shard(world)
    assert position_of(world, child).sequence_number is None
    write(world, range(3, 4))
    world.clock.sleep(20 * 3600)
    write(world, range(4, 5))
    world.clock.sleep(6 * 3600)
    with pytest.raises(StreamGap):
        world.project()
    assert position_of(world, child).state is ShardState.GAP


def test_a_child_that_was_never_listed_and_whose_first_records_were_trimmed_is_a_gap() -> None:
    """All that comes after the end of its parent was promised, though nobody knew of the child."""
    world = a_world()
    write(world, range(3))
    parent = the_shard(world)
    world.stream.lists_children_of_ended = False
    world.stream.rotate(world.stream.open_shards[0])
    (child,) = world.stream.open_shards
    child.listed_from = world.clock.monotonic() + 3600
    world.project(seconds=10)
    assert position_of(world, parent).state is ShardState.FINISHED
    assert child.shard_id not in world.sink.checkpoints[world.stream.arn]
    write(world, range(3, 4))
    world.clock.sleep(20 * 3600)
    write(world, range(4, 5))
    world.clock.sleep(6 * 3600)
    with pytest.raises(StreamGap):
        world.project()


def test_a_shard_registered_and_then_left_unread_for_a_day_is_a_gap() -> None:
    world = a_world()
    world.project()
    write(world, range(1))
    world.clock.sleep(20 * 3600)
    write(world, range(1, 2))
    world.clock.sleep(6 * 3600)
    with pytest.raises(StreamGap):
        world.project()


def test_records_trimmed_before_a_first_start_were_never_promised() -> None:
    world = a_world()
    write(world, range(3))
    world.stream.trim(world.clock.now())
    world.clock.sleep(1)
    write(world, range(3, 5))
    world.project()
    assert sorted(world.sink.rows) == [(3,), (4,)]


def test_an_idle_shard_is_no_gap_however_old_it_is() -> None:
    world = a_world()
    world.project()
    world.clock.sleep(3 * RETENTION.total_seconds())
    world.project()
    write(world, range(1))
    world.project()
    assert world.differences() == []


def test_a_shard_that_vanished_unread_is_a_gap() -> None:
    world = a_world()
    write(world, range(3))
    world.project()
    before = the_shard(world)
    write(world, range(3, 6))
    world.stream.rotate(world.stream.open_shards[0])
    world.clock.sleep(RETENTION.total_seconds())
    world.stream.vanish(before)
    with pytest.raises(StreamGap):
        world.project()
    assert position_of(world, before).state is ShardState.GAP


def test_a_shard_that_vanishes_while_it_is_read_is_no_gap_as_its_changes_are_kept_for_a_day() -> None:
    world = a_world()
    write(world, range(3))
    world.clock.after(5, lambda: world.stream.vanish(the_shard(world)))
    with pytest.raises(AwsError, match=r"may be younger than 24 hours|though it exists"):
        world.project(seconds=1_000)
    assert 300 <= world.clock.monotonic() < 360


def test_one_wrong_answer_that_a_shard_does_not_exist_is_no_gap() -> None:
    world = a_world()
    write(world, range(3))
    world.project()
    write(world, range(3, 6))
    hidden = the_shard(world)
    shard = world.stream._shards.pop(hidden)
    world.clock.after(60, lambda: world.stream._shards.update({hidden: shard}))
    world.project()
    assert world.differences() == []


def test_a_gap_that_is_none_is_found_to_be_none_at_the_next_start() -> None:
    world = a_world()
    write(world, range(3))
    world.project()
    write(world, range(3, 6))
    marked = replace(position_of(world, the_shard(world)), state=ShardState.GAP)
    world.sink.checkpoints[world.stream.arn][the_shard(world)] = marked
    world.project()
    assert world.differences() == []
    assert any("all its changes are there" in notice for notice in world.notices)


def test_a_listed_shard_that_no_longer_exists_is_skipped_where_nobody_was_promised_it() -> None:
    """Seen on AWS: apache/flink, issues 21102 and 21237."""
    world = a_world()
    gone = the_shard(world)
    world.stream.rotate(world.stream.open_shards[0])
    write(world, range(5))
    world.stream.stale.add(gone)
    world.project()
    assert world.differences() == []
    assert len(world.sink.rows) == 5
    world.stream.vanish(gone)
    write(world, range(5, 9))
    world.project()
    assert world.differences() == []


def test_generations_that_passed_unread_are_a_gap() -> None:
    world = a_world()
    write(world, range(3))
    world.stream.rotate(world.stream.open_shards[0])
    world.project()
    for _ in range(2):
        world.stream.rotate(world.stream.open_shards[0])
    for shard_id in world.stream.shard_ids[:-1]:
        world.stream.vanish(shard_id)
    with pytest.raises(StreamGap):
        world.project()


def test_a_read_shard_that_is_no_longer_listed_is_no_gap() -> None:
    world = a_world()
    write(world, range(3))
    world.stream.rotate(world.stream.open_shards[0])
    world.project()
    world.stream.vanish(world.stream.shard_ids[0])
    write(world, range(3), 100)
    world.project()
    assert world.differences() == []


# LATEST.


def test_a_start_at_latest_skips_older_changes() -> None:
    world = a_world(shards=2)
    write(world, range(10))
    world.stream.split(world.stream.open_shards[0])
    write(world, range(10), 100)
    world.clock.sleep(600)
    world.clock.after(5, lambda: write(world, range(20, 25)))
    world.project(seconds=10, options=LATEST)
    assert sorted(world.sink.rows) == [(key,) for key in range(20, 25)]


def test_after_a_start_at_latest_nothing_is_lost_by_a_restart_before_the_first_record() -> None:
    world = a_world()
    write(world, range(10))
    world.clock.sleep(600)
    world.project(seconds=5, options=LATEST)
    assert world.sink.rows == {}
    write(world, range(20, 25))
    world.project(options=LATEST)
    assert sorted(world.sink.rows) == [(key,) for key in range(20, 25)]


def test_a_shard_found_after_a_start_at_latest_is_read_from_its_start() -> None:
    world = a_world()
    world.clock.sleep(600)

    def split() -> None:
        world.stream.split(world.stream.open_shards[0])
        write(world, range(10))

    world.clock.after(5, split)
    world.project(seconds=10, options=LATEST)
    assert len(world.sink.rows) == 10


def test_the_first_shards_of_a_stream_that_had_none_at_a_start_at_latest_are_read_from_their_start() -> None:
    world = a_world()
    hidden, world.stream._shards = world.stream._shards, {}
    source = world.source({}, LATEST)
    source.take()
    world.stream._shards = hidden
    write(world, range(3))
    assert changes_of(drained(source)) == ["0", "1", "2"]


def test_what_is_written_once_a_start_at_latest_is_registered_is_read() -> None:
    world = a_world(rounded_to_seconds=1)
    source = world.source({}, LATEST)
    assert [page.position and page.position.state for page in source.take()] == [ShardState.OPEN]
    write(world, range(3))
    assert changes_of(drained(source)) == ["0", "1", "2"]


def test_a_clock_that_is_two_minutes_fast_loses_nothing_after_a_start_at_latest() -> None:
    world = a_world(rounded_to_seconds=1)
    real_now = world.clock.now
    fast = world.clock
    source = world.source({}, LATEST)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(fast), "now", lambda self: real_now() + timedelta(minutes=2))
        source.take()
    source.take()
    write(world, range(3))
    assert changes_of(drained(source)) == ["0", "1", "2"]


# Failures that pass, and failures that do not.


def test_throttling_is_waited_out() -> None:
    world = a_world(shards=3)
    write(world, range(30))
    source = world.source({})
    pages = source.take()
    world.stream.faults = Faults(throttled=0.5)
    pages += drained(source)
    assert sorted(map(int, changes_of(pages))) == list(range(30))
    assert world.clock.monotonic() > 1


@pytest.mark.parametrize("operation", ["GetRecords", "GetShardIterator"])
def test_five_minutes_of_failures_raise(operation: str) -> None:
    world = a_world()
    world.stream.outage = operation
    with pytest.raises(TransientAwsError) as raised:
        world.project()
    assert 300 <= world.clock.monotonic() < 330
    assert raised.value.exit_code == AwsError.exit_code


def test_five_minutes_without_a_list_of_shards_raise() -> None:
    world = a_world()
    world.project()
    source = world.source({})
    source.take()
    world.stream.outage = "DescribeStream"
    begin = world.clock.monotonic()
    with pytest.raises(TransientAwsError):
        while True:
            source.take()
    assert 300 <= world.clock.monotonic() - begin < 360


def test_five_minutes_without_the_database_raise() -> None:
    """By the clock that the projector was given, like all its waiting."""
    world = a_world()
    write(world, range(3))

    def outage() -> None:
        world.sink.crashes = Crashes(at_open=1, before_commit=1)
        write(world, range(3), 100)

    world.clock.after(5, outage)
    with pytest.raises(TransientDatabaseError):
        world.project(seconds=1_000)
    assert 300 <= world.clock.monotonic() < 330


def test_four_minutes_of_failures_are_waited_out() -> None:
    world = a_world()
    write(world, range(3))
    world.project()
    write(world, range(3), 100)
    world.clock.after(10, lambda: setattr(world.stream, "outage", "all"))
    world.clock.after(250, lambda: setattr(world.stream, "outage", None))
    world.clock.after(251, lambda: write(world, range(3), 200))
    world.project(seconds=280)
    assert world.differences() == []


def test_a_failed_listing_after_a_lost_database_connection_is_waited_out() -> None:
    """Both hiccups at once: the read model is there again, but the stream cannot be listed for a moment."""
    world = a_world()
    write(world, range(3))

    def hiccup() -> None:
        world.stream.outage = "DescribeStream"
        world.sink.crashes = Crashes(before_commit=1)
        write(world, range(3), 100)

    def relief() -> None:
        world.stream.outage = None
        world.sink.crashes = Crashes()

    world.clock.after(5, hiccup)
    world.clock.after(15, relief)
    world.project(seconds=40)
    assert world.differences() == []


def test_what_aws_refused_stays_known_as_the_cause() -> None:
    world = a_world()
    source = world.source({})
    source.take()
    world.stream.outage = "all"
    shard_reader = ShardReader(world.stream, world.stream.arn, Position(the_shard(world), None), world.clock.now)
    with pytest.raises(TransientAwsError) as raised:
        shard_reader.read()
    assert error_code(raised.value) == "InternalServerError"


# A projector that dies.


@pytest.mark.parametrize("crash", [Crashes(before_commit=0.5, killed=1), Crashes(after_commit=0.5, killed=1)])
def test_a_process_killed_at_a_commit_loses_and_repeats_nothing(crash: Crashes) -> None:
    world = a_world(shards=4, records_a_page=3)
    write(world, range(100))
    world.stream.split(world.stream.open_shards[0])
    write(world, range(100), 1_000)
    world.sink.crashes = crash
    deaths = 0
    while True:
        try:
            world.project()
        except Killed:
            deaths += 1
        else:
            break
    assert deaths > 3
    assert world.differences() == []


def test_a_process_that_ends_between_batches_loses_and_repeats_nothing() -> None:
    world = a_world(shards=2, records_a_page=3)
    write(world, range(100))
    while len(world.sink.rows) < 100:
        commits = world.sink.commits
        world.project(until=lambda commits=commits: world.sink.commits > commits)  # type: ignore[misc]
    world.project()
    assert world.differences() == []
    assert all(len(versions) == 1 for versions in world.sink.applied.values())


def test_an_unknown_outcome_is_read_from_the_checkpoint() -> None:
    world = a_world(records_a_page=3)
    write(world, range(30))
    world.sink.crashes = Crashes(after_commit=0.3)
    world.project()
    assert world.notices
    assert world.differences() == []


def test_two_projectors_at_once_leave_the_same_read_model() -> None:
    world = a_world(3, shards=2, records_a_page=3)
    write(world, range(50))
    world.stream.split(world.stream.open_shards[0])
    write(world, range(50), 1_000)
    other = a_world(3)
    other.stream = world.stream
    other.clock = world.clock
    other.sink.rows = world.sink.rows
    while len(world.sink.rows) < 50:
        commits = world.sink.commits
        world.project(until=lambda commits=commits: world.sink.commits > commits)  # type: ignore[misc]
    other.sink._stream_arn = lambda: world.stream.arn
    other.project()
    world.project()
    assert world.sink.products == world.stream.table
    assert other.sink.stale > 0
    assert other.sink.backwards == world.sink.backwards == []


# A table made anew.


def test_a_stream_of_a_table_made_anew_is_a_gap() -> None:
    world = a_world()
    write(world, range(3))
    world.project()
    world.clock.sleep(60)
    world.stream.remake()
    with pytest.raises(StreamGap):
        world.project()


def test_changes_of_a_table_made_anew_win_though_their_sequence_numbers_are_smaller() -> None:
    world = a_world()
    for generation in range(30):
        write(world, range(3), generation * 100)
    world.project()
    old_arn, old_number = world.stream.arn, world.stream.open_shards[0].numbers[-1]
    world.clock.sleep(60)
    world.stream.remake()
    write(world, range(3), 5_000)
    new_number = world.stream.open_shards[0].numbers[0]
    assert new_number < old_number
    assert version_of(world.stream.arn, new_number) > version_of(old_arn, old_number)
    world.sink.checkpoints = {}
    world.project()
    assert world.differences() == []


# The simulator has teeth: a mistake, planted, is found.


def found_by_the_simulation(*, guarded: bool = True, torn: bool = False) -> bool:
    """Whether something goes wrong in one of some histories; without a mistake in none."""
    return any(attempted(lambda one: simulate(one, guarded=guarded, torn=torn), seed) for seed in _TEETH)


def test_a_missing_guard_is_found_out() -> None:
    assert found_by_the_simulation(guarded=False)


@pytest.mark.parametrize("guarded", [True, False])
def test_children_read_before_their_parents_are_found_out(monkeypatch: pytest.MonkeyPatch, guarded: bool) -> None:
    def all_at_once(listed: Mapping[str, Shard], finished: Collection[str]) -> list[Shard]:
        return [shard for shard in listed.values() if shard.shard_id not in finished]

    monkeypatch.setattr(lineage, "readable", all_at_once)
    assert found_by_the_simulation(guarded=guarded)


def test_a_dropped_last_page_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    read = ShardReader.read

    def without_the_last(self: ShardReader) -> Read:
        answer = read(self)
        if self.position.state is ShardState.FINISHED:
            return replace(answer, page=Page((), answer.page.position))
        return answer

    monkeypatch.setattr(ShardReader, "read", without_the_last)
    assert found_by_the_simulation()


def test_only_the_first_page_of_shards_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    describe = shards._describe_page

    def without_a_next(client: StreamsClient, parameters: dict[str, str]) -> dict[str, object]:
        return {**describe(client, parameters), "LastEvaluatedShardId": None}

    monkeypatch.setattr(shards, "_describe_page", without_a_next)
    assert found_by_the_simulation()


def test_a_checkpoint_committed_before_its_rows_is_found_out() -> None:
    assert found_by_the_simulation(torn=True)


def test_without_a_mistake_the_guard_is_not_needed() -> None:
    """Order alone keeps the read model right; the guard is for a second projector, and for shards that were merged."""
    assert not any(simulate(seed, guarded=False, merges=False) for seed in _TEETH)


def test_the_simulation_reaches_what_it_is_there_for() -> None:
    """Of all that can go wrong, everything does in some history."""
    faults = Faults(throttled=0.05, failed=0.05, unreachable=0.05, expired=0.2, empty_page=0.5, repeated=0.3)
    world = a_world(1, shards=2, faults=faults, records_a_page=3)
    write(world, range(30))
    world.stream.split(world.stream.open_shards[0])
    world.project(seconds=30)
    assert {"TRIM_HORIZON", "AFTER_SEQUENCE_NUMBER"} <= set(world.stream.iterator_types)
    assert any(records == 0 for _, records, _ in world.stream.served)
    assert sum(records for _, records, _ in world.stream.served) > 30


def test_a_stream_that_is_another_one_now_is_a_gap_while_following() -> None:
    world = a_world()
    current = [world.stream.arn]
    options = ReaderOptions(current_arn=lambda: current[0])
    reader = StreamReader(world.stream, world.stream.arn, {}, world.clock, InlineExecutor(), options)
    while not reader.caught_up:
        reader.take()
    current[0] = world.stream.arn + "1"
    world.clock.sleep(RELIST_SECONDS)

    with pytest.raises(StreamGap, match="switched off and on"):
        reader.take()
