"""Listing shards as AWS allows it: ten calls a second, children that come late, a stream that is switched off."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from botocore.exceptions import ClientError

from cqrsctl.change import Position, SequenceNumber, ShardState
from cqrsctl.errors import AwsError, ConfigurationError, StreamGap
from cqrsctl.stream.listing import RELIST_SECONDS, ListingPace
from cqrsctl.stream.reader import ReaderOptions, StreamReader
from cqrsctl.stream.unread import unread_shards
from tests.simulation.processes import InlineExecutor
from tests.simulation.stream import Faults, SimulatedStream, written
from tests.simulation.test_followers import put, rotate
from tests.simulation.test_unread import asking
from tests.simulation.world import MemorySink, World, a_world

if TYPE_CHECKING:
    from collections.abc import Callable


def following(world: World[MemorySink], options: ReaderOptions | None = None) -> StreamReader:
    """A reader that has caught up."""
    reader = StreamReader(
        world.stream, world.stream.arn, {"product": {}}, world.clock, InlineExecutor(), options or ReaderOptions()
    )
    while reader.take() or not reader.caught_up:
        pass
    return reader


def take_for(world: World[MemorySink], reader: StreamReader, seconds: float) -> list[str]:
    """The keys of the changes that come within a time."""
    end = world.clock.monotonic() + seconds
    keys: list[str] = []
    while world.clock.monotonic() < end:
        keys += [str(change.keys["ProductId"]) for page in reader.take() for change in page.changes]
    return keys


def test_it_is_not_caught_up_while_the_child_of_a_closed_shard_is_not_listed() -> None:
    world = a_world()
    put(world, 1)
    world.project()
    rotate(world)
    put(world, 2)
    (child,) = world.stream.open_shards
    child.listed_from = world.clock.monotonic() + 20
    world.stream.lists_children_of_ended = False
    summary = world.project()
    assert summary.changes == 1
    assert world.differences() == []


def test_it_is_not_caught_up_while_one_of_two_children_is_not_listed() -> None:
    world = a_world()
    put(world, 1)
    world.project()
    world.stream.lists_children_of_ended = False
    world.stream.split(world.stream.open_shards[0])
    late = world.stream.open_shards[0]
    late.listed_from = world.clock.monotonic() + 5
    put(world, *range(2, 12))
    begun = world.clock.monotonic()
    assert world.project().changes == 10
    assert world.differences() == []
    assert world.clock.monotonic() - begun < 20

    world.clock.sleep(20 * 60)
    begun = world.clock.monotonic()
    world.project()
    assert world.clock.monotonic() - begun < 5  # whatever children it has, they are listed by now


@pytest.mark.parametrize("read_before", [False, True])
def test_it_is_not_caught_up_while_a_child_is_not_listed_though_its_parent_is_not_either(read_before: bool) -> None:
    """A listing may lack the shard that was read to its end a moment ago, by this process or before it, and one of its
    children with it."""
    world = a_world()
    put(world, 1)
    reader = following(world)
    world.stream.lists_children_of_ended = False
    (parent,) = world.stream.open_shards
    world.stream.split(parent)
    late = world.stream.open_shards[0]
    parent.listed_from = late.listed_from = world.clock.monotonic() + 5
    put(world, *range(2, 12))
    if read_before:
        last = SequenceNumber(written(parent.numbers[-1]))
        ended = Position(parent.shard_id, None, last, ShardState.FINISHED, read_through=world.clock.now())
        positions = {"product": {parent.shard_id: ended}}
        reader = StreamReader(world.stream, world.stream.arn, positions, world.clock, InlineExecutor(), ReaderOptions())

    keys = take_for(world, reader, 3)
    while (pages := reader.take()) or not reader.caught_up:
        keys += [str(change.keys["ProductId"]) for page in pages for change in page.changes]

    assert sorted(map(int, keys)) == list(range(2, 12))


def test_what_comes_after_a_shard_without_listed_children_is_unknown_and_not_nothing() -> None:
    world = a_world()
    put(world, 1)
    world.project()
    rotate(world)
    put(world, 2)
    (child,) = world.stream.open_shards
    child.listed_from = float("inf")
    world.stream.lists_children_of_ended = False
    world.project(seconds=5)
    positions = {"product": world.sink.checkpoints[world.stream.arn]}
    found = unread_shards(asking(world.stream, world.clock), world.stream.arn, positions)
    assert (list(found.first.values()), len(found.childless)) == ([], 1)


def test_a_closed_shard_that_never_gets_a_child_is_waited_for_a_minute_only() -> None:
    """As one that was merged with another, or the last one of a stream that is being switched off."""
    world = a_world()
    put(world, 1)
    world.stream._close(world.stream.open_shards[0])
    assert world.project().caught_up
    assert 60 <= world.clock.monotonic() < 80


def test_a_child_is_read_within_seconds_of_its_parents_end_while_following() -> None:
    world = a_world(listed_a_page=1)
    reader = following(world)
    rotate(world)
    put(world, 1)
    assert take_for(world, reader, 3) == ["1"]


@pytest.mark.parametrize("filters", ["taken", "refused", "ignored"])
def test_children_are_asked_for_alone_where_the_endpoint_takes_a_filter(filters: str) -> None:
    world = a_world(shards=30, listed_a_page=5)
    world.stream.filters = filters
    reader = following(world)
    before = world.stream.calls["DescribeStream"]
    rotate(world)
    put(world, *range(20))
    assert len(take_for(world, reader, 4)) == 20
    calls = world.stream.calls["DescribeStream"] - before
    assert calls == {"taken": 1, "refused": 1 + 7, "ignored": 7}[filters]


def test_hundreds_of_shards_are_caught_up_within_the_limit_of_listings(monkeypatch: pytest.MonkeyPatch) -> None:
    """600 shards, half of them closed: no call is throttled, and it takes little longer than without a limit."""

    def drained(listings_a_second: float | None) -> tuple[float, int]:
        world = a_world(shards=300, faults=Faults(call_seconds=0.005), records_a_page=10)
        put(world, *range(1_500))
        for shard in list(world.stream.open_shards):
            world.stream.rotate(shard)
        put(world, *range(1_500), price=2)
        assert len(world.stream.shard_ids) == 600
        world.stream.listings_a_second = listings_a_second
        if listings_a_second is None:
            monkeypatch.setattr(ListingPace, "__call__", lambda self: None)
        else:
            monkeypatch.undo()
        summary = world.project()
        assert summary.changes == 3_000
        assert world.differences() == []
        return world.clock.monotonic(), world.stream.throttled_listings

    unlimited, _ = drained(None)
    limited, throttled = drained(10)
    assert throttled == 0
    assert limited <= 3 * unlimited


# The table's stream is another one, or none.


@pytest.mark.parametrize(("current", "told"), [(None, "was switched off"), ("another", "switched off and on")])
def test_a_stream_that_is_off_or_another_one_is_a_gap_within_one_listing(current: str | None, told: str) -> None:
    world = a_world()
    now: list[str | None] = [world.stream.arn]
    reader = following(world, ReaderOptions(current_arn=lambda: now[0]))
    now[0] = current
    with pytest.raises(StreamGap, match=told) as gap:
        take_for(world, reader, RELIST_SECONDS + 1)
    assert "cqrsctl rebuild" in (gap.value.hint or "")


# Refusals.


def refused(code: str) -> ClientError:
    return ClientError(
        {"Error": {"Code": code, "Message": "not now"}, "ResponseMetadata": {"HTTPStatusCode": 400}}, "GetRecords"
    )


REFUSALS: dict[str, Callable[[], object]] = {
    "denied": lambda: (_ for _ in ()).throw(refused("AccessDeniedException")),
    "expired token": lambda: (_ for _ in ()).throw(refused("ExpiredTokenException")),
    "a page of HTML": dict,
}


@pytest.mark.parametrize("kind", REFUSALS)
@pytest.mark.parametrize("operation", ["get_records", "get_shard_iterator", "describe_stream"])
def test_a_refusal_in_the_middle_of_a_run_is_waited_out_and_named(
    monkeypatch: pytest.MonkeyPatch, kind: str, operation: str
) -> None:
    world = a_world()
    notices: list[str] = []
    reader = following(world, ReaderOptions(notice=notices.append))
    with monkeypatch.context() as patch:
        patch.setattr(SimulatedStream, operation, lambda self, **_: REFUSALS[kind]())
        for poll in reader._polls.values():
            poll.reader.forget_iterator()
        put(world, 1)
        assert take_for(world, reader, 60) == ([] if operation != "describe_stream" else ["1"])
    assert notices
    assert all("Trying again" in notice for notice in notices)
    assert take_for(world, reader, 60) == (["1"] if operation != "describe_stream" else [])


@pytest.mark.parametrize("kind", REFUSALS)
@pytest.mark.parametrize("operation", ["get_records", "describe_stream"])
def test_a_refusal_at_the_start_stops_at_once(monkeypatch: pytest.MonkeyPatch, kind: str, operation: str) -> None:
    world = a_world()
    put(world, 1)
    monkeypatch.setattr(SimulatedStream, operation, lambda self, **_: REFUSALS[kind]())
    with pytest.raises((AwsError, ConfigurationError)):
        following(world)
    assert world.clock.monotonic() < 5


def test_a_refusal_that_does_not_pass_ends_the_run_after_five_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    world = a_world()
    reader = following(world)
    begun = world.clock.monotonic()
    monkeypatch.setattr(SimulatedStream, "get_records", lambda self, **_: REFUSALS["denied"]())
    with pytest.raises(AwsError):
        take_for(world, reader, 1_000)
    assert 300 <= world.clock.monotonic() - begun < 360


def test_many_empty_pages_before_a_record_are_not_taken_for_the_tip(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.simulation.stream.MOST_EMPTY_PAGES", 15)
    for seed in range(10):
        world = a_world(seed, faults=Faults(empty_page=1.0))
        put(world, 1, 2)
        assert world.project().changes == 2


@pytest.mark.parametrize("asked", [True, False])
def test_a_shard_that_changes_all_the_time_is_caught_up_once_a_change_of_after_the_start_was_read(
    asked: bool,
) -> None:
    world = a_world(rounded_to_seconds=1)
    put(world, *range(10))

    def write() -> None:
        put(world, 1, price=int(world.clock.monotonic() * 10))
        world.clock.after(0.5, write)

    write()
    until = world.clock.aws_now() + timedelta(seconds=2)
    reader = world.source({"product": {}}, ReaderOptions(until=until if asked else None))
    while not reader.caught_up and world.clock.monotonic() < 30:
        reader.take()
    assert (world.clock.monotonic() < 6) is asked
