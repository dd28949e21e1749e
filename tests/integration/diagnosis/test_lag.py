"""How far the read model is behind: at the projector, at each reader, and where the Lambda function projects."""

from __future__ import annotations

import json
import signal
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from cqrsctl.change import Position
from cqrsctl.diagnosis import lag as lags
from cqrsctl.diagnosis.facts import Facts
from cqrsctl.diagnosis.lag import Lag, LagSource, ShardLag
from cqrsctl.diagnosis.looks import Looks
from cqrsctl.diagnosis.servers import ReaderLag
from cqrsctl.errors import StreamGap, TooSlow, TransientDatabaseError
from cqrsctl.functions import metrics
from cqrsctl.functions.mapping import Mapping
from cqrsctl.functions.parts import PROJECTOR
from cqrsctl.local.ports import free_port
from cqrsctl.read_model import function_position, heartbeat
from cqrsctl.read_model.connection import connect
from cqrsctl.read_model.endpoints import Servers, Topology
from cqrsctl.read_model.function_position import Reason
from cqrsctl.read_model.sink import prepare
from cqrsctl.stream import shards
from cqrsctl.stream.shard_reader import ShardReader
from cqrsctl.write_model.table import describe
from tests.pipelines import PRODUCT, Clock, beat, execute, make_table, projected, put, with_readers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cqrsctl.wiring import Wiring
    from tests.conftest import Cqrsctl

LIMIT = timedelta(seconds=1)


@pytest.fixture
def table(wiring: Wiring) -> str:
    make_table(wiring)
    return wiring.environment.table


def checked(wiring: Wiring, clock: Clock, limit: timedelta = LIMIT) -> str | None:
    """What the check says; None where it passes."""
    _, too_slow = lags.check(lambda: lags.measure(wiring, clock), limit, clock)
    return too_slow.message if too_slow else None


@pytest.mark.usefixtures("table")
def test_without_a_read_model_what_is_in_the_stream_is_unread(wiring: Wiring) -> None:
    assert lags.measure(wiring, Clock()).lag_seconds == 0
    put(wiring)

    found = lags.measure(wiring, Clock(3600))

    assert found.lag_seconds == pytest.approx(3600, abs=10)
    assert found.hours_left == 23.0
    (shard,) = found.shards
    assert (shard.state, shard.lag_seconds, shard.hours_left) == ("open", found.lag_seconds, 23.0)


@pytest.mark.usefixtures("table")
def test_with_the_projector_stopped_the_lag_grows_and_after_it_has_caught_up_it_is_0(wiring: Wiring) -> None:
    put(wiring)
    projected(wiring)
    assert lags.measure(wiring, Clock(500)) == Lag(0.0, shards=(ShardLag(idle(wiring), "open", 0.0, None),))
    put(wiring, seed=2)

    behind = checked(wiring, Clock(60))
    projected(wiring)

    assert behind is not None
    assert behind.startswith("The projector is behind: the oldest change that is not applied is 1 min")
    assert checked(wiring, Clock(60)) is None


def idle(wiring: Wiring) -> str:
    """The only shard's id."""
    with connect(wiring.database) as connection:
        (row,) = connection.query("SELECT shard FROM cqrs_checkpoint")
    shard: str = row["shard"]
    return shard


@pytest.mark.usefixtures("table")
def test_a_gap_is_no_lag(wiring: Wiring) -> None:
    put(wiring)
    projected(wiring)
    execute(wiring, "UPDATE cqrs_checkpoint SET state = 'gap'")

    with pytest.raises(StreamGap):
        lags.measure(wiring, Clock())


def looked(*seconds: float) -> tuple[Callable[[], Lag], Iterator[float]]:
    """Looks at a lag that is so much each time."""
    rest = iter(seconds)
    return lambda: Lag(next(rest)), rest


