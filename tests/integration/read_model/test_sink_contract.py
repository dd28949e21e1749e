"""What the projector is promised by its sink: held by the real one, and by the simulator's, which it stands in for."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Protocol

import pytest

from cqrsctl.change import Position, ShardState
from cqrsctl.errors import StreamGap, TransientDatabaseError
from cqrsctl.projection.batch import Applied, Batch, DeadLetter
from tests.integration.read_model.test_sink import ARN, NEWER_ARN, batch, change
from tests.simulation.database import DatabaseSink
from tests.simulation.stream import Product
from tests.simulation.world import Crashes, MemorySink, WorldSink

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cqrsctl.wiring import Wiring


class Stream(Protocol):
    """Which stream feeds the sink; a test may change it."""

    arn: str


class _Stream:
    arn = ARN


@pytest.fixture
def stream() -> Stream:
    return _Stream()


@pytest.fixture(params=["memory", "database"])
def sink(request: pytest.FixtureRequest, stream: Stream) -> Iterator[WorldSink]:
    """Each kind of sink, open."""
    rng = random.Random(1)
    if request.param == "memory":
        memory = MemorySink(rng, lambda: stream.arn)
        memory.open()
        yield memory
        return
    wiring: Wiring = request.getfixturevalue("wiring")
    database = DatabaseSink(wiring.database, rng, lambda: stream.arn, lambda: 0.0)
    database.open()
    yield database
    database.shut()


def lamp(name: str = "Lamp") -> Product:
    return Product(name, Decimal("1.5"))


def test_a_new_read_model_has_no_checkpoints_and_no_rows(sink: WorldSink) -> None:
    assert sink.open() == {"product": {}}
    assert (sink.products, sink.letters) == ({}, [])
    assert not sink.knows(ARN)


def test_rows_and_positions_are_there_after_an_apply(sink: WorldSink) -> None:
    assert sink.apply(batch(change(1, 1), change(2, 2))) == Applied(2, 0)
    assert sink.products == {1: lamp(), 2: lamp()}
    assert sink.open()["product"]["shard-1"].sequence_number == 2
    assert sink.knows(ARN)


@pytest.mark.parametrize("sequence", [4, 5])
def test_an_older_or_equal_version_changes_nothing(sink: WorldSink, sequence: int) -> None:
    sink.apply(batch(change(5, 1, "newer")))
    assert sink.apply(batch(change(sequence, 1, "older"))) == Applied(0, 1)
    assert sink.products == {1: lamp("newer")}


def test_a_deleted_row_stays_deleted_against_an_older_insert(sink: WorldSink) -> None:
    sink.apply(batch(change(5, 1, None)))
    assert sink.apply(batch(change(4, 1))) == Applied(0, 1)
    assert sink.products == {}
    assert sink.apply(batch(change(6, 1, "again"))) == Applied(1, 0)
    assert sink.products == {1: lamp("again")}


def test_a_position_comes_back_whole(sink: WorldSink) -> None:
    position = Position(
        "shard-2",
        "shard-1",
        10**39 + 7,
        ShardState.FINISHED,
        datetime(2026, 11, 23, 12, 0, 1, 500, tzinfo=UTC),
        datetime(2026, 11, 23, 11, tzinfo=UTC),
        datetime(2026, 11, 23, 12, tzinfo=UTC),
    )
    sink.apply(Batch({"product": ()}, [position], 0))
    assert sink.open() == {"product": {"shard-2": position}}


def test_a_marked_gap_is_durable(sink: WorldSink) -> None:
    sink.apply(batch(change(1, 1)))
    position = sink.open()["product"]["shard-1"]
    sink.mark_gap(position, ())
    assert sink.open() == {"product": {"shard-1": replace(position, state=ShardState.GAP)}}


def test_another_stream_than_the_one_it_was_fed_by_is_a_gap(sink: WorldSink, stream: Stream) -> None:
    sink.apply(batch(change(1, 1)))
    stream.arn = NEWER_ARN
    with pytest.raises(StreamGap):
        sink.open()


def test_a_snapshot_loses_against_any_streamed_change(sink: WorldSink) -> None:
    sink.remake({1: lamp("from the snapshot"), 2: lamp()})
    sink.open()
    sink.apply(batch(change(1, 1, "streamed")))
    assert sink.products == {1: lamp("streamed"), 2: lamp()}


def test_a_snapshot_of_another_table_is_a_gap(sink: WorldSink, stream: Stream) -> None:
    sink.remake({1: lamp()})
    stream.arn = NEWER_ARN
    with pytest.raises(StreamGap):
        sink.open()


def test_letters_are_kept_once_with_the_positions_that_pass_them(sink: WorldSink) -> None:
    bad = change(2, 2)
    letter = DeadLetter("product", "shard-1", bad, "planted")
    with_letter = replace(batch(change(1, 1)), letters=[letter], positions=[Position("shard-1", None, 2)])
    for _ in range(2):
        sink.apply(with_letter)
    assert sink.letters == [(ARN, 2)]
    assert sink.open()["product"]["shard-1"].sequence_number == 2


def test_a_transaction_that_fails_before_its_commit_leaves_nothing(sink: WorldSink) -> None:
    sink.apply(batch(change(1, 1)))
    sink.crashes = Crashes(before_commit=1.0)
    with pytest.raises(TransientDatabaseError):
        sink.apply(replace(batch(change(2, 2)), letters=[DeadLetter("product", "shard-1", change(3, 3), "planted")]))
    sink.crashes = Crashes()
    assert sink.open()["product"]["shard-1"].sequence_number == 1
    assert (sink.products, sink.letters) == ({1: lamp()}, [])


def test_a_transaction_whose_outcome_is_unknown_was_done_whole_if_the_checkpoint_says_so(sink: WorldSink) -> None:
    sink.crashes = Crashes(after_commit=1.0)
    with pytest.raises(TransientDatabaseError):
        sink.apply(batch(change(1, 1)))
    sink.crashes = Crashes()
    assert sink.open()["product"]["shard-1"].sequence_number == 1
    assert sink.products == {1: lamp()}
