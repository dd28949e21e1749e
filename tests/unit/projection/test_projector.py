"""The projector's loop: what it waits out, and what it does not."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from cqrsctl.change import ChangeRecord, Event, Followers, Page, Position
from cqrsctl.errors import (
    BAD_CREDENTIALS,
    LOGIN_REFUSED,
    AwsError,
    Busy,
    ConfigurationError,
    CqrsctlError,
    DatabaseError,
    TransactionConflict,
    TransientAwsError,
    TransientDatabaseError,
)
from cqrsctl.projection.batch import Applied, Batch
from cqrsctl.projection.definition import default_product
from cqrsctl.projection.projector import Projector
from cqrsctl.projection.tables import PhysicalTable, Tables

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

ARN = "arn:aws:dynamodb:us-east-1:123456789012:table/Products/stream/2026-11-23T10:00:00.000"
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


@dataclass
class Clock:
    """A clock that moves when it is slept on."""

    time: datetime = NOW

    def now(self) -> datetime:
        return self.time

    def monotonic(self) -> float:
        return self.time.timestamp()

    def sleep(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)


@dataclass
class Source:
    """One page, then nothing."""

    pages: list[Page]
    caught_up: bool = True
    shards_under_way: int = 1

    def take(self) -> list[Page]:
        return [self.pages.pop()] if self.pages else []


@dataclass
class Sink:
    """A sink that fails as it is told to: `opens` and `applies` hold what each call in turn raises, or None."""

    opens: list[CqrsctlError | None] = field(default_factory=list)
    applies: list[CqrsctlError | None] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    reached: int | None = None
    """Where the checkpoint of the shard stands from the second opening on."""

    def open(self) -> Followers:
        self.calls.append("open")
        self._fail(self.opens)
        if self.reached is None or self.calls.count("open") == 1:
            return {"product": {}}
        return {"product": {"s": Position("s", None, self.reached)}}

    def tables(self) -> Tables:
        return Tables((PhysicalTable(default_product(), 1),))

    def apply(self, batch: Batch) -> Applied:
        self.calls.append("apply")
        self._fail(self.applies)
        return Applied(sum(map(len, batch.rows.values())), 0)

    def beat(self) -> None:
        self.calls.append("beat")

    def mark_gap(self, position: Position, followers: Collection[str]) -> None:
        self.calls.append(f"gap {position.shard_id}")

    def close(self) -> None:
        self.calls.append("close")

    def _fail(self, planned: list[CqrsctlError | None]) -> None:
        if planned and (error := planned.pop(0)) is not None:
            raise error


def run(sink: Sink, stopped: Callable[[], bool] = lambda: False) -> tuple[Projector, list[str]]:
    change = ChangeRecord(
        ARN,
        1,
        Event.INSERT,
        {"ProductId": Decimal(1)},
        None,
        {"ProductId": Decimal(1), "Name": "Lamp", "Price": Decimal(1)},
        NOW,
    )
    notices: list[str] = []
    projector = Projector(
        sink,
        lambda followers: Source([] if followers["product"] else [Page((change,), Position("s", None, 1))]),
        Clock(),
        lambda _: None,
        notices.append,
    )
    projector.run(once=True, stopped=stopped)
    return projector, notices


def test_a_hiccup_while_applying_is_waited_out_from_the_checkpoints_on() -> None:
    sink = Sink(applies=[TransientDatabaseError("gone"), TransientDatabaseError("gone"), None])

    projector, notices = run(sink)

    assert sink.calls == ["open", "apply", "close"] * 2 + ["open", "apply", "beat", "close"]
    assert projector.summary.changes == 1
    assert notices == ["gone Trying again."]


def test_the_lag_is_unknown_before_the_first_page_and_after_a_hiccup() -> None:
    stopped_at_once, _ = run(Sink(), stopped=lambda: True)
    caught_up, _ = run(Sink())
    away = Sink(applies=[TransientDatabaseError("gone")] * 2)
    stopped_while_away, _ = run(away, stopped=lambda: away.calls.count("apply") == 2)

    assert stopped_at_once.summary.lag_seconds is None
    assert caught_up.summary.lag_seconds == 0.0
    assert stopped_while_away.summary.lag_seconds is None


def test_a_lock_that_the_server_still_holds_for_a_cut_connection_is_waited_for() -> None:
    sink = Sink(opens=[None, Busy("held"), Busy("held")], applies=[TransientDatabaseError("cut")])

    projector, notices = run(sink)

    assert projector.summary.changes == 1
    assert notices == ["cut Trying again.", "held Trying again."]


def test_a_conflict_is_tried_again_on_the_same_connection() -> None:
    sink = Sink(applies=[TransactionConflict("deadlock")] * 3)

    projector, notices = run(sink)

    assert sink.calls == ["open", *["apply"] * 4, "beat", "close"]
    assert (projector.summary.changes, notices) == (1, [])


def test_after_five_conflicts_in_a_row_the_connection_is_given_up() -> None:
    sink = Sink(applies=[TransactionConflict("deadlock")] * 5)

    projector, _ = run(sink)

    assert sink.calls == ["open", *["apply"] * 5, "close", "open", "apply", "beat", "close"]
    assert projector.summary.changes == 1


@pytest.mark.parametrize(("reached", "applies"), [(1, 1), (None, 2)])
def test_a_commit_of_unknown_outcome_is_counted_once_whatever_became_of_it(reached: int | None, applies: int) -> None:
    sink = Sink(applies=[TransientDatabaseError("cut while it committed")], reached=reached)

    projector, _ = run(sink)

    assert sink.calls.count("apply") == applies
    assert (projector.summary.changes, projector.summary.rows) == (1, 1)


def test_a_password_that_aws_does_not_give_for_a_moment_is_waited_for() -> None:
    sink = Sink(opens=[None, TransientAwsError("throttled")], applies=[TransientDatabaseError("cut")])

    projector, _ = run(sink)

    assert projector.summary.changes == 1


@pytest.mark.parametrize(
    "error",
    [
        DatabaseError("Access denied", code=LOGIN_REFUSED),
        AwsError("rds DescribeDBClusters: access denied", code="access_denied"),
        ConfigurationError("the token expired", code=BAD_CREDENTIALS),
    ],
)
def test_a_refusal_after_a_first_success_is_waited_out_and_named(error: CqrsctlError) -> None:
    """Passwords rotate, logins with tokens are throttled, roles and policies change while a projector runs."""
    sink = Sink(opens=[None, error, error], applies=[TransientDatabaseError("cut")])

    projector, notices = run(sink)

    assert projector.summary.changes == 1
    assert notices == ["cut Trying again.", f"{error} Trying again."]
    with pytest.raises(type(error)):
        run(Sink(opens=[error]))


def test_another_error_of_the_database_is_not_waited_out() -> None:
    sink = Sink(opens=[None, DatabaseError("no such column")], applies=[TransientDatabaseError("cut")])
    with pytest.raises(DatabaseError, match="no such column"):
        run(sink)


@pytest.mark.parametrize("error", [Busy("held"), TransientDatabaseError("down"), TransientAwsError("throttled")])
def test_at_the_start_nothing_is_waited_for(error: CqrsctlError) -> None:
    with pytest.raises(type(error)):
        run(Sink(opens=[error]))


def test_a_database_that_stays_away_is_given_up_on() -> None:
    with pytest.raises(TransientDatabaseError):
        run(Sink(opens=[None], applies=[TransientDatabaseError("gone")] * 10_000))


def test_that_the_database_is_away_is_noted_at_growing_intervals_with_what_would_help() -> None:
    notices: list[str] = []
    clock = Clock()
    sink = Sink(opens=[None], applies=[TransientDatabaseError("gone.", hint="Start it.")] * 10_000)
    change = Page((), Position("s", None))
    times: list[datetime] = []

    def noted(text: str) -> None:
        notices.append(text)
        times.append(clock.now())

    with pytest.raises(TransientDatabaseError):
        Projector(sink, lambda _: Source([change]), clock, lambda _: None, noted).run(once=True, stopped=lambda: False)

    pauses = [(later - earlier).total_seconds() for earlier, later in pairwise(times)]
    assert set(notices) == {"gone. Trying again. Start it."}
    assert 4 <= len(pauses) <= 6
    assert all(pause >= 5 * 2**number for number, pause in enumerate(pauses))


def test_stopping_while_the_database_is_away_ends_with_a_summary() -> None:
    sink = Sink(applies=[TransientDatabaseError("gone")] * 10_000)

    projector, _ = run(sink, stopped=lambda: len(sink.calls) > 5)

    assert projector.summary.changes == 0
    assert sink.calls[-1] == "close"


@dataclass
class IdleSink(Sink):
    """A sink with nothing to apply. Each look takes a minute; after the `last` ones the connection is gone."""

    clock: Clock = field(default_factory=Clock)
    last: set[int] = field(default_factory=set)
    looks: int = 0

    def beat(self) -> None:
        self.looks += 1
        self.clock.sleep(60)
        if self.looks in self.last:
            raise TransientDatabaseError("gone")


def idled(sink: IdleSink, looks: int) -> list[str]:
    """The notices of a projector that follows without a change to apply, until this look."""
    notices: list[str] = []
    projector = Projector(sink, lambda _: Source([]), sink.clock, lambda _: None, notices.append)
    projector.run(once=False, stopped=lambda: sink.looks >= looks)
    return notices


@pytest.mark.parametrize("last", [{4}, {10}, {10, 200, 201, 600}])
def test_an_idle_projector_waits_out_a_hiccup_however_long_it_followed_before(last: set[int]) -> None:
    sink = IdleSink(last=last)

    assert idled(sink, 700) == ["gone Trying again."] * len(last)
    assert sink.calls.count("open") == len(last) + 1


def test_the_patience_of_an_idle_projector_begins_with_the_hiccup() -> None:
    sink = IdleSink(last={10}, opens=[None, *[TransientDatabaseError("down")] * 10_000])

    with pytest.raises(TransientDatabaseError, match="down"):
        idled(sink, 700)
    assert timedelta(minutes=5) <= sink.clock.time - NOW - timedelta(minutes=10) < timedelta(minutes=6)