def test_a_lag_that_rounding_could_explain_is_looked_at_again_until_it_is_certain() -> None:
    applied, rest = looked(1.5, 0.0, 99.0)
    assert lags.check(applied, LIMIT, Clock())[1] is None
    assert list(rest) == [99.0]

    stuck, rest = looked(1.5, 1.75, 2.0, 2.25, 99.0)
    found, too_slow = lags.check(stuck, LIMIT, Clock())
    assert (found.lag_seconds, list(rest)) == (2.25, [99.0])
    assert too_slow is not None
    assert too_slow.exit_code == 8


def test_a_lag_that_stays_in_doubt_is_not_over_the_limit() -> None:
    clock = Clock()

    assert lags.check(lambda: Lag(1.9), LIMIT, clock)[1] is None
    assert clock.ahead_seconds == 2.0


def test_a_readers_heartbeat_between_two_beats_is_waited_for() -> None:
    def at(*ages: float) -> tuple[TooSlow | None, float]:
        rest = iter(ages)
        clock = Clock()
        last = ages[-1]
        _, too_slow = lags.check(lambda: Lag(0.0, readers=(ReaderLag("r1", next(rest, last)),)), LIMIT, clock)
        return too_slow, clock.ahead_seconds

    assert at(3.0, 3.25, 0.1) == (None, 0.5)
    still, waited = at(3.0)
    assert still is not None
    assert 5 < waited < 6
    stopped, waited = at(60.0)
    assert stopped is not None
    assert waited == 0


def test_a_lag_that_is_not_known_is_over_any_limit_and_says_why() -> None:
    _, too_slow = lags.check(lambda: Lag(None, reason="nobody knows"), timedelta(days=1), Clock())

    assert too_slow is not None
    assert "How far the projector is behind is unknown: nobody knows." in too_slow.message


@pytest.mark.usefixtures("table")
def test_a_reader_that_stopped_is_behind_alone(wiring: Wiring) -> None:
    with_readers(wiring, good=0, stopped=None)

    good, stopped = lags.measure(wiring, Clock()).readers

    assert (good.reader, stopped.reader) == ("good", "stopped")
    assert good.lag_seconds is not None
    assert good.lag_seconds < 1
    assert stopped.lag_seconds == pytest.approx(60, abs=10)
    behind = checked(wiring, Clock())
    assert behind is not None
    assert behind.startswith("Reader stopped is behind: by up to 1 min")
    assert "good" not in behind
    assert "projector" not in behind


@pytest.mark.usefixtures("table")
def test_a_reader_that_does_not_answer_leaves_the_others(wiring: Wiring) -> None:
    with_readers(wiring, good=0, gone=free_port())

    good, gone = lags.measure(wiring, Clock()).readers

    assert good.lag_seconds is not None
    assert gone.lag_seconds is None
    assert "does not answer" in (gone.reason or "")


@pytest.mark.usefixtures("table")
def test_readers_without_a_heartbeat_are_behind_an_unknown_time(wiring: Wiring) -> None:
    endpoint = wiring.database
    wiring.servers = Servers(lambda: Topology(endpoint, (replace(endpoint, name="r1"),)))
    assert lags.measure(wiring, Clock()).readers == (ReaderLag("r1", None, "there is no read model yet"),)
    prepare(endpoint, [PRODUCT])
    assert lags.measure(wiring, Clock()).readers == (ReaderLag("r1", None, "nobody wrote a heartbeat yet"),)


@pytest.fixture
def by_function(wiring: Wiring, table: str) -> Callable[..., Lag]:
    """A pipeline whose changes the Lambda function applies: it wrote the heartbeat, and no checkpoints.

    What looks at its lag, given the iterator age, and since when the mapping has been enabled.
    """
    put(wiring)
    prepare(wiring.database, [PRODUCT])
    beat(wiring.database, 0, f"{heartbeat.FUNCTION} x")
    arn = describe(wiring.dynamodb, table).stream_arn or ""

    def look(age: float | None = None, since: datetime | None = None, clock: Clock | None = None) -> Lag:
        facts = Facts(wiring, clock or Clock(), known={"iterator_age_seconds": age})
        mapping = Mapping("uuid", PROJECTOR, arn, "TRIM_HORIZON", "Enabled", "", "OK", {}, since)
        facts.mapping = lambda: mapping  # type: ignore[method-assign]  # the embedded stack runs no functions
        return lags.judged(facts)

    return look


