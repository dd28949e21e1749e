"""What is left to read of a stream, asked of the simulator: nothing is missed, and nothing is made up."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from cqrsctl.change import ChangeRecord, Position, SequenceNumber, ShardState
from cqrsctl.stream import shards
from cqrsctl.stream.poll import Tip
from cqrsctl.stream.shard_reader import ShardLost, ShardReader
from cqrsctl.stream.unread import Asking, first_unread, unhandled, unread_shards
from tests.simulation.clock import VirtualClock
from tests.simulation.processes import InlineExecutor
from tests.simulation.stream import Faults, Product, SimulatedStream, refusal, written

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cqrsctl.change import Checkpoints
    from tests.simulation.stream import SimulatedShard

KEYS = range(200)


def stream_of(clock: VirtualClock, shards: int = 1, **how: object) -> SimulatedStream:
    return SimulatedStream(random.Random(7), clock, shards=shards, **how)  # type: ignore[arg-type]


def fill(stream: SimulatedStream, clock: VirtualClock, price: int = 1) -> None:
    """A change of each key, a second apart."""
    for key in KEYS:
        clock.sleep(1)
        stream.put(key, Product(f"Lamp {key}", Decimal(price)))


def read_to(shard: SimulatedShard, records: int) -> Position:
    """The position after so many records of a shard."""
    number = SequenceNumber(written(shard.numbers[records - 1]))
    return Position(shard.shard_id, shard.parent_id, number, record_time=shard.written_at[records - 1])


TIP = Tip(pages=5, seconds=0.0, pause_seconds=0.4)


def asking(stream: SimulatedStream, clock: VirtualClock) -> Asking:
    return Asking(stream, InlineExecutor(), clock, TIP)


def unread(stream: SimulatedStream, clock: VirtualClock, positions: Checkpoints) -> Mapping[str, ChangeRecord | None]:
    return unread_shards(asking(stream, clock), stream.arn, {"product": positions}).first


def oldest_unread(stream: SimulatedStream, clock: VirtualClock, position: Position) -> ChangeRecord | ShardLost | None:
    return first_unread(asking(stream, clock), stream.arn, [(position, None)])[position.shard_id]


@pytest.mark.parametrize("empty_page", [0.0, 1.0])
def test_of_each_of_many_shards_the_first_change_after_its_position_is_found(empty_page: float) -> None:
    clock = VirtualClock()
    stream = stream_of(clock, shards=30, listed_a_page=7, faults=Faults(empty_page=empty_page))
    fill(stream, clock)
    read = {shard.shard_id: index % 3 for index, shard in enumerate(stream.open_shards)}
    positions = {
        shard.shard_id: read_to(shard, count) for shard in stream.open_shards if (count := read[shard.shard_id])
    }

    found = unread(stream, clock, positions)

    assert {shard_id: change and int(change.sequence_number) for shard_id, change in found.items()} == {
        shard.shard_id: shard.numbers[read[shard.shard_id]] for shard in stream.open_shards
    }


def test_a_shard_that_was_read_to_its_tip_has_nothing_unread() -> None:
    clock = VirtualClock()
    stream = stream_of(clock)
    fill(stream, clock)
    (shard,) = stream.open_shards

    assert unread(stream, clock, {shard.shard_id: read_to(shard, len(KEYS))}) == {shard.shard_id: None}
    assert stream.calls["GetRecords"] == 5


def test_a_closed_shard_is_read_to_its_end_however_many_pages_are_empty() -> None:
    clock = VirtualClock()
    stream = stream_of(clock, faults=Faults(empty_page=1.0))
    fill(stream, clock)
    (parent,) = stream.open_shards
    stream.split(parent)

    found = unread(stream, clock, {parent.shard_id: read_to(parent, len(KEYS) - 1)})

    change = found[parent.shard_id]
    assert change is not None
    assert int(change.sequence_number) == parent.numbers[-1]
    assert stream.calls["GetRecords"] > 10


def test_children_of_a_finished_shard_count_from_their_start_and_it_is_not_asked() -> None:
    clock = VirtualClock()
    stream = stream_of(clock)
    fill(stream, clock)
    (parent,) = stream.open_shards
    stream.split(parent)
    fill(stream, clock, price=2)
    finished = replace(read_to(parent, len(KEYS)), state=ShardState.FINISHED)

    found = unread(stream, clock, {parent.shard_id: finished})

    assert {shard_id: change and int(change.sequence_number) for shard_id, change in found.items()} == {
        child.shard_id: child.numbers[0] for child in stream.open_shards
    }


def test_changes_from_before_a_position_begins_are_passed_over_page_by_page() -> None:
    clock = VirtualClock()
    stream = stream_of(clock, records_a_page=10, rounded_to_seconds=1)
    fill(stream, clock)
    (shard,) = stream.open_shards
    since = shard.written_at[150]

    change = oldest_unread(stream, clock, Position(shard.shard_id, None, since=since))

    assert isinstance(change, ChangeRecord)
    assert change.created_at == since


def test_what_was_trimmed_after_a_position_is_lost() -> None:
    clock = VirtualClock()
    stream = stream_of(clock)
    fill(stream, clock)
    (shard,) = stream.open_shards
    position = read_to(shard, 10)
    clock.sleep(timedelta(hours=25).total_seconds())

    with pytest.raises(ShardLost, match="may have left the stream before they were read") as lost:
        unread(stream, clock, {shard.shard_id: position})

    assert lost.value.position is not None
    assert lost.value.position.shard_id == shard.shard_id


def test_a_checkpoint_that_is_a_gap_stays_one() -> None:
    clock = VirtualClock()
    stream = stream_of(clock)
    (shard,) = stream.open_shards

    with pytest.raises(ShardLost):
        unread(stream, clock, {shard.shard_id: Position(shard.shard_id, None, state=ShardState.GAP)})


def test_a_shard_that_vanished_unread_is_lost_and_without_checkpoints_nothing_was_promised() -> None:
    clock = VirtualClock()
    stream = stream_of(clock)
    fill(stream, clock)
    (parent,) = stream.open_shards
    position = read_to(parent, 10)
    stream.split(parent)
    stream.vanish(parent.shard_id)

    with pytest.raises(ShardLost):
        unread(stream, clock, {parent.shard_id: position})
    assert set(unread(stream, clock, {})) == set(stream.shard_ids)


def test_a_shard_that_is_listed_late_is_asked_all_the_same() -> None:
    clock = VirtualClock()
    stream = stream_of(clock)
    fill(stream, clock)
    (shard,) = stream.open_shards
    shard.listed_from = clock.monotonic() + 5

    found = unread(stream, clock, {shard.shard_id: read_to(shard, 3)})

    change = found[shard.shard_id]
    assert change is not None
    assert int(change.sequence_number) == shard.numbers[3]


def test_asking_does_not_move_whoever_reads_the_shard() -> None:
    clock = VirtualClock()
    stream = stream_of(clock, records_a_page=10)
    fill(stream, clock)
    (shard,) = stream.open_shards
    reader = ShardReader(stream, stream.arn, Position(shard.shard_id, None), clock.now)
    reader.read()

    oldest_unread(stream, clock, reader.position)

    assert [int(change.sequence_number) for change in reader.read().page.changes] == shard.numbers[10:20]


def newest(stream: SimulatedStream) -> SequenceNumber:
    return SequenceNumber(written(max(number for shard in stream.open_shards for number in shard.numbers)))


def waiting(stream: SimulatedStream, clock: VirtualClock, handled: SequenceNumber | None) -> list[int]:
    """The sequence numbers of the changes that the function has not handled, as far as they are found."""
    listed = shards.describe(stream, stream.arn)
    return [
        int(change.sequence_number)
        for change in unhandled(asking(stream, clock), listed, handled).first.values()
        if change
    ]


def test_after_the_newest_change_that_the_function_handled_nothing_waits_in_any_shard() -> None:
    clock = VirtualClock()
    stream = stream_of(clock, shards=8)
    fill(stream, clock)

    assert waiting(stream, clock, newest(stream)) == []
    assert sum(records for _, records, _ in stream.served) == 0, "what was handled is not read again"


def test_one_change_that_waits_is_enough_and_costs_one_record_of_each_shard() -> None:
    clock = VirtualClock()
    stream = stream_of(clock, shards=8)
    fill(stream, clock)
    handled = newest(stream)
    fill(stream, clock, price=2)

    found = waiting(stream, clock, handled)

    assert found
    assert min(found) > handled
    assert stream.calls["GetRecords"] == 8
    assert max(records for _, records, _ in stream.served) == 1


def test_closed_shards_that_were_handled_to_their_end_are_not_asked() -> None:
    clock = VirtualClock()
    stream = stream_of(clock)
    fill(stream, clock)
    (parent,) = stream.open_shards
    stream.split(parent)
    fill(stream, clock, price=2)

    assert waiting(stream, clock, newest(stream)) == []
    assert parent.shard_id not in {shard_id for shard_id, _, _ in stream.served}


def test_without_anything_handled_every_change_counts() -> None:
    clock = VirtualClock()
    stream = stream_of(clock)

    assert waiting(stream, clock, None) == []
    fill(stream, clock)
    assert waiting(stream, clock, None) == [stream.open_shards[0].numbers[0]]


def test_a_shard_that_refuses_the_number_of_another_one_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = VirtualClock()
    stream = stream_of(clock, shards=2)
    fill(stream, clock)
    handled = newest(stream)
    fill(stream, clock, price=2)
    own, other = sorted(stream.open_shards, key=lambda shard: int(handled) in shard.numbers, reverse=True)
    get = stream.get_shard_iterator

    def strict(**parameters: Any) -> Any:
        if parameters["ShardId"] == other.shard_id:
            raise refusal("ValidationException", "GetShardIterator")
        return get(**parameters)

    monkeypatch.setattr(stream, "get_shard_iterator", strict)

    assert waiting(stream, clock, handled) == [own.numbers[own.numbers.index(int(handled)) + 1]]


def test_what_comes_after_a_trimmed_change_waits() -> None:
    clock = VirtualClock()
    stream = stream_of(clock)
    stream.strict = True
    fill(stream, clock)
    handled = newest(stream)
    clock.sleep(25 * 3600)
    stream.trim_what_is_old()
    stream.put(1, Product("Lamp", Decimal(3)))

    assert waiting(stream, clock, handled) == [stream.open_shards[0].numbers[-1]]