def test_where_the_function_projects_its_iterator_age_is_the_lag(by_function: Callable[..., Lag]) -> None:
    found = by_function(42.5)

    assert (found.lag_seconds, found.iterator_age_seconds, found.source) == (42.5, 42.5, LagSource.ITERATOR_AGE)
    assert [shard.lag_seconds for shard in found.shards] == [None]
    assert lags.check(lambda: found, timedelta(seconds=42), Clock())[1] is not None
    assert lags.check(lambda: found, timedelta(seconds=43), Clock())[1] is None


def test_where_the_function_projects_and_nothing_tells_its_age_the_lag_is_not_known(
    by_function: Callable[..., Lag],
) -> None:
    found = by_function()

    assert found.lag_seconds is None
    assert "the Lambda function projects" in (found.reason or "")
    _, too_slow = lags.check(lambda: found, LIMIT, Clock())
    assert too_slow is not None
    assert "is unknown" in too_slow.message


def handled_all(wiring: Wiring, table: str) -> None:
    """Let the function have handled what the stream has now."""
    arn = describe(wiring.dynamodb, table).stream_arn or ""
    (shard,) = shards.describe(wiring.streams, arn).shards.values()
    read = ShardReader(wiring.streams, arn, Position(shard.shard_id, None), Clock().now, shard).read()
    with connect(wiring.database) as connection:
        function_position.write(connection, read.page.changes)
        connection.commit()


def test_of_a_quiet_table_that_lambda_reads_nothing_waits(
    wiring: Wiring, table: str, by_function: Callable[..., Lag]
) -> None:
    handled_all(wiring, table)

    found = by_function(since=Clock().now())

    assert (found.lag_seconds, found.source, found.reason) == (0.0, LagSource.FUNCTION, None)
    assert [shard.lag_seconds for shard in found.shards] == [0.0]
    assert lags.check(lambda: found, timedelta(0), Clock())[1] is None


def test_of_a_quiet_table_nothing_is_known_if_lambda_does_not_read_it(
    wiring: Wiring, table: str, by_function: Callable[..., Lag]
) -> None:
    handled_all(wiring, table)

    found = by_function()

    assert found.lag_seconds is None
    assert "nothing shows that Lambda reads the stream" in (found.reason or "")


def test_a_change_after_the_newest_that_the_function_handled_waits(
    wiring: Wiring, table: str, by_function: Callable[..., Lag]
) -> None:
    handled_all(wiring, table)
    put(wiring, 1, seed=2)

    found = by_function(since=Clock().now(), clock=Clock(ahead_seconds=60))

    assert found.source is LagSource.FUNCTION
    assert 59 <= (found.lag_seconds or 0) <= 75
    _, too_slow = lags.check(lambda: found, timedelta(seconds=30), Clock())
    assert too_slow is not None
    assert too_slow.message.startswith("The Lambda function is behind: the oldest change that is not applied is")


def test_checkpoints_of_another_stream_do_not_matter_where_the_function_projects(
    wiring: Wiring, by_function: Callable[..., Lag]
) -> None:
    execute(
        wiring,
        "INSERT INTO cqrs_checkpoint (projection, stream, shard, state, updated_at)"
        " VALUES ('product', 'arn:aws:dynamodb:x:1:table/T/stream/2020-01-01T00:00:00.000', 's', 'open', NOW(6))",
    )

    assert by_function().lag_seconds is None


class CloudWatch:
    """Answers with points, newest first as CloudWatch does, and remembers the question."""

    def __init__(self, *points: tuple[int, float]) -> None:
        self.points = points
        self.asked: dict[str, Any] = {}

    def get_metric_data(self, **asked: Any) -> Any:
        self.asked = asked
        return {
            "MetricDataResults": [
                {
                    "Id": "iterator_age_ms",
                    "Timestamps": [datetime(2026, 1, 1, 12, minute, tzinfo=UTC) for minute, _ in self.points],
                    "Values": [value for _, value in self.points],
                }
            ]
        }


def test_the_iterator_age_is_that_of_the_newest_minute() -> None:
    now = datetime(2026, 1, 1, 12, 10, tzinfo=UTC)
    cloudwatch = CloudWatch((9, 1_500.0), (8, 99_000.0))

    assert metrics.iterator_age_seconds(cloudwatch, PROJECTOR, now) == 1.5
    assert cloudwatch.asked["StartTime"] == now - timedelta(minutes=15)
    assert metrics.iterator_age_seconds(CloudWatch(), PROJECTOR, now) is None


def test_a_view_goes_on_while_the_database_is_away(wiring: Wiring, table: str) -> None:
    assert table
    away = replace(wiring.database, port=free_port())
    wiring.servers = Servers(lambda: Topology(away))

    found = lags.measure_on(Looks(wiring, Clock()))

    assert found.lag_seconds is None
    assert "the database does not answer" in (found.reason or "")
    with pytest.raises(TransientDatabaseError):
        lags.measure(wiring, Clock())


@pytest.mark.usefixtures("table")
def test_the_command_exits_8_with_changes_waiting_and_0_after_they_are_applied(
    cqrsctl: Cqrsctl, wiring: Wiring
) -> None:
    put(wiring)
    behind = cqrsctl("lag", "--max", "0s", "-o", "json")
    projected(wiring)
    level = cqrsctl("lag", "--max", "1s", "-o", "json")

    assert behind.code == 8
    assert behind.json()["lag_seconds"] > 0
    assert behind.json()["hours_left"] == 24.0
    assert '"code": "too_slow"' in behind.err
    assert (level.code, level.json()["lag_seconds"], level.err) == (0, 0.0, "")


def test_a_view_needs_a_terminal_or_lines_of_json(cqrsctl: Cqrsctl) -> None:
    refused = cqrsctl("lag", "--watch")

    assert (refused.code, refused.out) == (2, "")
    assert "-o jsonl" in refused.err
    assert cqrsctl("lag", "--watch", "--max", "1s", "-o", "jsonl").code == 2


@pytest.mark.usefixtures("table")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_a_view_in_lines_of_json_goes_on_until_it_is_stopped(
    cqrsctl: Cqrsctl, number: signal.Signals, code: int
) -> None:
    watching = cqrsctl.start("lag", "--watch", "-o", "jsonl")
    assert watching.stdout is not None
    lines = [json.loads(watching.stdout.readline()) for _ in range(2)]
    watching.send_signal(number)
    watching.communicate(timeout=60)

    assert [line["lag_seconds"] for line in lines] == [0.0, 0.0]
    assert watching.returncode == code


def test_a_gap_of_the_function_is_no_lag(wiring: Wiring, by_function: Callable[..., Lag]) -> None:
    arn = describe(wiring.dynamodb, wiring.environment.table).stream_arn or ""
    with connect(wiring.database) as connection:
        function_position.mark(connection, arn, Reason.PAUSED, ["product"])
        connection.commit()

    with pytest.raises(StreamGap, match="paused until changes left the stream"):
        by_function()


@pytest.mark.parametrize("reads", [True, False])
def test_a_function_that_stood_still_is_a_gap_unless_it_had_nothing_to_read(
    wiring: Wiring, by_function: Callable[..., Lag], reads: bool
) -> None:
    beat(wiring.database, 30 * 3_600, f"{heartbeat.FUNCTION} x")
    since = datetime.now(UTC) - timedelta(days=3) if reads else None

    if reads:
        assert by_function(since=since).source is LagSource.ITERATOR_AGE
    else:
        with pytest.raises(StreamGap, match="nothing was projected"):
            by_function(since=since)
